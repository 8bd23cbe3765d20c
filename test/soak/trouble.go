package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/demo/box"
)

// trouble is a kind of misbehaviour, with the longest pause after it.
type trouble struct {
	name string
	most time.Duration
	make func(context.Context, *worker, *rand.Rand)
}

const (
	bridged = "/proc/sys/net/bridge/bridge-nf-call-"
	sysctlD = "/run/sysctl.d/99-zz-nfguard.conf"
	modules = "/run/modules-load.d/nfguard.conf"
	extra   = "/run/conf.d/soak.toml"
	journal = "/run/systemd/journal/socket"
)

var troubles = []trouble{
	{"storms of writes", 2 * time.Second, storm},
	{"single writes", 300 * time.Millisecond, write},
	{"configurations", 3 * time.Second, reconfigure},
	{"drop-ins", time.Second, dropins},
	{"bridges", 200 * time.Millisecond, bridges},
	{"programs called kube-proxy", time.Second, proxies},
	{"rules", time.Second, rules},
	{"commands", 2 * time.Second, commands},
	{"journals", 5 * time.Second, journals},
	{"full disks", 20 * time.Second, fill},
	{"stopped daemons", 10 * time.Second, halt},
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// storm writes in a tight loop.
func storm(ctx context.Context, w *worker, r *rand.Rand) {
	path := bridged + pick(r, "iptables", "ip6tables", "arptables")
	text := pick(r, "0", "0\n", "0x0", " 0", "1", "5", "", "x", strings.Repeat("0", 4096))
	until := time.Now().Add(time.Duration(r.IntN(3000)) * time.Millisecond)
	fd := -1
	w.do(func() (err error) {
		fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if fd < 0 {
		return
	}
	defer unix.Close(fd)
	for time.Now().Before(until) && ctx.Err() == nil {
		for range 100 {
			_, _ = unix.Pwrite(fd, []byte(text), 0) // refused in mode lock
		}
	}
}

// write makes a short-lived process write once.
func write(ctx context.Context, w *worker, r *rand.Rand) {
	w.run(ctx, "sh", "-c", `printf "$1" > "$2"`, "sh", pick(r, "0", "0\n", "2", "0x0\n", "garbage"), bridged+pick(r, "iptables", "ip6tables", "arptables"))
}

// reconfigure replaces the configuration by another one, which can be wrong.
func reconfigure(ctx context.Context, w *worker, r *rand.Rand) {
	var text string
	switch r.IntN(4) {
	case 0:
		text = pick(r, "mode = ", "mode = \"none\"\n", "\x00", "[sysctl]\n\"../x\" = 1\n", strings.Repeat("[a]\n", 2000), "mode = 5\n")
	default:
		text = fmt.Sprintf("mode = %q\n", pick(r, "enforce", "enforce", "observe", "lock"))
		if r.IntN(3) == 0 {
			text += "scope = \"bridges\"\n[bridges]\nmatch = [\"so*\"]\n"
		}
		text += fmt.Sprintf("[contention]\npolicy = %q\nlimit = %d\n", pick(r, "hold", "yield"), 2+r.IntN(20))
		if r.IntN(3) == 0 {
			text += "[metrics]\ntextfile = \"/run/metrics.prom\"\n"
		}
	}
	w.do(func() error { return replace(extra, text) })
	if r.IntN(2) == 0 {
		_ = syscall.Kill(w.pid, syscall.SIGHUP)
	}
}

func replace(path, text string) error {
	if err := os.WriteFile(path+"~", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+"~", path)
}

// dropins damages our files.
func dropins(ctx context.Context, w *worker, r *rand.Rand) {
	path := pick(r, sysctlD, modules)
	w.do(func() error {
		switch r.IntN(8) {
		case 0:
			return os.Remove(path)
		case 1:
			return replace(path, "")
		case 2:
			return replace(path, "net.bridge.bridge-nf-call-iptables = 0\n")
		case 3: // to nothing of the host's: nobody is to write there, should nfguard
			return errors.Join(os.RemoveAll(path), os.Symlink(pick(r, "/run/decoy", path, "/run/nowhere"), path))
		case 4:
			return errors.Join(os.RemoveAll(path), syscall.Mkfifo(path, 0o644))
		case 5:
			return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o755))
		case 6:
			return os.RemoveAll(filepath.Dir(path))
		default:
			return os.RemoveAll(path)
		}
	})
}

// bridges creates bridges and ports, clears their flags, and removes them.
func bridges(ctx context.Context, w *worker, r *rand.Rand) {
	name := pick(r, "so0", "so1", "so2", "so%d", "so$(id)", "so\x1b[2J", "so;x", "cni0")
	switch r.IntN(5) {
	case 0, 1:
		w.run(ctx, "ip", "link", "add", name, "up", "type", "bridge")
	case 2:
		w.run(ctx, "ip", "link", "set", name, "type", "bridge", "nf_call_iptables", "0", "nf_call_ip6tables", "0")
	case 3:
		port := fmt.Sprint("p", r.IntN(20))
		w.run(ctx, "ip", "link", "add", port, "master", name, "type", "veth")
	case 4:
		w.run(ctx, "ip", "link", "del", name)
	}
}

// proxies starts a program that is called kube-proxy, as root or as nobody.
func proxies(ctx context.Context, w *worker, r *rand.Rand) {
	const path = "/run/kube-proxy"
	w.do(func() error {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		sleeper, err := exec.LookPath("sleep")
		if err != nil {
			return err
		}
		text, err := os.ReadFile(sleeper)
		if err != nil {
			return err
		}
		return os.WriteFile(path, text, 0o755)
	})
	words := []string{path, fmt.Sprint(float64(r.IntN(3000)) / 1000)}
	if r.IntN(2) == 0 {
		words = append([]string{"setpriv", "--reuid=65534", "--clear-groups"}, words...)
	}
	w.run(ctx, words[0], words[1:]...)
}

// rules writes and removes rules that look like kube-proxy's.
func rules(ctx context.Context, w *worker, r *rand.Rand) {
	w.run(ctx, "nft", pick(r,
		"add table ip kube-proxy; add chain ip kube-proxy services; add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }",
		"flush table ip kube-proxy",
		"delete table ip kube-proxy",
		"add table ip nat; add chain ip nat KUBE-SERVICES; add chain ip nat KUBE-POSTROUTING",
		"delete table ip nat",
	))
}

// commands runs the commands that people run. Each must end by itself, with one of its
// exit codes.
func commands(ctx context.Context, w *worker, r *rand.Rand) {
	words := pick(r, []string{"status"}, []string{"check"}, []string{"check", "--json"}, []string{"apply", "--dry-run"}, []string{"metrics"}, []string{"config", "check"}, []string{"status", "--json"})
	out, err := w.in.Run(ctx, "", w.nfguard, append(words, "--config", box.Config)...)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
	case err == nil:
	case !errors.As(err, &exit) || !exit.Exited() || exit.ExitCode() > 4:
		w.wrong("nfguard %s: %v\n%s", strings.Join(words, " "), err, out)
	}
	if ctx.Err() == nil && (strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:")) {
		w.wrong("nfguard %s:\n%s", strings.Join(words, " "), out)
	}
}

