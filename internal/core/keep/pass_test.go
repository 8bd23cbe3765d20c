package keep_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
)

const (
	modulesLoad = "/etc/modules-load.d/nfguard.conf"
	sysctlD     = "/etc/sysctl.d/99-zz-nfguard.conf"
)

func policy() guard.Policy {
	return guard.Policy{
		Mode: guard.Enforce, Module: "br_netfilter",
		Sysctls: []guard.Setting{
			{Key: guard.IPTables, Value: "1"}, {Key: guard.IP6Tables, Value: "1"}, {Key: guard.ARPTables, Value: "1"},
		},
		ModulesLoad: modulesLoad, SysctlD: sysctlD,
	}
}

var limits = keep.Contention{Limit: 10, Window: time.Minute}

// recorder keeps events in memory.
type recorder struct{ events []record.Event }

func (r *recorder) Record(e record.Event) { r.events = append(r.events, e) }

// lines returns kind, outcome and message of what was recorded since the last
// call.
func (r *recorder) lines() []string {
	var out []string
	for _, e := range r.events {
		out = append(out, fmt.Sprintf("%s %s: %s", e.Kind, e.Outcome, e.Message))
	}
	r.events = nil
	return out
}

// settled returns a host on which one pass was made already, so that it is right.
func settled(t *testing.T, p guard.Policy) (*hosttest.Host, *recorder, *keep.Keeper) {
	t.Helper()
	h, rec := hosttest.New(true), new(recorder)
	r := keep.New(p, limits, keep.Options{Host: h, Recorder: rec})
	if rep := r.Pass(t.Context(), keep.Trigger{Source: "start"}); rep.Verdict() != guard.Right {
		t.Fatalf("the first pass left the host %s: %+v", rep.Verdict(), rep.Items)
	}
	rec.events = nil
	h.Writes()
	return h, rec, r
}

