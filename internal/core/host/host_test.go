package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/source/sourcetest"
	"github.com/nfguard/nfguard/test/lab"
)

// machine is a host whose procfs, sysfs and files are a tree of ordinary files, for
// situations that the real kernel does not offer: no module, no modprobe, or one that
// hangs.
type machine struct {
	*host.Linux
	t    *testing.T
	root string
	p    guard.Policy
}

func newMachine(t *testing.T, o host.Options) *machine {
	t.Helper()
	root := t.TempDir()
	o.Proc, o.Sys = filepath.Join(root, "proc"), filepath.Join(root, "sys")
	m := &machine{Linux: host.NewAt(root, o), t: t, root: root, p: guard.Policy{
		Module:      "br_netfilter",
		Sysctls:     []guard.Setting{{Key: guard.IPTables, Value: "1"}},
		ModulesLoad: "/etc/modules-load.d/nfguard.conf", SysctlD: "/etc/sysctl.d/99-zz-nfguard.conf",
	}}
	t.Cleanup(m.Close)
	m.write("lib/modules/6.1.0-test/modules.dep", "kernel/net/bridge/bridge.ko: kernel/net/llc/llc.ko\nkernel/net/bridge/br_netfilter.ko.xz: kernel/net/bridge/bridge.ko\n")
	for _, module := range []string{"net/bridge/bridge.ko", "net/bridge/br_netfilter.ko.xz", "net/llc/llc.ko"} {
		m.write("lib/modules/6.1.0-test/kernel/"+module, "")
	}
	m.write("proc/sys/kernel/osrelease", "6.1.0-test\n")
	m.write("proc/sys/net/ipv6/x", "")
	return m
}

func (m *machine) write(path, text string) string {
	m.t.Helper()
	full := filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o755); err != nil {
		m.t.Fatal(err)
	}
	return full
}

const key = "proc/sys/net/bridge/bridge-nf-call-iptables"

func (m *machine) value() guard.Value {
	v, _ := m.Value(guard.IPTables)
	return v
}

