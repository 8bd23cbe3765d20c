package host_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/test/lab"
)

// TestObstaclesEnd walks the next steps of what keeps the module from being
// loaded: each is carried out as it says, and there is no obstacle any more.
func TestObstaclesEnd(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		set   func(m *machine)
		next  string
		step  func(m *machine)
	}{
		{
			name: "forbidden: the line is removed", files: map[string]string{"etc/modprobe.d/x.conf": "blacklist br_netfilter\n"},
			next: "remove that line, or set override_blacklist = true under [module]",
			step: func(m *machine) { m.write("etc/modprobe.d/x.conf", "") },
		},
		{
			name: "forbidden: overridden", files: map[string]string{"etc/modprobe.d/x.conf": "install br_netfilter /bin/true\n"},
			next: "remove that line, or set override_blacklist = true under [module]",
			step: func(m *machine) { m.p.Override = true },
		},
		{
			name: "switched off: our drop-in loads it at the next boot", files: map[string]string{"proc/sys/kernel/modules_disabled": "1\n"},
			next: "reboot: /etc/modules-load.d/nfguard.conf loads it before that switch is set",
			step: func(m *machine) {
				m.write(m.p.ModulesLoad, m.p.ModulesLoadText())
				m.reboot()
			},
		},
		{
			name: "switched off, and no drop-ins are kept", files: map[string]string{"proc/sys/kernel/modules_disabled": "1\n"},
			set:  func(m *machine) { m.p.ModulesLoad = "" },
			next: "write its name to a file in /etc/modules-load.d, and reboot: it is loaded before that switch is set",
			step: func(m *machine) {
				m.write("etc/modules-load.d/own.conf", "br_netfilter\n")
				m.reboot()
			},
		},
		{
			name: "removed: a reboot", files: map[string]string{"proc/sys/kernel/osrelease": "6.0.0-old\n"},
			next: "reboot into kernel 6.1.0-test, which has it",
			step: func(m *machine) { m.write("proc/sys/kernel/osrelease", "6.1.0-test\n") },
		},
		{
			name: "a container: the host loads it", files: map[string]string{"proc/sys/kernel/osrelease": "6.0.0-old\n", "run/.containerenv": ""},
			next: "load it on the host: modprobe br_netfilter",
			step: func(m *machine) { m.write(key, "1\n") },
		},
		{
			name: "hidden: on the host", files: map[string]string{"lib/modules/6.1.0-test/modules.builtin": "kernel/net/bridge/br_netfilter.ko\n", "run/.containerenv": ""},
			next: "set them on the host: run nfguard there",
			step: func(m *machine) { m.write(key, "1\n") }, // there /proc/sys has them
		},
		{
			name: "hidden, and no container", files: map[string]string{"lib/modules/6.1.0-test/modules.builtin": "kernel/net/bridge/br_netfilter.ko\n"},
			next: "run nfguard where /proc/sys is the host's",
			step: func(m *machine) { m.write(key, "1\n") },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, host.Options{})
			for name, text := range tt.files {
				m.write(name, text)
			}
			if tt.set != nil {
				tt.set(m)
			}
			o := m.Survey(t.Context(), &m.p, 0)
			if b := o.Module.Obstacle; b == nil || b.Next != tt.next {
				t.Fatalf("obstacle %+v, want the next step %q", b, tt.next)
			}
			tt.step(m)
			if o := m.Survey(t.Context(), &m.p, 0); o.Module.Obstacle != nil {
				t.Errorf("after it: %+v", o.Module.Obstacle)
			}
		})
	}
}

// reboot has the module loaded if files in modules-load.d name it, as the
// forecast has it.
func (m *machine) reboot() {
	m.t.Helper()
	m.Survey(m.t.Context(), &m.p, guard.LookNextBoot)
	f := m.Forecast()
	if f.Module.LoadedBy.File == "" {
		m.t.Fatal("nothing loads it at the next boot")
	}
	m.write("proc/sys/kernel/modules_disabled", "1\n") // set again, after it
	m.write(key, "1\n")
}

