package host

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nfguard/nfguard/internal/guard"
)

// CNIDir is where container runtimes look for network configurations.
const CNIDir = "/etc/cni/net.d"

// What is read of the configuration: hosts have one file, or a few.
const (
	maxCNIFiles = 64
	maxCNIFile  = 256 << 10
)

// cniConfig is the part of a network configuration, or of a list of plugins,
// that tells a bridge.
type cniConfig struct {
	Name    string
	Type    string
	Bridge  string
	IPAM    cniIPAM
	Plugins []cniConfig

	Delegate *cniConfig // of flannel, which writes the rest itself
}

// cniIPAM is the part that the plugin "host-local" reads.
type cniIPAM struct {
	Type   string
	Subnet string
	Ranges [][]struct{ Subnet string }
}

// cni reads which networks of the plugin "bridge" are configured. The files
// are read in order of their names; of one that cannot be read or understood
// the error says so.
func (l *Linux) cni() guard.CNI {
	var c guard.CNI
	entries, err := os.ReadDir(l.path(CNIDir))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.Err = err
		}
		return c
	}
	n := 0
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".conf" && ext != ".conflist" && ext != ".json" {
			continue
		}
		path := filepath.Join(CNIDir, e.Name())
		if n++; n > maxCNIFiles {
			c.Err = errors.Join(c.Err, fmt.Errorf("%s has more than %d files: %s and those after it are not read", CNIDir, maxCNIFiles, e.Name()))
			break
		}
		if !e.Type().IsRegular() && e.Type() != fs.ModeSymlink { // a fifo would never end
			c.Err = errors.Join(c.Err, fmt.Errorf("%s is no regular file", path))
			continue
		}
		networks, err := l.networks(path)
		if err != nil {
			c.Err = errors.Join(c.Err, err)
		}
		c.Networks = append(c.Networks, networks...)
	}
	return c
}

func (l *Linux) networks(path string) ([]guard.Network, error) {
	text, err := readLimited(l.path(path), maxCNIFile)
	if err != nil {
		return nil, err
	}
	var conf cniConfig
	if err := json.Unmarshal(text, &conf); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var networks []guard.Network
	for _, plugin := range slices.Concat([]cniConfig{conf}, conf.Plugins) {
		if bridge := plugin.podBridge(); bridge != "" {
			networks = append(networks, guard.Network{
				Name: conf.Name, Place: path, Bridge: bridge, Subnets: plugin.IPAM.subnets(),
			})
		}
	}
	return networks, nil
}

// podBridge is the name of the bridge that a plugin hangs pods on, or "".
// flannel hands over to another plugin, which is "bridge" unless its delegate
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

// subnets are those that the addresses of pods, and of the bridge, are of. A
// subnet that is none, as "usePodCidr", is no evidence.
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
func (l *Linux) Allocator(bridge string) (who string, err error) {
	entries, err := os.ReadDir(l.path(CNIDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var unread error
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".conf" && ext != ".conflist" && ext != ".json" {
			continue
		}
		path := filepath.Join(CNIDir, e.Name())
		var conf cniConfig
		text, err := readLimited(l.path(path), maxCNIFile)
		if err == nil {
			err = json.Unmarshal(text, &conf)
		}
		if err != nil {
			unread = errors.Join(unread, fmt.Errorf("read %s: %w", path, err))
			continue
		}
		for _, plugin := range slices.Concat([]cniConfig{conf}, conf.Plugins) {
			if ipam := plugin.allocates(bridge); ipam != "" {
				return ipam + ", by " + path, nil
			}
		}
	}
	return allocatorByName(bridge), unread
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