func TestPass(t *testing.T) {
	tests := []struct {
		name    string
		host    func(h *hosttest.Host)
		policy  func(p *guard.Policy)
		loaded  bool
		verdict guard.Verdict
		records []string // with durations cut out
		writes  int
	}{
		{
			name: "nothing is there: module, then keys as the kernel gives them, then drop-ins", verdict: guard.Right, writes: 3,
			records: []string{
				"module corrected: br_netfilter was not loaded, loaded in …",
				"dropin corrected: /etc/modules-load.d/nfguard.conf was absent, written again",
				"dropin corrected: /etc/sysctl.d/99-zz-nfguard.conf was absent, written again",
			},
		},
		{
			name: "loaded, one key at 0", loaded: true, verdict: guard.Right, writes: 3,
			host: func(h *hosttest.Host) { h.Write(guard.IPTables, "0") },
			records: []string{
				"drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1, as found at start",
				"dropin corrected: /etc/modules-load.d/nfguard.conf was absent, written again",
				"dropin corrected: /etc/sysctl.d/99-zz-nfguard.conf was absent, written again",
			},
		},
		{
			name: "observe changes nothing", loaded: true, verdict: guard.Wrong,
			host:   func(h *hosttest.Host) { h.Write(guard.IPTables, "0") },
			policy: func(p *guard.Policy) { p.Mode = guard.Observe },
			records: []string{
				"drift observed: net.bridge.bridge-nf-call-iptables is 0, wanted 1; left so in mode observe",
				"dropin observed: /etc/modules-load.d/nfguard.conf is absent, wanted as written by nfguard: nothing else makes sure of it at the next boot, until nfguard has started",
				"dropin observed: /etc/sysctl.d/99-zz-nfguard.conf is absent, wanted as written by nfguard: nothing else makes sure of it at the next boot, until nfguard has started",
			},
		},
		{
			name: "blacklisted", verdict: guard.Wrong,
			host: func(h *hosttest.Host) {
				h.Obstacle = &guard.Obstacle{Reason: "/etc/modprobe.d/cis.conf:3 forbids it: blacklist br_netfilter", Next: "remove that line"}
			},
			policy: func(p *guard.Policy) { p.ModulesLoad, p.SysctlD = "", "" },
			records: []string{
				"module failed: br_netfilter is not loaded, wanted loaded: /etc/modprobe.d/cis.conf:3 forbids it: blacklist br_netfilter",
			},
		},
		{
			name: "modprobe fails", verdict: guard.Wrong, writes: 1,
			host:    func(h *hosttest.Host) { h.LoadErr = errors.New("load br_netfilter: modprobe: exit status 1") },
			policy:  func(p *guard.Policy) { p.ModulesLoad, p.SysctlD = "", "" },
			records: []string{"module failed: br_netfilter is not loaded, wanted loaded: load br_netfilter: modprobe: exit status 1"},
		},
		{
			name: "modprobe succeeds without effect", verdict: guard.Wrong, writes: 1,
			host:    func(h *hosttest.Host) { h.NoEffect = true },
			policy:  func(p *guard.Policy) { p.ModulesLoad, p.SysctlD = "", "" },
			records: []string{"module reverted: br_netfilter is not loaded, wanted loaded: it did not stay: the kernel does not keep it, or somebody whom nfguard can't see changes it back at once"},
		},
		{
			name: "procfs is read-only", loaded: true, verdict: guard.Wrong, writes: 1,
			host: func(h *hosttest.Host) {
				h.Write(guard.IPTables, "0")
				h.SetErr = fmt.Errorf("set k: %w", &fs.PathError{Op: "open", Path: "/proc/sys/k", Err: syscall.EROFS})
			},
			policy:  func(p *guard.Policy) { p.ModulesLoad, p.SysctlD = "", "" },
			records: []string{"drift failed: net.bridge.bridge-nf-call-iptables is 0, wanted 1; could not set it: set k: open /proc/sys/k: read-only file system"},
		},
		{
			name: "disk full: the keys are right all the same", loaded: true, verdict: guard.Wrong, writes: 3,
			host: func(h *hosttest.Host) {
				h.Write(guard.ARPTables, "0")
				h.WriteErr = &fs.PathError{Op: "write", Path: "/etc/x", Err: syscall.ENOSPC}
			},
			records: []string{
				"drift corrected: net.bridge.bridge-nf-call-arptables was 0, set back to 1, as found at start",
				"dropin failed: /etc/modules-load.d/nfguard.conf is absent, wanted as written by nfguard: write /etc/x: no space left on device",
				"dropin failed: /etc/sysctl.d/99-zz-nfguard.conf is absent, wanted as written by nfguard: write /etc/x: no space left on device",
			},
		},
		{
			name: "nothing can be read", loaded: true, verdict: guard.Uncertain,
			host:   func(h *hosttest.Host) { h.ReadErr = syscall.EIO },
			policy: func(p *guard.Policy) { p.ModulesLoad, p.SysctlD = "", ""; p.Sysctls = p.Sysctls[:1] },
			records: []string{
				"module failed: br_netfilter is unknown, wanted loaded: could not look: input/output error",
				"drift failed: net.bridge.bridge-nf-call-iptables is unknown, wanted 1: could not look: input/output error",
			},
		},
		{
			name: "IPv6 is off: ip6tables stays 0", loaded: true, verdict: guard.Right,
			host:   func(h *hosttest.Host) { h.IPv6Off = true; h.Write(guard.IP6Tables, "0") },
			policy: func(p *guard.Policy) { p.ModulesLoad, p.SysctlD = "", "" },
		},
		{
			name: "no such key", loaded: true, verdict: guard.Wrong,
			policy: func(p *guard.Policy) {
				p.ModulesLoad, p.SysctlD = "", ""
				p.Sysctls = []guard.Setting{{Key: "net.ipv4.no_such", Value: "1"}}
			},
			records: []string{"drift failed: net.ipv4.no_such is absent, wanted 1: this kernel has no such key"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, rec, p := hosttest.New(tt.loaded), new(recorder), policy()
			if tt.host != nil {
				tt.host(h)
			}
			if tt.policy != nil {
				tt.policy(&p)
			}
			r := keep.New(p, limits, keep.Options{Host: h, Recorder: rec})
			report := r.Pass(t.Context(), keep.Trigger{Source: "start"})
			if got := report.Verdict(); got != tt.verdict {
				t.Errorf("the host is %s after the pass, want %s", got, tt.verdict)
			}
			for i := range rec.events {
				rec.events[i].Message = cut(rec.events[i].Message)
			}
			if diff := cmp.Diff(tt.records, rec.lines()); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if got := len(h.Writes()); got != tt.writes {
				t.Errorf("%d writes, want %d", got, tt.writes)
			}
			r.Pass(t.Context(), keep.Trigger{Source: "audit"})
			if again := rec.lines(); again != nil {
				t.Errorf("a second pass that finds the same says it again: %q", again)
			}
		})
	}
}

