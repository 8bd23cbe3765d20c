package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/files"
)

// CNIDirs are where container runtimes look for network configurations: by
// convention, and in distributions that have a runtime of their own and come
// with flannel, or can.
func CNIDirs() []string {
	return []string{
		"/etc/cni/net.d",
		"/var/lib/rancher/k3s/agent/etc/cni/net.d",    // k3s
		"/var/snap/microk8s/current/args/cni-network", // MicroK8s, without high availability
	}
}

// Limits for a directory: hosts have one file, or a few.
const (
	maxCNIFiles = 64
	maxCNIFile  = 256 << 10
)

// cniConfig is the part of a network configuration, or of a list of plugins, that
// says which bridge is used.
type cniConfig struct {
	Name    string
	Type    string
	Bridge  string
	IPAM    cniIPAM
	Plugins []cniConfig

	Delegate *cniConfig // of flannel, which writes the rest itself

	NerdctlID string // of nerdctl's networks, whose containers are no pods
}

// cniIPAM is the part that the plugin "host-local" reads.
type cniIPAM struct {
	Type    string
	Subnet  string
	Ranges  [][]struct{ Subnet string }
	DataDir string
}

// cniPlugin is what configures one plugin of a network.
type cniPlugin struct {
	cniConfig
	network string // its name
	place   string // the file
	nerdctl bool   // it is one of nerdctl's
	index   int    // where it stands in a list of plugins; -1: it is the whole file
}

// cni tells which networks hang pods on a bridge.
func (l *Linux) cni(ctx context.Context) guard.CNI {
	plugins, err := l.cniPlugins(ctx)
	c := guard.CNI{Err: err}
	for _, p := range plugins {
		if bridge := p.podBridge(); bridge != "" && !p.nerdctl {
			c.Networks = append(c.Networks, guard.Network{Name: p.network, Place: p.place, Bridge: bridge, Subnets: p.IPAM.subnets()})
		}
	}
	return c
}

// cniPlugins reads the configured plugins, in the order of directories and file names.
// The error says what could not be read or understood; the list has the rest.
func (l *Linux) cniPlugins(ctx context.Context) ([]cniPlugin, error) {
	var list []cniPlugin
	var unread error
	for _, dir := range CNIDirs() {
		step.Begin(ctx, "reading "+dir)
		paths, err := l.cniFiles(dir)
		unread = errors.Join(unread, err)
		for _, path := range paths {
			step.Begin(ctx, "reading "+path)
			text, err := files.Read(l.path(path), maxCNIFile)
			if err != nil {
				unread = errors.Join(unread, fmt.Errorf("read %s: %w", path, bare(err)))
				continue
			}
			var conf cniConfig
			if err := json.Unmarshal(text, &conf); err != nil {
				unread = errors.Join(unread, fmt.Errorf("read %s: %w", path, err))
				continue
			}
			for i, plugin := range slices.Concat([]cniConfig{conf}, conf.Plugins) {
				list = append(list, cniPlugin{plugin, conf.Name, path, conf.NerdctlID != "", i - 1})
			}
		}
	}
	return list, unread
}

func (l *Linux) path(path string) string { return filepath.Join(l.dir, path) }

// cniFiles lists the configurations in a directory, which need not exist.
func (l *Linux) cniFiles(dir string) (paths []string, unread error) {
	entries, err := os.ReadDir(l.path(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".conf" && ext != ".conflist" && ext != ".json" {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if len(paths) == maxCNIFiles {
			return paths, errors.Join(unread, fmt.Errorf("%s has more than %d files: %s and those after it are not read", dir, maxCNIFiles, e.Name()))
		}
		paths = append(paths, path)
	}
	return paths, unread
}

// podBridge is the name of the bridge that a plugin attaches pods to, or "".
// flannel delegates to another plugin, which is "bridge" unless its delegate
// says otherwise (README of flannel-io/cni-plugin).
func (p *cniConfig) podBridge() string {
	kind, name := p.Type, p.Bridge
	if p.Type == "flannel" {
		d := cmp.Or(p.Delegate, &cniConfig{})
		kind, name = cmp.Or(d.Type, "bridge"), d.Bridge
	}
	if kind != "bridge" {
		return ""
	}
	return cmp.Or(name, "cni0")
}

// subnets are the subnets of the addresses of pods and of the bridge. Text that is no
// subnet, such as "usePodCidr", is no evidence.
func (i *cniIPAM) subnets() []netip.Prefix {
	if i.Type != "host-local" {
		return nil
	}
	texts := []string{i.Subnet}
	for _, set := range i.Ranges {
		for _, r := range set {
			texts = append(texts, r.Subnet)
		}
	}
	var subnets []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			subnets = append(subnets, p)
		}
	}
	return subnets
}

// Allocator says who hands out the addresses of the pods on a bridge, as far as
// that is configured or told by the bridge's name, and "" where nobody is known
// to. With an error there can be one that is not known.
func (l *Linux) Allocator(ctx context.Context, bridge string) (who string, err error) {
	plugins, err := l.cniPlugins(ctx)
	for _, p := range plugins {
		if ipam := p.allocates(bridge); ipam != "" {
			return ipam + ", by " + p.place, nil
		}
	}
	return allocatorByName(bridge), err
}

// allocates is the plugin that manages the addresses on a bridge, if p is its
// configuration, or "".
func (p *cniConfig) allocates(bridge string) string {
	switch {
	case p.Type == "flannel":
		if p.podBridge() == bridge {
			return "host-local of flannel"
		}
	case p.podBridge() == bridge, p.Bridge == bridge: // of whatever plugin
		if p.IPAM.Type != "static" {
			return p.IPAM.Type
		}
	}
	return ""
}

// allocatorByName knows the bridges of those that keep no CNI configuration.
func allocatorByName(bridge string) string {
	for pattern, who := range map[string]string{
		"docker0":                              "Docker",
		"br-" + strings.Repeat("[0-9a-f]", 12): "Docker", // of a network of its own
		"podman*":                              "Podman",
		"cni-podman*":                          "Podman",
		"weave":                                "Weave Net",
		"cbr0":                                 "the kubelet",
		"virbr*":                               "libvirt",
		"lxdbr*":                               "LXD",
		"incusbr*":                             "Incus",
		"nerdctl[0-9]*":                        "nerdctl",
	} {
		if ok, err := filepath.Match(pattern, bridge); ok && err == nil {
			return who
		}
	}
	return ""
}