// journals makes the journal read, not read, or disappear.
func journals(ctx context.Context, w *worker, r *rand.Rand) {
	var conn *net.UnixConn
	w.do(func() (err error) {
		if err := os.MkdirAll(filepath.Dir(journal), 0o755); err != nil {
			return err
		}
		_ = os.Remove(journal)
		conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: journal, Net: "unixgram"})
		return err
	})
	if conn == nil {
		return
	}
	defer conn.Close()
	reads := r.IntN(2) == 0
	until := time.Now().Add(time.Duration(r.IntN(5000)) * time.Millisecond)
	_ = conn.SetReadDeadline(until)
	buf := make([]byte, 64<<10)
	for time.Now().Before(until) && ctx.Err() == nil {
		if !reads {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		_, _, _ = conn.ReadFromUnix(buf)
	}
	w.do(func() error { return os.Remove(journal) })
}

// fill fills /run for a while.
func fill(ctx context.Context, w *worker, r *rand.Rand) {
	const path = "/run/full"
	w.do(func() error {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		block := make([]byte, 1<<20)
		for err == nil {
			_, err = f.Write(block)
		}
		return nil
	})
	pause(ctx, time.Duration(r.IntN(5000))*time.Millisecond)
	w.do(func() error { return os.Remove(path) })
}

// halt stops the daemon for a moment, like a busy or paused machine.
func halt(ctx context.Context, w *worker, r *rand.Rand) {
	if syscall.Kill(w.pid, syscall.SIGSTOP) != nil {
		return
	}
	pause(ctx, time.Duration(r.IntN(3000))*time.Millisecond)
	_ = syscall.Kill(w.pid, syscall.SIGCONT)
}

// do runs f in the worker; it does not matter if that fails.
func (w *worker) do(f func() error) { _ = w.in.Do(f) }

// run runs a program in the worker; it does not matter if that fails.
func (w *worker) run(ctx context.Context, name string, args ...string) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, _ = w.in.Run(ctx, "", name, args...)
}