// TestErrorsEnd walks the next steps of errors: of writing a drop-in, and of a
// sysctl that cannot be set from here.
func TestErrorsEnd(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	if os.Getenv("NFGUARD_TEST_ERRORS") == "" {
		cmd := exec.Command("unshare", "-m", "-n", "--propagation", "private", os.Args[0], "-test.run", "^TestErrorsEnd$", "-test.v")
		cmd.Env = append(os.Environ(), "NFGUARD_TEST_ERRORS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	dir := t.TempDir()
	etc := filepath.Join(dir, "etc/sysctl.d")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", etc)
	defer exec.Command("umount", etc).Run()
	p := &guard.Policy{Module: "br_netfilter", Sysctls: []guard.Setting{{Key: guard.IPTables, Value: "1"}}, SysctlD: "/etc/sysctl.d/99-zz-nfguard.conf"}
	for i := range 100 { // a drop-in of some pages
		p.Sysctls = append(p.Sysctls, guard.Setting{Key: guard.Key("net.x.y" + strings.Repeat("z", 200+i)), Value: "1"})
	}
	file := filepath.Join(dir, p.SysctlD)
	for _, tt := range []struct {
		name, next   string
		before, step func()
	}{
		{
			"full", "the disk is full: make room; nothing was lost, the old file is in place",
			func() { _ = os.WriteFile(filepath.Join(etc, "filler"), make([]byte, 128<<10), 0o644) }, // until it is full
			func() { os.Remove(filepath.Join(etc, "filler")) },
		},
		{
			"read-only", "it is mounted read-only: give nfguard's unit write access to it, or run nfguard on the host and not in a container",
			func() { run("mount", "-o", "remount,ro", etc) },
			func() { run("mount", "-o", "remount,rw", etc) },
		},
		{
			"somebody else's", "move it away if nobody needs it there, or name another file: sysctl under [persist]",
			func() { _ = os.WriteFile(file, []byte("x.y = 1\n"), 0o644) },
			func() { _ = os.Rename(file, file+".away") },
		},
	} {
		tt.before()
		r := keep.ApplyTree(host.NewTree(dir), p)
		next := r.Items[0].Next
		if len(r.Changes) > 0 {
			next = r.Changes[0].Next
		}
		if next != tt.next || r.Items[0].Verdict == guard.Right {
			t.Errorf("%s: next is %q, want %q: %+v", tt.name, next, tt.next, r)
		}
		tt.step()
		if r := keep.ApplyTree(host.NewTree(dir), p); r.Items[0].Verdict != guard.Right {
			t.Errorf("%s: after it: %+v", tt.name, r)
		}
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	}

	const iptables = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	if err := os.WriteFile(iptables, []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	run("mount", "--bind", "/proc/sys", "/proc/sys")
	run("mount", "-o", "remount,bind,ro", "/proc/sys")
	one := &guard.Policy{Module: p.Module, Sysctls: p.Sysctls[:1]}
	look := func() guard.Item {
		l := host.New(host.Options{})
		defer l.Close()
		v, _ := l.Value(guard.IPTables)
		return guard.PlanSysctl(one, &guard.Observation{Module: guard.Module{State: guard.Present}}, one.Sysctls[0], v)
	}
	const next = "set it on the host: sysctl -w net.bridge.bridge-nf-call-iptables=1"
	if it := look(); it.Verdict != guard.Blocked || it.Next != next {
		t.Errorf("of a read-only /proc/sys: %+v", it)
	}
	run("umount", "/proc/sys") // the host's is another one
	run("sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=1")
	run("mount", "--bind", "/proc/sys", "/proc/sys")
	run("mount", "-o", "remount,bind,ro", "/proc/sys")
	if it := look(); it.Verdict != guard.Right {
		t.Errorf("after it: %+v", it)
	}
}