func TestSysctl(t *testing.T) {
	m := newMachine(t, host.Options{})
	if v := m.value(); v.State != guard.Absent {
		t.Errorf("before there is a key: %+v", v)
	}
	m.write(key, "0\n")
	before := sourcetest.Descriptors(t)
	if diff := cmp.Diff(guard.Value{State: guard.Present, Have: "0"}, m.value()); diff != "" {
		t.Errorf("value (-want +got):\n%s", diff)
	}
	set := guard.Action{Op: guard.SetSysctl, Subject: string(guard.IPTables), Value: "1"}
	if err := m.Do(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	if v := m.value(); v.Have != "1" {
		t.Errorf("after set: %+v", v)
	}
	guarded := &guard.Policy{Sysctls: []guard.Setting{{Key: guard.IPTables, Value: "1"}}}
	if n := m.Refresh(guarded); n != 0 {
		t.Errorf("%d descriptors were stale", n)
	}
	// Another file under the same name: the inode that memory pressure leaves.
	os.Remove(filepath.Join(m.root, key))
	m.write(key, "0\n")
	if n := m.Refresh(guarded); n != 1 {
		t.Errorf("%d descriptors were stale, want 1", n)
	}
	if v := m.value(); v.Have != "0" {
		t.Errorf("after it was reopened: %+v", v)
	}
	m.Refresh(new(guard.Policy))
	if open := sourcetest.Descriptors(t); open != before {
		t.Errorf("%d descriptors are open, %d were before: the key is not guarded any more", open, before)
	}
}

func TestSysctlErrors(t *testing.T) {
	m := newMachine(t, host.Options{})
	set := guard.Action{Op: guard.SetSysctl, Subject: string(guard.IPTables), Value: "1"}
	want := "set net.bridge.bridge-nf-call-iptables: write " + filepath.Join(m.root, key) + ": no such file or directory"
	if err := m.Do(t.Context(), set); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	os.MkdirAll(filepath.Join(m.root, key), 0o755) // a directory: open for writing says EISDIR
	if v := m.value(); v.State != guard.Unknown || v.Err == nil {
		t.Errorf("an unreadable key is %+v, want unknown", v)
	}
	if err := m.Do(t.Context(), guard.Action{}); err == nil {
		t.Error("an action without an operation was done")
	}
}

func TestReadOnlyProcfs(t *testing.T) {
	lab.Need(t, lab.Root)
	// The test runs itself again in a mount namespace in which /proc/sys is
	// read-only.
	if os.Getenv("NFGUARD_TEST_READONLY") == "" {
		cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c",
			"mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec \"$0\" -test.run '^TestReadOnlyProcfs$'", os.Args[0])
		cmd.Env = append(os.Environ(), "NFGUARD_TEST_READONLY=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	l := host.New(host.Options{})
	defer l.Close()
	if v, _ := l.Value("kernel.pid_max"); v.State != guard.Present {
		t.Fatalf("it can still be read, but: %+v", v)
	}
	err := l.Do(t.Context(), guard.Action{Op: guard.SetSysctl, Subject: "kernel.pid_max", Value: "1"})
	if want := "set kernel.pid_max: open /proc/sys/kernel/pid_max: read-only file system"; !errors.Is(err, syscall.EROFS) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestLoad(t *testing.T) {
	tests := []struct {
		name   string
		script string // of modprobe; "": there is none
		force  bool
		setup  func(m *machine)
		err    string // "" for none
		next   string
		args   string // what modprobe was called with
	}{
		{name: "loads", script: `mkdir -p "$ROOT/proc/sys/net/bridge"; echo 1 >"$ROOT/` + key + `"`, args: "-b br_netfilter"},
		{name: "loads, against modprobe.d", force: true, script: `mkdir -p "$ROOT/proc/sys/net/bridge"; echo 1 >"$ROOT/` + key + `"`, args: "-i br_netfilter"},
		{
			name: "exits 1, and yet it is there", args: "-b br_netfilter",
			script: `mkdir -p "$ROOT/proc/sys/net/bridge"; echo 1 >"$ROOT/` + key + `"; exit 1`,
		},
		{
			name: "succeeds without effect", script: "exit 0", args: "-b br_netfilter",
			err:  "load br_netfilter: modprobe succeeded, and yet the sysctls of br_netfilter did not appear",
			next: "run modprobe -v br_netfilter by hand; in a container, the host has to load it",
		},
		{
			name: "fails", script: "echo 'modprobe: ERROR: could not insert' >&2; echo 'Exec format error' >&2; exit 1", args: "-b br_netfilter",
			err:  "load br_netfilter: modprobe: exit status 1: modprobe: ERROR: could not insert Exec format error",
			next: "run modprobe -v br_netfilter by hand, and look at dmesg",
		},
		{
			name: "the module file is not there", args: "-b br_netfilter",
			setup: func(m *machine) {
				m.write("etc/os-release", "ID=debian\n")
				os.Remove(filepath.Join(m.root, "lib/modules/6.1.0-test/kernel/net/bridge/br_netfilter.ko.xz"))
			},
			script: "echo 'modprobe: FATAL: Module br_netfilter not found in directory /lib/modules/6.1.0-test' >&2; exit 1",
			err:    "load br_netfilter: modprobe: FATAL: Module br_netfilter not found in directory /lib/modules/6.1.0-test",
			next:   "install the package that owns this kernel, or its modules package",
		},
		{
			name: "the running kernel's modules were removed", args: "-b br_netfilter",
			setup: func(m *machine) {
				os.Rename(filepath.Join(m.root, "lib/modules/6.1.0-test"), filepath.Join(m.root, "lib/modules/6.1.0-newer"))
			},
			script: "echo 'modprobe: FATAL: Module br_netfilter not found in directory /lib/modules/6.1.0-test' >&2; exit 1",
			err:    "load br_netfilter: modprobe: FATAL: Module br_netfilter not found in directory /lib/modules/6.1.0-test",
			next:   "reboot into kernel 6.1.0-newer, which has it",
		},
		{
			name: "busy with unloading, at first", args: "-b br_netfilter",
			script: `[ -e "$ROOT/tried" ] || { touch "$ROOT/tried"; echo "modprobe: ERROR: could not insert 'br_netfilter': Device or resource busy" >&2; exit 1; }
mkdir -p "$ROOT/proc/sys/net/bridge"; echo 1 >"$ROOT/` + key + `"`,
		},
		{
			name: "not permitted", script: `echo "modprobe: ERROR: could not insert 'br_netfilter': Operation not permitted" >&2; exit 1`, args: "-b br_netfilter",
			err:  "load br_netfilter: modprobe: ERROR: could not insert 'br_netfilter': Operation not permitted",
			next: "the kernel refused: in a container the host has to load it; elsewhere see dmesg for lockdown or a missing signature",
		},
		{
			name: "hangs", script: "echo $$ >\"$ROOT/pid\"; sleep 1000 & wait", args: "-b br_netfilter",
			err:  "load br_netfilter: modprobe did not end within 2s and was killed",
			next: "look at dmesg, and run modprobe br_netfilter by hand",
		},
		{
			name: "no modprobe",
			err:  "load br_netfilter: there is no modprobe on this host",
			next: "install kmod: apt-get install kmod, dnf install kmod",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			program := filepath.Join(root, "modprobe")
			if tt.script != "" {
				script := fmt.Sprintf("#!/bin/sh\nROOT=$(cat %s/root)\necho \"$*\" >%s/args\n%s\n", root, root, tt.script)
				if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			patience := time.Minute // on a loaded machine a script takes a while to start
			if tt.name == "hangs" {
				patience = 2 * time.Second
			}
			m := newMachine(t, host.Options{Modprobe: program, LoadTimeout: patience})
			os.WriteFile(filepath.Join(root, "root"), []byte(m.root), 0o644)
			if tt.setup != nil {
				tt.setup(m)
			}
			err := m.Do(t.Context(), guard.Action{Op: guard.LoadModule, Subject: "br_netfilter", Force: tt.force})
			if got := fmt.Sprint(err); tt.err != "" && got != tt.err || tt.err == "" && err != nil {
				t.Errorf("got  %s\nwant %s", got, tt.err)
			}
			var known interface{ Next() string }
			if tt.next != "" && (!errors.As(err, &known) || known.Next() != tt.next) {
				t.Errorf("next step of %v, want %q", err, tt.next)
			}
			args, _ := os.ReadFile(filepath.Join(root, "args"))
			if got := strings.TrimSpace(string(args)); got != tt.args {
				t.Errorf("modprobe %s, want %s", got, tt.args)
			}
			if pid, err := os.ReadFile(filepath.Join(m.root, "pid")); err == nil {
				if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); err == nil {
					t.Error("a modprobe is left behind")
				}
			}
		})
	}
}

func TestLoadIsCancelled(t *testing.T) {
	program := filepath.Join(t.TempDir(), "modprobe")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nsleep 1000 & wait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, host.Options{Modprobe: program})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	err := m.Do(ctx, guard.Action{Op: guard.LoadModule, Subject: "br_netfilter"})
	if !errors.Is(err, context.Canceled) || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestObstacles(t *testing.T) {
	tests := []struct {
		name     string
		files    map[string]string
		override bool
		want     string // reason; "" for none
	}{
		{name: "nothing in the way"},
		{
			name:  "modules are switched off",
			files: map[string]string{"proc/sys/kernel/modules_disabled": "1\n"},
			want:  "loading modules is switched off until the next boot (kernel.modules_disabled = 1)",
		},
		{
			name:  "blacklisted",
			files: map[string]string{"etc/modprobe.d/cis.conf": "# hardening\n\nblacklist br-netfilter\n"},
			want:  "/etc/modprobe.d/cis.conf:3 forbids it: blacklist br-netfilter",
		},
		{
			name:  "installed as false",
			files: map[string]string{"usr/lib/modprobe.d/x.conf": "install br_netfilter /bin/false\n"},
			want:  "/usr/lib/modprobe.d/x.conf:1 forbids it: install br_netfilter /bin/false",
		},
		{
			name:  "an install line that loads it is none",
			files: map[string]string{"etc/modprobe.d/x.conf": "install br_netfilter /sbin/modprobe --ignore-install br_netfilter\n"},
		},
		{
			name: "a masked file forbids nothing",
			files: map[string]string{
				"usr/lib/modprobe.d/x.conf": "blacklist br_netfilter\n",
				"etc/modprobe.d/x.conf":     "",
			},
		},
		{
			name:  "the kernel's command line",
			files: map[string]string{"proc/cmdline": "root=/dev/vda module_blacklist=foo,br_netfilter quiet\n"},
			want:  "the kernel's command line forbids it: module_blacklist=foo,br_netfilter",
		},
		{
			name:     "overridden",
			files:    map[string]string{"etc/modprobe.d/cis.conf": "blacklist br_netfilter\n"},
			override: true,
		},
		{
			name:  "the module is not in the index",
			files: map[string]string{"lib/modules/6.1.0-test/modules.dep": "kernel/net/bridge/bridge.ko:\n"},
			want:  "/lib/modules/6.1.0-test/kernel/net/bridge/br_netfilter.ko.xz is there, but not in modules.dep",
		},
		{
			name:  "modules of another kernel only",
			files: map[string]string{"proc/sys/kernel/osrelease": "6.2.0-other\n"},
			want:  "/lib/modules/6.2.0-other is gone, probably by a kernel upgrade",
		},
		{
			name: "built in",
			files: map[string]string{
				"lib/modules/6.1.0-test/modules.dep":     "",
				"lib/modules/6.1.0-test/modules.builtin": "kernel/net/bridge/br_netfilter.ko\n",
			},
			want: "the kernel has it built in, and yet /proc/sys/net/bridge is not there: something hides it",
		},
		{
			name: "built in, in a container",
			files: map[string]string{
				"lib/modules/6.1.0-test/modules.dep":     "",
				"lib/modules/6.1.0-test/modules.builtin": "kernel/net/bridge/br_netfilter.ko\n",
				"run/.containerenv":                      "",
			},
			want: "this is a container (/run/.containerenv), and its /proc/sys does not show the sysctls of br_netfilter, which the kernel has built in",
		},
		{
			name:  "a container without modules",
			files: map[string]string{"proc/sys/kernel/osrelease": "6.2.0-other\n", "run/.containerenv": ""},
			want:  "this is a container (/run/.containerenv), and modules are the host's",
		},
		{
			name:  "not a .conf",
			files: map[string]string{"etc/modprobe.d/cis.conf.bak": "blacklist br_netfilter\n"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, host.Options{})
			for path, text := range tt.files {
				m.write(path, text)
			}
			m.p.Override = tt.override
			o := m.Survey(t.Context(), &m.p, guard.LookAll)
			got := ""
			if b := o.Module.Obstacle; b != nil {
				got = b.Reason
				if b.Next == "" {
					t.Error("no next step")
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || o.Module.State != guard.Absent {
				t.Errorf("obstacle (-want +got):\n%s\nmodule: %+v", diff, o.Module)
			}
		})
	}
}

func TestModuleUnknownWithoutProcfs(t *testing.T) {
	l := host.New(host.Options{Proc: t.TempDir()})
	o := l.Survey(t.Context(), &guard.Policy{Module: "br_netfilter"}, guard.LookAll)
	if o.Module.State != guard.Unknown || o.Module.Err == nil {
		t.Errorf("without procfs the module is %+v, want unknown", o.Module)
	}
}

func TestIPv6Off(t *testing.T) {
	m := newMachine(t, host.Options{})
	off := func() bool { return m.Survey(t.Context(), &m.p, guard.LookAll).IPv6Off }
	if off() {
		t.Error("off without the module loaded")
	}
	m.write(key, "1\n")
	if off() {
		t.Error("off although net/ipv6 is there")
	}
	os.RemoveAll(filepath.Join(m.root, "proc/sys/net/ipv6"))
	if !off() {
		t.Error("on although net/ipv6 is not there")
	}
	m.write("sys/module/ipv6/parameters/disable", "0\n")
	if off() {
		t.Error("off although the module says it is on")
	}
	m.write("sys/module/ipv6/parameters/disable", "1\n")
	if !off() {
		t.Error("on although the module says it is off")
	}
}