var took = regexp.MustCompile(`(loaded in) [0-9.]+[mµ]?s`)

// cut replaces how long a load took.
func cut(msg string) string { return took.ReplaceAllString(msg, "$1 …") }

func TestForeignWriteIsNamed(t *testing.T) {
	h, rec := hosttest.New(true), new(recorder)
	p := policy()
	p.ModulesLoad, p.SysctlD = "", ""
	var news []record.Write
	r := keep.New(p, limits, keep.Options{Host: h, Recorder: rec, News: func() []record.Write {
		n := news
		news = nil
		return n
	}})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	h.Write(guard.IPTables, "0")
	tuned := record.Process{PID: 812, Comm: "tuned", Unit: "tuned.service"}
	news = []record.Write{{File: guard.IPTables.File(), Writer: tuned}}
	woken := time.Now().Add(-84 * time.Microsecond)
	r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: woken})

	if got := h.Get(guard.IPTables); got != "1" {
		t.Fatalf("the key is %q", got)
	}
	if len(rec.events) != 1 {
		t.Fatalf("%d events, want 1: %q", len(rec.events), rec.lines())
	}
	e := rec.events[0]
	if e.Duration < 84*time.Microsecond || e.Duration > time.Second {
		t.Errorf("it stood for %v, woken 84µs ago", e.Duration)
	}
	want := record.Event{
		Kind: record.KindDrift, Outcome: record.Corrected, Subject: string(guard.IPTables),
		Want: "1", Have: "0", Now: "1", Source: "sysctl", Writer: tuned, Pass: 1,
		Message: "net.bridge.bridge-nf-call-iptables was 0, set back to 1 after " + e.Duration.Round(time.Microsecond).String() + " (written by tuned[812], tuned.service)",
		Time:    e.Time, Duration: e.Duration,
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

func TestUnseenWriteIsBounded(t *testing.T) {
	h, rec, r := settled(t, policy())
	h.Write(guard.IPTables, "0")
	r.Look(t.Context(), keep.Trigger{Source: "resync", Time: time.Now()})
	if len(rec.events) != 1 || rec.events[0].Duration != 0 ||
		!strings.Contains(rec.events[0].Message, "set back to 1, after at most ") {
		t.Errorf("events: %+v", rec.events)
	}
}

// The writer comes back between our write and the end of the look: the last
// look is after the last news.
func TestOvertaken(t *testing.T) {
	h, rec := hosttest.New(true), new(recorder)
	p := policy()
	times := 2
	h.AfterSet = func(h *hosttest.Host, k guard.Key) {
		if times > 0 {
			times--
			h.Write(k, "0")
		}
	}
	r := keep.New(p, limits, keep.Options{Host: h, Recorder: rec, News: func() []record.Write {
		if times >= 0 && h.Get(guard.IPTables) == "0" {
			return []record.Write{{File: guard.IPTables.File()}}
		}
		return nil
	}})
	p.ModulesLoad, p.SysctlD = "", ""
	r.SetPolicy(p, limits)
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	h.Write(guard.IPTables, "0")
	r.Look(t.Context(), keep.Trigger{Source: "sysctl"})
	if got := h.Get(guard.IPTables); got != "1" {
		t.Errorf("the key is %q", got)
	}
	var outcomes []record.Outcome
	for _, e := range rec.events {
		outcomes = append(outcomes, e.Outcome)
	}
	want := []record.Outcome{record.Reverted, record.Reverted, record.Corrected}
	if diff := cmp.Diff(want, outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// A kernel that takes a value and keeps another must not be written to for ever.
func TestNotKept(t *testing.T) {
	h, rec := hosttest.New(true), new(recorder)
	p := policy()
	p.Sysctls = []guard.Setting{{Key: "net.ipv4.ip_forward", Value: "7"}}
	p.ModulesLoad, p.SysctlD = "", ""
	h.Stubborn = map[guard.Key]string{"net.ipv4.ip_forward": "1"}
	r := keep.New(p, limits, keep.Options{Host: h, Recorder: rec})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	var look keep.Seen
	n := 0
	for ; n < 1000 && (look.Next.IsZero() || time.Until(look.Next) < 500*time.Millisecond); n++ {
		look = r.Look(t.Context(), keep.Trigger{Source: "resync"})
	}
	if n > 100 {
		t.Fatalf("%d writes without a pause", n)
	}
	last := rec.events[len(rec.events)-1]
	want := []string{"drift failed: net.ipv4.ip_forward is 1, wanted 7; could not set it: it did not stay: 7 was written 20 times and the kernel shows 1; " +
		"it prints that value in another way, another key changes this one, or somebody whom nfguard can't see does"}
	if diff := cmp.Diff(want, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if want := `if 1 is what you mean, write it so under [sysctl]; to leave the key alone set it to "ignore" there`; last.Next != want {
		t.Errorf("next: %q", last.Next)
	}
	if got := r.Totals(); got != (keep.Totals{Drifts: 20, Failed: 20}) || last.Suppressed != 19 {
		t.Errorf("totals %+v, the record stands for %d more: want 20 that failed", got, last.Suppressed)
	}
	if f := r.Fights(); len(f) != 0 {
		t.Errorf("fights with nobody: %q", f)
	}
}

// What our own write sets off names nobody, and does not keep alive the hope
// that the kernel will keep the value.
func TestOwnNewsIsNoWriter(t *testing.T) {
	h, rec := hosttest.New(true), new(recorder)
	p := policy()
	p.Sysctls = []guard.Setting{{Key: "net.ipv4.ip_forward", Value: "0x1"}}
	p.ModulesLoad, p.SysctlD = "", ""
	h.Stubborn = map[guard.Key]string{"net.ipv4.ip_forward": "1"}
	r := keep.New(p, limits, keep.Options{Host: h, Recorder: rec, News: func() []record.Write {
		return []record.Write{{Vague: true}}
	}})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	for range 100 {
		r.Look(t.Context(), keep.Trigger{Source: "sysctl"})
	}
	if got := r.Totals(); got != (keep.Totals{Drifts: 20, Failed: 20}) {
		t.Errorf("totals %+v, want 20 that failed and no more for now", got)
	}
	if lines := rec.lines(); len(lines) != 1 {
		t.Errorf("%d records, want one:\n%q", len(lines), lines)
	}
}

func TestModuleUnloadedAndBridgesGone(t *testing.T) {
	h, rec, r := settled(t, policy())
	h.SetBridges(guard.Bridge{Name: "cnio0", Index: 3}, guard.Bridge{Name: "docker0", Index: 4})
	r.Pass(t.Context(), keep.Trigger{Source: "link"})
	if diff := cmp.Diff([]string{
		"bridge observed: bridge cnio0 appeared; br_netfilter loaded, 3 of 3 keys as wanted",
		"bridge observed: bridge docker0 appeared; br_netfilter loaded, 3 of 3 keys as wanted",
	}, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}

	h.Unload()
	h.SetBridges()
	if look := r.Look(t.Context(), keep.Trigger{Source: "resync"}); !look.Lost {
		t.Error("Look did not notice that the module was unloaded")
	}
	r.Pass(t.Context(), keep.Trigger{Source: "resync"})
	for i := range rec.events {
		if rec.events[i].Kind == record.KindModule && rec.events[i].Duration != 0 {
			t.Errorf("how long it was away nobody has seen, and the record says %v", rec.events[i].Duration)
		}
		rec.events[i].Message = cut(rec.events[i].Message)
	}
	if diff := cmp.Diff([]string{
		"module corrected: br_netfilter was not loaded, loaded in …; unloading it removed cnio0, docker0 and all ports, and they do not come back by themselves: have the CNI plugin create them again",
		"bridge observed: bridge cnio0 was removed",
		"bridge observed: bridge docker0 was removed",
	}, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestUnloadedAndLoadedAgain(t *testing.T) {
	h, _, r := settled(t, policy())
	h.Unload()
	h.Load()
	if look := r.Look(t.Context(), keep.Trigger{Source: "resync"}); !look.Lost {
		t.Error("Look did not notice that the module was away")
	}
}

func TestDropinIsPutBack(t *testing.T) {
	h, rec, r := settled(t, policy())
	want := h.File(sysctlD)
	h.SetFile(sysctlD, strings.Replace(want, "= 1", "= 0", 1))
	r.Pass(t.Context(), keep.Trigger{Source: "file"})
	if diff := cmp.Diff(want, h.File(sysctlD)); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"dropin corrected: " + sysctlD + " was changed, written again"}, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// What somebody else has put in a drop-in's place stays, and is said once.
func TestDropinOfOthersStays(t *testing.T) {
	h, rec, r := settled(t, policy())
	const theirs = "net.bridge.bridge-nf-call-iptables = 0\n"
	h.SetFile(sysctlD, theirs)
	h.Writes()
	for range 3 {
		if rep := r.Pass(t.Context(), keep.Trigger{Source: "file"}); rep.Verdict() != guard.Wrong {
			t.Errorf("the verdict is %s", rep.Verdict())
		}
	}
	if writes := h.Writes(); len(writes) > 0 || h.File(sysctlD) != theirs {
		t.Errorf("it was written: %v", writes)
	}
	want := []string{"dropin failed: " + sysctlD + " is somebody else's, wanted as written by nfguard: its first line does not say that nfguard wrote it, so it is left as it is"}
	if diff := cmp.Diff(want, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// A complaint is said once, changes are said, and its end is said.
func TestComplaint(t *testing.T) {
	h, rec, r := settled(t, policy())
	h.WriteErr = syscall.EROFS
	h.SetFile(sysctlD, "")
	for range 3 {
		r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	}
	h.WriteErr = syscall.ENOSPC
	r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	if diff := cmp.Diff(map[string]string{sysctlD: sysctlD + " is absent, wanted as written by nfguard: no space left on device"}, r.Complaints()); diff != "" {
		t.Errorf("complaints (-want +got):\n%s", diff)
	}
	p := policy()
	h.SetFile(sysctlD, p.SysctlText(&guard.Observation{}))
	r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	got := rec.lines()
	if len(got) != 3 || !strings.Contains(got[0], "read-only file system") || !strings.Contains(got[1], "no space left") ||
		!strings.Contains(got[2], sysctlD+" is as wanted again (as written by nfguard), after ") {
		t.Errorf("records: %q", got)
	}
}

// TestReloadIsTheCause of what it asks for, and of nothing that comes later.
func TestReloadIsTheCause(t *testing.T) {
	p := policy()
	p.ModulesLoad, p.SysctlD = "", ""
	h, rec, r := settled(t, p)
	p.Sysctls = slices.Clone(p.Sysctls)
	p.Sysctls[2].Value = "0"
	r.SetPolicy(p, limits)
	r.Look(t.Context(), keep.Trigger{Source: "resync", Time: time.Now()}) // comes before the pass
	r.Pass(t.Context(), keep.Trigger{Source: "reload"})
	h.Write(guard.IPTables, "0") // was right when the policy changed
	r.Look(t.Context(), keep.Trigger{Source: "resync", Time: time.Now()})
	h.Write(guard.ARPTables, "1")
	r.Look(t.Context(), keep.Trigger{Source: "resync", Time: time.Now()})
	r.SetPolicy(p, limits) // nothing of the keys has changed
	h.Write(guard.IPTables, "0")
	r.Pass(t.Context(), keep.Trigger{Source: "reload"})
	got := make([]string, 0, 4)
	for _, e := range rec.events {
		got = append(got, string(e.Source)+": "+regexp.MustCompile(`at most \S+ `).ReplaceAllString(e.Message, "at most … "))
	}
	want := []string{
		"reload: net.bridge.bridge-nf-call-arptables was 1, set to 0, as the changed configuration asks",
		"resync: net.bridge.bridge-nf-call-iptables was 0, set back to 1, after at most … (nobody was seen writing it)",
		"resync: net.bridge.bridge-nf-call-arptables was 1, set back to 0, after at most … (nobody was seen writing it)",
		"resync: net.bridge.bridge-nf-call-iptables was 0, set back to 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// TestComplaintIsExcused: what was complained of is left as it is from now on.
func TestComplaintIsExcused(t *testing.T) {
	h, rec, r := settled(t, policy())
	h.SetErr = syscall.EPERM
	h.Write(guard.IP6Tables, "0")
	r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
	r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	rec.events = nil
	h.IPv6Off = true
	r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	got := rec.lines()
	if len(got) == 0 || !regexp.MustCompile(`^drift observed: net\.bridge\.bridge-nf-call-ip6tables is left as it is \(0\), after .+: IPv6 is switched off`).MatchString(got[0]) || len(r.Complaints()) > 0 {
		t.Errorf("records: %q, complaints: %v", got, r.Complaints())
	}
}

func TestAborted(t *testing.T) {
	gone := errors.New("given up")
	r := keep.New(policy(), limits, keep.Options{
		Host: hosttest.New(false), Recorder: new(recorder),
		Wait: func(context.Context, func(context.Context)) error { return gone },
	})
	report := r.Pass(t.Context(), keep.Trigger{Source: "start"})
	if !errors.Is(report.Aborted, gone) || report.Verdict() != guard.Uncertain {
		t.Errorf("report: %+v", report)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if report := r.Pass(ctx, keep.Trigger{Source: "start"}); !errors.Is(report.Aborted, context.Canceled) {
		t.Errorf("report: %+v", report)
	}
}

// The module is unloaded between the look and the write.
func TestVanishesBetweenLookAndWrite(t *testing.T) {
	p := policy()
	p.ModulesLoad, p.SysctlD = "", ""
	p.Sysctls = p.Sysctls[:1]
	h, rec, r := settled(t, p)
	h.Write(guard.IPTables, "0")
	h.BeforeSet = func(h *hosttest.Host) { h.BeforeSet = nil; h.Unload() }
	look := r.Look(t.Context(), keep.Trigger{Source: "sysctl", Time: time.Now()})
	if !look.Lost {
		t.Error("Look did not notice that the module was unloaded")
	}
	if rep := r.Pass(t.Context(), keep.Trigger{Source: "sysctl"}); rep.Verdict() != guard.Right {
		t.Errorf("the host is %s: %+v", rep.Verdict(), rep.Items)
	}
	got := rec.lines()
	if len(got) != 3 || got[0] != "drift failed: net.bridge.bridge-nf-call-iptables is 0, wanted 1; could not set it: write net/bridge/bridge-nf-call-iptables: no such file or directory" ||
		!strings.HasPrefix(got[1], "module corrected: br_netfilter was not loaded, loaded in ") ||
		!strings.HasPrefix(got[2], "drift observed: net.bridge.bridge-nf-call-iptables is as wanted again (1), after ") {
		t.Errorf("records: %q", got)
	}
}

// TestRemovedDuringThePass: what is removed while the pass puts something else
// right is put right too, and recorded as it was then.
func TestRemovedDuringThePass(t *testing.T) {
	h, rec := hosttest.New(true), new(recorder)
	works := -10 // the first pass is not disturbed
	r := keep.New(policy(), limits, keep.Options{Host: h, Recorder: rec, Wait: func(ctx context.Context, work func(context.Context)) error {
		work(ctx)
		if works++; works == 2 { // the survey, and the one file that was changed
			h.SetFile(modulesLoad, "")
		}
		return nil
	}})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	rec.events, works = nil, 0
	h.SetFile(sysctlD, h.File(sysctlD)+"net.ipv4.ip_forward = 0\n")
	if rep := r.Pass(t.Context(), keep.Trigger{Source: "file"}); rep.Verdict() != guard.Right {
		t.Errorf("the host is %s after the pass", rep.Verdict())
	}
	want := []string{
		"dropin corrected: /etc/modules-load.d/nfguard.conf was absent, written again",
		"dropin corrected: /etc/sysctl.d/99-zz-nfguard.conf was changed, written again",
	}
	if diff := cmp.Diff(want, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// TestUnloadedDuringThePass: the module is unloaded after it was looked at and
// before its sysctls are. They are not taken for keys that this kernel lacks.
func TestUnloadedDuringThePass(t *testing.T) {
	h, rec := hosttest.New(true), new(recorder)
	works := -10
	r := keep.New(policy(), limits, keep.Options{Host: h, Recorder: rec, Wait: func(ctx context.Context, work func(context.Context)) error {
		work(ctx)
		if works++; works == 1 { // the survey
			h.Unload()
			h.Obstacle = &guard.Obstacle{Reason: "/etc/modprobe.d/cis.conf:3 forbids it: blacklist br_netfilter", Next: "remove that line"}
		}
		return nil
	}})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	rec.events, works = nil, 0
	r.Pass(t.Context(), keep.Trigger{Source: "uevent"})
	want := []string{"module failed: br_netfilter is not loaded, wanted loaded: /etc/modprobe.d/cis.conf:3 forbids it: blacklist br_netfilter"}
	if diff := cmp.Diff(want, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}
