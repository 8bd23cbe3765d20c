package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/files"
)

// CNIPrograms are where the programs of CNI plugins are: by convention, and in
// distributions and clusters that have a place of their own.
func CNIPrograms() []string {
	return []string{
		"/opt/cni/bin",
		"/usr/lib/cni",                          // Debian
		"/usr/libexec/cni",                      // Fedora
		"/var/lib/rancher/k3s/data/cni",         // k3s since 1.32
		"/var/lib/rancher/k3s/data/current/bin", // k3s
		"/var/snap/microk8s/current/opt/cni/bin",
		"/snap/microk8s/current/opt/cni/bin",
	}
}

// ipamConfig is what the IPAM plugin of p is to read: the configuration of p, as
// a container runtime hands it over, and the plugin's name.
func (l *Linux) ipamConfig(p *cniPlugin, subnets []netip.Prefix) (config json.RawMessage, kind string, err error) {
	path := l.path(p.place)
	f, err := files.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", p.place, bare(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	if why, _ := files.Host().Distrusted(path, info); why != "" {
		return nil, "", fmt.Errorf("%s %s", p.place, why)
	}
	text, err := files.Limited(f, maxCNIFile)
	if err != nil {
		return nil, "", err
	}
	var whole map[string]json.RawMessage
	var list struct{ Plugins []json.RawMessage }
	if err := errors.Join(json.Unmarshal(text, &whole), json.Unmarshal(text, &list)); err != nil {
		return nil, "", fmt.Errorf("read %s: %w", p.place, err)
	}
	own := whole
	switch {
	case p.Type == "flannel":
		// What flannel hands on is made of the subnet that it was given, which is the
		// bridge's (getDelegateIPAM in flannel_linux.go of flannel-io/cni-plugin).
		var ranges [][]map[string]string
		for _, s := range subnets {
			ranges = append(ranges, []map[string]string{{"subnet": s.Masked().String()}})
		}
		ipam := map[string]any{"type": "host-local", "ranges": ranges}
		if p.Delegate != nil && p.Delegate.IPAM.DataDir != "" {
			ipam["dataDir"] = p.Delegate.IPAM.DataDir
		}
		text, err := json.Marshal(ipam)
		if err != nil {
			return nil, "", err
		}
		own = map[string]json.RawMessage{"type": json.RawMessage(`"bridge"`), "ipam": text}
		kind = "host-local"
	case p.index < 0:
		kind = p.IPAM.Type
	case p.index < len(list.Plugins):
		own, kind = nil, p.IPAM.Type
		if err := json.Unmarshal(list.Plugins[p.index], &own); err != nil {
			return nil, "", err
		}
	default:
		return nil, "", fmt.Errorf("%s has changed meanwhile", p.place)
	}
	for _, key := range []string{"cniVersion", "name"} {
		if v, ok := whole[key]; ok {
			own[key] = v
		}
	}
	config, err = json.Marshal(own)
	return config, kind, err
}

// ipamProgram finds the program of an IPAM plugin, in the first of dirs that has it.
func (l *Linux) ipamProgram(kind string, dirs []string) (string, error) {
	if kind == "" || kind == "." || kind == ".." || strings.ContainsRune(kind, '/') {
		return "", &NoLease{fmt.Sprintf("%q is no name of a plugin", kind)}
	}
	if dirs == nil {
		dirs = CNIPrograms()
	}
	for _, dir := range dirs {
		path := l.path(filepath.Join(dir, kind))
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", &NoLease{err.Error()}
		}
		if why, _ := files.Host().Distrusted(path, info); why != "" {
			return "", &NoLease{path + " " + why}
		}
		return path, nil
	}
	return "", &NoLease{"its program, " + kind + ", is not in " + strings.Join(dirs, ", ")}
}

// ipamPatience bounds one run of a plugin: host-local takes 10 ms, and what asks
// an API server some more.
const ipamPatience = 10 * time.Second

// run has the plugin do ADD or DEL, and returns what it said.
func (r *leaseRecord) run(ctx context.Context, command string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ipamPatience)
	defer cancel()
	space := r.Space
	if command == "DEL" { // which may come when it has gone
		space = ""
	}
	cmd := exec.CommandContext(ctx, r.Program)
	cmd.Env = append([]string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + r.Container, "CNI_IFNAME=eth0",
		"CNI_NETNS=" + space, "CNI_PATH=" + filepath.Dir(r.Program),
	}, environment...)
	// In a group of its own a ^C at the terminal, which is for us, does not end it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.Stdin = bytes.NewReader(r.Config)
	said, complaint := &limited{limit: maxLease}, &output{}
	cmd.Stdout, cmd.Stderr = said, complaint
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		return nil, fmt.Errorf("%s %s did not end within %v", r.Program, command, ipamPatience)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err == nil:
		return said.b, nil
	}
	var told struct{ Msg, Details string } // as CNI has it
	if json.Unmarshal(said.b, &told) == nil && told.Msg != "" {
		return nil, fmt.Errorf("%s %s: %s", r.Program, command, strings.TrimSuffix(told.Msg+": "+told.Details, ": "))
	}
	if text := complaint.String(); text != "" {
		return nil, fmt.Errorf("%s %s: %w: %s", r.Program, command, err, text)
	}
	return nil, fmt.Errorf("%s %s: %w", r.Program, command, err)
}

// limited keeps the beginning of what is written to it.
type limited struct {
	limit int
	b     []byte
}

func (l *limited) Write(p []byte) (int, error) {
	if room := l.limit - len(l.b); room > 0 {
		l.b = append(l.b, p[:min(room, len(p))]...)
	}
	return len(p), nil
}
