package keep_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/words"
)

// scoped is the policy of scope "bridges", without drop-ins.
func scoped() guard.Policy {
	return guard.Policy{
		Mode: guard.Enforce, Module: "br_netfilter",
		Bridges: &guard.Selection{Match: []string{"cni*"}, Families: []guard.Family{guard.IPv4, guard.IPv6}},
	}
}

var (
	none = guard.Flags{}
	both = guard.Flags{true, true, false}
)

// twoBridges is a host with one bridge that is kept and one that is not.
func twoBridges() *hosttest.Host {
	h := hosttest.New(true)
	for _, k := range []guard.Key{guard.IPTables, guard.IP6Tables, guard.ARPTables} {
		h.Write(k, "0")
	}
	h.SetBridges(guard.Bridge{Name: "cni0", Index: 3}, guard.Bridge{Name: "virbr0", Index: 4})
	return h
}

func start(t *testing.T, h *hosttest.Host, p guard.Policy) (*keep.Keeper, *recorder) {
	t.Helper()
	rec := new(recorder)
	r := keep.New(p, limits, keep.Options{Host: h, Recorder: rec})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	return r, rec
}

func TestFlagsAreSet(t *testing.T) {
	h := twoBridges()
	r, rec := start(t, h, scoped())
	if h.Flags("cni0") != both || h.Flags("virbr0") != none || h.Get(guard.IPTables) != "0" {
		t.Errorf("cni0 %v, virbr0 %v, the sysctl %s", h.Flags("cni0"), h.Flags("virbr0"), h.Get(guard.IPTables))
	}
	want := []string{"bridge_flag corrected: bridge cni0 had iptables 0, ip6tables 0, set to 1, as found at start (matches cni*)"}
	if diff := cmp.Diff(want, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]guard.Remembered{{Name: "cni0", Index: 3, Flags: both}}, h.Remembered()); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
	h.Writes()
	rep := r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	if rep.Verdict() != guard.Right || len(h.Writes()) > 0 || rec.lines() != nil {
		t.Errorf("a second pass: %s %+v", rep.Verdict(), rep.Items)
	}
	if got := keep.Readiness(rep.Items); got != "br_netfilter loaded, 1 of 1 bridges as wanted" {
		t.Errorf("readiness: %s", got)
	}
	if got := keep.Readiness(rep.Items[:1]); got != "br_netfilter loaded, no key and no bridge to keep" {
		t.Errorf("readiness without bridges: %s", got)
	}

	// Cleared by hand: the audit finds it, news tells of it at once.
	h.SetFlags("cni0", guard.Flags{true, false, true})
	r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	h.SetFlags("cni0", none)
	r.Ask("cni0", keep.Trigger{Source: "link", Time: time.Now().Add(-300 * time.Microsecond)})
	r.Ask("virbr0", keep.Trigger{Source: "link"})
	r.Ask("gone0", keep.Trigger{Source: "link"})
	r.Look(t.Context(), keep.Trigger{})
	r.Look(t.Context(), keep.Trigger{})
	for i := range rec.events {
		rec.events[i].Message = strings.Replace(rec.events[i].Message, words.Short(rec.events[i].Duration), "…", 1)
	}
	want = []string{
		"bridge_flag corrected: bridge cni0 had iptables 1, ip6tables 0, set to 1 (matches cni*)",
		"bridge_flag corrected: bridge cni0 had iptables 0, ip6tables 0, set to 1 after … (matches cni*)",
	}
	if diff := cmp.Diff(want, rec.lines()); diff != "" || h.Flags("cni0") != both {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if got := r.Totals(); got != (keep.Totals{Drifts: 3, Corrected: 3}) {
		t.Errorf("totals: %+v", got)
	}
}

// Mode observe, and scope host, do nothing to a bridge of which there is news.
func TestFlagsAreLeft(t *testing.T) {
	observe := scoped()
	observe.Mode = guard.Observe
	host := policy()
	host.ModulesLoad, host.SysctlD = "", ""
	for name, tt := range map[string]struct {
		policy guard.Policy
		want   []string
	}{
		"observe": {observe, []string{
			"bridge_flag observed: cni0 is iptables 0, ip6tables 0, wanted iptables 1, ip6tables 1: " +
				"a pod that calls a Service with an endpoint on its own node gets the reply from the wrong address",
		}},
		"host": {host, []string{
			"drift corrected: net.bridge.bridge-nf-call-iptables was 0, set back to 1, as found at start",
			"drift corrected: net.bridge.bridge-nf-call-ip6tables was 0, set back to 1, as found at start",
			"drift corrected: net.bridge.bridge-nf-call-arptables was 0, set back to 1, as found at start",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := twoBridges()
			r, rec := start(t, h, tt.policy)
			r.Ask("cni0", keep.Trigger{Source: "link"})
			r.Look(t.Context(), keep.Trigger{})
			r.Pass(t.Context(), keep.Trigger{Source: "audit"})
			if diff := cmp.Diff(tt.want, rec.lines()); diff != "" || h.Flags("cni0") != none {
				t.Errorf("%v, records (-want +got):\n%s", h.Flags("cni0"), diff)
			}
		})
	}
}

// What can't be set is said once, and so is its end; the end of the bridge
// ends it, too.
func TestFlagsFail(t *testing.T) {
	boom := errors.New("set flags of bridge cni0: operation not permitted")
	for name, tt := range map[string]struct {
		fault func(h *hosttest.Host)
		want  []string
	}{
		"refused": {func(h *hosttest.Host) { h.FlagErr = boom }, []string{
			"bridge_flag failed: cni0 is iptables 0, ip6tables 0, wanted iptables 1, ip6tables 1: " + boom.Error(),
		}},
		"not kept": {func(h *hosttest.Host) { h.FlagsFixed = true }, []string{
			"bridge_flag reverted: bridge cni0 had iptables 0, ip6tables 0, set to 1, as found at start (matches cni*), and changed again at once",
			"bridge_flag reverted: bridge cni0 had iptables 0, ip6tables 0, set to 1 (matches cni*), and changed again at once",
			"bridge_flag reverted: bridge cni0 had iptables 0, ip6tables 0, set to 1 (matches cni*), and changed again at once",
			"bridge_flag reverted: bridge cni0 had iptables 0, ip6tables 0, set to 1 (matches cni*), and changed again at once",
			"bridge_flag failed: cni0 is iptables 0, ip6tables 0, wanted iptables 1, ip6tables 1: it did not stay: the kernel does not keep it, or somebody whom nfguard can't see changes it back at once",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := twoBridges()
			tt.fault(h)
			r, rec := start(t, h, scoped())
			var rep keep.Report
			for range 9 {
				rep = r.Pass(t.Context(), keep.Trigger{Source: "audit"})
			}
			if diff := cmp.Diff(tt.want, rec.lines()); diff != "" || rep.Verdict() != guard.Wrong {
				t.Errorf("%s, records (-want +got):\n%s", rep.Verdict(), diff)
			}
			if got := r.Complaints(); len(got) != 1 || got["cni0"] == "" {
				t.Errorf("complaints: %v", got)
			}
			h.SetFlags("cni0", both) // by somebody else
			r.Pass(t.Context(), keep.Trigger{Source: "audit"})
			if got := rec.lines(); len(got) != 1 || !strings.Contains(got[0], "cni0 is as wanted again (iptables 1, ip6tables 1), after ") {
				t.Errorf("records: %q", got)
			}
			h.SetFlags("cni0", none)
			r.Pass(t.Context(), keep.Trigger{Source: "audit"})
			h.SetBridges()
			r.Pass(t.Context(), keep.Trigger{Source: "audit"})
			if got := r.Complaints(); len(got) != 0 {
				t.Errorf("of a bridge that is gone: %v", got)
			}
		})
	}
}

// A bridge is corrected at once by whoever hears of it, recorded by the next Look,
// and left to the loop's pace where somebody fights about it.
func TestCorrect(t *testing.T) {
	h := twoBridges()
	r, rec := start(t, h, scoped())
	rec.lines()
	heard := keep.Trigger{Source: "link", Time: time.Now()}
	h.SetFlags("cni0", none)
	var corrected sync.WaitGroup
	for range 4 { // several at a time do it once
		for _, name := range []string{"cni0", "virbr0", "gone0"} {
			corrected.Go(func() {
				if !r.Correct(t.Context(), name, heard) {
					t.Errorf("%s was not corrected", name)
				}
			})
		}
	}
	corrected.Wait()
	if h.Flags("cni0") != both || h.Flags("virbr0") != none || rec.lines() != nil {
		t.Errorf("cni0 %v, virbr0 %v", h.Flags("cni0"), h.Flags("virbr0"))
	}
	r.Look(t.Context(), keep.Trigger{})
	r.Look(t.Context(), keep.Trigger{})
	if got := rec.lines(); len(got) != 1 || !strings.HasPrefix(got[0], "bridge_flag corrected: bridge cni0 had iptables 0, ip6tables 0, set to 1 after ") {
		t.Errorf("records: %q", got)
	}

	for range limits.Limit {
		h.SetFlags("cni0", none)
		r.Correct(t.Context(), "cni0", heard)
		r.Look(t.Context(), keep.Trigger{})
	}
	h.SetFlags("cni0", none)
	if r.Correct(t.Context(), "cni0", heard) || h.Flags("cni0") != none {
		t.Error("corrected in a fight")
	}

	observe := scoped()
	observe.Mode = guard.Observe
	host := policy()
	for _, p := range []guard.Policy{observe, host} {
		r.SetPolicy(p, limits)
		if r.Correct(t.Context(), "cni0", heard) {
			t.Error("corrected without a reason")
		}
	}
}

// A bridge that goes while its flags are set is nobody's failure.
func TestBridgeGoesMeanwhile(t *testing.T) {
	h := twoBridges()
	h.BeforeFlag = func(h *hosttest.Host, _ guard.Action) { h.SetBridges() }
	r, rec := start(t, h, scoped())
	if got := r.Totals(); got != (keep.Totals{}) || rec.lines() != nil {
		t.Errorf("totals %+v, records %q", got, rec.lines())
	}
}

// From scope "host" to "bridges" the flags come first; back, the sysctls are
// in effect before a flag is taken, and what others had set stays.
func TestScopeChanges(t *testing.T) {
	host := policy()
	host.ModulesLoad, host.SysctlD = "", ""
	host.Sysctls = host.Sysctls[:2]
	h := twoBridges()
	h.SetFlags("cni0", guard.Flags{false, false, true})
	r, rec := start(t, h, host)
	rec.lines()

	bare := 0
	h.BeforeFlag = func(h *hosttest.Host, _ guard.Action) {
		for f, k := range []guard.Key{guard.IPTables, guard.IP6Tables} {
			if h.Get(k) != "1" && !h.Flags("cni0")[f] {
				bare++
			}
		}
	}
	r.Prepare(t.Context(), host, keep.Trigger{Source: "reload"}) // no change: nothing
	for range 20 {                                               // this is no fight, and would not be put off by one
		r.Prepare(t.Context(), scoped(), keep.Trigger{Source: "reload"})
		h.SetFlags("cni0", guard.Flags{false, false, true})
	}
	if got := r.Fights(); len(got) > 0 {
		t.Errorf("fights: %v", got)
	}
	rec.lines()
	r.Prepare(t.Context(), scoped(), keep.Trigger{Source: "reload"})
	if h.Flags("cni0") != (guard.Flags{true, true, true}) || h.Flags("virbr0") != none {
		t.Errorf("before the change: cni0 %v, virbr0 %v", h.Flags("cni0"), h.Flags("virbr0"))
	}
	r.SetPolicy(scoped(), limits)
	r.Pass(t.Context(), keep.Trigger{Source: "reload"})
	want := []string{
		"bridge_flag corrected: bridge cni0 had iptables 0, ip6tables 0, set to 1 (matches cni*)",
		`bridge observed: the sysctls hand the frames of every bridge to iptables and ip6tables, not only of those that scope = "bridges" keeps`,
	}
	if diff := cmp.Diff(want, rec.lines()); diff != "" {
		t.Errorf("host to bridges (-want +got):\n%s", diff)
	}
	h.Write(guard.IPTables, "0") // as the administrator wants it now
	r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	if h.Get(guard.IPTables) != "0" {
		t.Error("the sysctl was written in scope bridges")
	}

	// One sysctl can't be set: its flag stays, the other goes.
	h.Stubborn = map[guard.Key]string{guard.IPTables: "0"}
	r.Prepare(t.Context(), host, keep.Trigger{Source: "reload"})
	r.SetPolicy(host, limits)
	rep := r.Pass(t.Context(), keep.Trigger{Source: "reload"})
	if h.Flags("cni0") != (guard.Flags{true, false, true}) || rep.Verdict() != guard.Wrong {
		t.Errorf("with a sysctl that stays 0: %v, %s", h.Flags("cni0"), rep.Verdict())
	}
	h.Stubborn = nil
	rep = r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	if h.Flags("cni0") != (guard.Flags{false, false, true}) || rep.Verdict() != guard.Right || len(h.Remembered()) > 0 {
		t.Errorf("taken back: %v, %s, remembered %v", h.Flags("cni0"), rep.Verdict(), h.Remembered())
	}
	lines := strings.Join(rec.lines(), "\n")
	if !strings.Contains(lines, `bridge_flag corrected: bridge cni0 had iptables 1 of scope "bridges", taken back: the sysctls are in effect`) {
		t.Errorf("records:\n%s", lines)
	}
	if bare > 0 {
		t.Errorf("%d times neither the flag nor the sysctl was 1", bare)
	}
}

// A fight over a bridge is paced and recorded as one; with yield it is left
// until it is quiet.
func TestFlagFight(t *testing.T) {
	for _, yield := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h, rec := twoBridges(), new(recorder)
			c := keep.Contention{Limit: 10, Window: time.Minute, Yield: yield}
			r := keep.New(scoped(), c, keep.Options{Host: h, Recorder: rec})
			r.Pass(t.Context(), keep.Trigger{Source: "start"})
			right := 0
			for range 1000 {
				h.SetFlags("cni0", none)
				r.Ask("cni0", keep.Trigger{Source: "link", Time: time.Now()})
				r.Look(t.Context(), keep.Trigger{})
				r.Look(t.Context(), keep.Trigger{})
				if h.Flags("cni0") == both {
					right++
				}
				time.Sleep(time.Millisecond)
			}
			r.Tick(time.Now())
			kinds := make(map[record.Kind]int)
			for _, e := range rec.events {
				kinds[e.Kind]++
			}
			want := map[record.Kind]int{record.KindFlag: 9, record.KindContention: 1}
			if diff := cmp.Diff(want, kinds); diff != "" {
				t.Errorf("yield %v: records (-want +got):\n%s", yield, diff)
			}
			last := rec.events[len(rec.events)-1]
			if last.About != record.KindFlag || last.Next != "stop the other side, or add the bridge to ignore under [bridges]" {
				t.Errorf("record: %+v", last)
			}
			if got := r.Fights(); len(got) != 1 || got[0] != "cni0" {
				t.Errorf("fights: %v", got)
			}
			if yield && right > 10 || !yield && (right < 90 || right > 120) {
				t.Errorf("yield %v: %d corrections of 1000 in a second", yield, right)
			}
			time.Sleep(2 * time.Minute)
			r.Tick(time.Now())
			r.Look(t.Context(), keep.Trigger{})
			r.Look(t.Context(), keep.Trigger{})
			if h.Flags("cni0") != both {
				t.Errorf("yield %v: left without its flags after the fight", yield)
			}
			h.SetBridges()
			time.Sleep(2 * time.Minute)
			r.Pass(t.Context(), keep.Trigger{Source: "audit"})
		})
	}
}

// Looks at single bridges run aside, one batch at a time; the pass waits for
// the one that is under way.
func TestLooksAtBridgesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, rec := twoBridges(), new(recorder)
		var running, most atomic.Int32
		r := keep.New(scoped(), limits, keep.Options{
			Host: h, Recorder: rec,
			Go: func(work func()) {
				most.Store(max(most.Load(), running.Add(1)))
				go func() {
					work()
					running.Add(-1)
				}()
			},
			Wait: func(ctx context.Context, work func(context.Context)) error {
				done := make(chan struct{})
				go func() {
					defer close(done)
					work(ctx)
				}()
				select {
				case <-done:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			},
		})
		h.HangLook = make(chan struct{})
		r.Ask("cni0", keep.Trigger{Source: "link", Time: time.Now()})
		r.Ask("cni0", keep.Trigger{Source: "link", Time: time.Now()})
		r.Look(t.Context(), keep.Trigger{})
		r.Ask("cni0", keep.Trigger{Source: "link", Time: time.Now()})
		synctest.Wait() // the first look has begun
		if again := r.Look(t.Context(), keep.Trigger{}); !again.Next.IsZero() {
			t.Errorf("to be called again at %v, without being rung", again.Next)
		}
		go func() {
			time.Sleep(time.Second)
			close(h.HangLook)
		}()
		rep := r.Pass(t.Context(), keep.Trigger{Source: "start"})
		if rep.Verdict() != guard.Right || most.Load() != 1 {
			t.Errorf("%s, %d batches at once", rep.Verdict(), most.Load())
		}
		want := []string{"bridge_flag corrected: bridge cni0 had iptables 0, ip6tables 0, set to 1 after 1s (matches cni*)"}
		if diff := cmp.Diff(want, rec.lines()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}

		// Told to stop while a look hangs, the pass ends.
		synctest.Wait()
		h.HangLook = make(chan struct{})
		defer close(h.HangLook)
		h.SetFlags("cni0", none)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if rep := r.Pass(ctx, keep.Trigger{Source: "audit"}); !errors.Is(rep.Aborted, context.Canceled) {
			t.Errorf("report: %+v", rep)
		}
	})
}

// Findings about bridges are recorded once, and so is their end; what can't be
// looked at is as it was.
func TestConcernsAreRecorded(t *testing.T) {
	h := twoBridges()
	h.SetBridges(guard.Bridge{Name: "cni0", Index: 3, Ports: guard.Ports{VMs: 1}})
	r, rec := start(t, h, scoped())
	h.Bridging = errors.New("boom")
	r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	h.Bridging = nil
	h.SetBridges(guard.Bridge{Name: "cni0", Index: 3, CallIPTables: true, CallIP6Tables: true})
	rep := r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	const finding = "cni0 is kept (matches cni*) and carries virtual machines, too: those frames pass through netfilter like those of pods"
	got := rec.lines()
	if len(got) != 5 || got[1] != "bridge observed: "+finding || got[4] != "bridge observed: no longer so: "+finding || len(rep.Findings) != 0 ||
		got[2] != "bridge_flag failed: bridges is unknown, wanted known: could not look: boom" {
		t.Errorf("records: %q", got)
	}
}

// named is evidence that docker0 carries pods.
func named() *guard.Evidence {
	return &guard.Evidence{CNI: guard.CNI{Networks: []guard.Network{{Name: "n", Place: "/f", Bridge: "docker0"}}}}
}

// onEvidence is a host with that evidence, and a policy that goes by it.
func onEvidence() (*hosttest.Host, guard.Policy) {
	h := twoBridges()
	h.SetBridges(guard.Bridge{Name: "docker0", Index: 3, Ports: guard.Ports{Pods: 1}})
	h.Evidence = named()
	p := scoped()
	p.Bridges.Match, p.Bridges.Auto = nil, true
	return h, p
}

// Flags that were set on evidence go when that has been gone for ten minutes in
// which each look succeeded; a look that did not begins the time anew.
func TestFlagsGoWithEvidence(t *testing.T) {
	boom := errors.New("boom")
	gone, unread := &guard.Evidence{}, &guard.Evidence{CNI: guard.CNI{Err: boom}}
	for _, tt := range []struct {
		name string
		at   map[int]func(h *hosttest.Host, r *keep.Keeper) // by the minute since the evidence was gone
		took int                                            // the minute in which the flags were taken back; 0: not within 40
	}{
		{"gone", nil, 10},
		{"it came back for a moment", map[int]func(*hosttest.Host, *keep.Keeper){
			9:  func(h *hosttest.Host, _ *keep.Keeper) { h.Evidence = named() },
			10: func(h *hosttest.Host, _ *keep.Keeper) { h.Evidence = gone },
		}, 20},
		{"a look failed", map[int]func(*hosttest.Host, *keep.Keeper){
			5: func(h *hosttest.Host, _ *keep.Keeper) { h.Bridging = boom },
			6: func(h *hosttest.Host, _ *keep.Keeper) { h.Bridging = nil },
		}, 16},
		{"a look was not certain", map[int]func(*hosttest.Host, *keep.Keeper){
			9:  func(h *hosttest.Host, _ *keep.Keeper) { h.Evidence = unread },
			12: func(h *hosttest.Host, _ *keep.Keeper) { h.Evidence = gone },
		}, 22},
		{"what was set is not known", map[int]func(*hosttest.Host, *keep.Keeper){
			3: func(h *hosttest.Host, _ *keep.Keeper) { h.MemoryErr = boom },
			4: func(h *hosttest.Host, _ *keep.Keeper) { h.MemoryErr = nil },
		}, 14},
		{"never certain", map[int]func(*hosttest.Host, *keep.Keeper){
			0: func(h *hosttest.Host, _ *keep.Keeper) { h.Evidence = unread },
		}, 0},
		{"a reload", map[int]func(*hosttest.Host, *keep.Keeper){
			8: func(_ *hosttest.Host, r *keep.Keeper) { _, p := onEvidence(); r.SetPolicy(p, limits) },
		}, 18},
		{"the last pod ended, the configuration stands", map[int]func(*hosttest.Host, *keep.Keeper){
			0: func(h *hosttest.Host, _ *keep.Keeper) {
				h.Evidence = named()
				h.SetBridges(guard.Bridge{Name: "docker0", Index: 3, CallIPTables: true, CallIP6Tables: true})
			},
		}, 0},
		{"another bridge has the name", map[int]func(*hosttest.Host, *keep.Keeper){
			2: func(h *hosttest.Host, _ *keep.Keeper) {
				h.SetBridges(guard.Bridge{Name: "docker0", Index: 4, CallIPTables: true, CallIP6Tables: true})
			},
		}, 0},
		{"somebody else clears one: the other is taken back", map[int]func(*hosttest.Host, *keep.Keeper){
			2: func(h *hosttest.Host, _ *keep.Keeper) {
				h.SetFlags("docker0", guard.Flags{true, false, false})
			},
		}, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, p := onEvidence()
				r, rec := start(t, h, p)
				if h.Flags("docker0") != both {
					t.Fatalf("with evidence the flags are %v", h.Flags("docker0"))
				}
				time.Sleep(time.Hour)
				r.Pass(t.Context(), keep.Trigger{Source: "audit"})
				rec.lines()
				h.Evidence = gone
				took := 0
				for minute := range 40 {
					if change := tt.at[minute]; change != nil {
						change(h, r)
					}
					r.Pass(t.Context(), keep.Trigger{Source: "audit"})
					if took == 0 && h.Flags("docker0") == none {
						took = minute
					}
					time.Sleep(time.Minute)
				}
				if took != tt.took {
					t.Errorf("taken back after %d minutes, want %d; flags %v", took, tt.took, h.Flags("docker0"))
				}
				records := strings.Join(rec.lines(), "\n")
				if n := strings.Count(records, "taken back: for 10m"); n > 1 || (n == 1) != (tt.took > 0) {
					t.Errorf("records:\n%s", records)
				}
				if tt.took > 0 && len(h.Remembered()) > 0 {
					t.Errorf("remembered: %+v", h.Remembered())
				}
			})
		})
	}
}

// What a pattern has set stays, and so does all in mode observe.
func TestFlagsOfPatternsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, auto := onEvidence()
		named := scoped()
		named.Bridges.Match = []string{"docker0"}
		r, rec := start(t, h, named)
		r.SetPolicy(auto, limits)
		h.Evidence = &guard.Evidence{}
		for range 30 {
			r.Pass(t.Context(), keep.Trigger{Source: "audit"})
			time.Sleep(time.Minute)
		}
		if h.Flags("docker0") != both {
			t.Errorf("taken back: %v", h.Flags("docker0"))
		}
		if got := strings.Join(rec.lines(), "\n"); !strings.Contains(got, "nfguard has set flags of docker0, which it no longer keeps (") {
			t.Errorf("records:\n%s", got)
		}

		h, auto = onEvidence()
		r, rec = start(t, h, auto)
		auto.Mode = guard.Observe
		r.SetPolicy(auto, limits)
		h.Evidence = &guard.Evidence{}
		rec.lines()
		for range 30 {
			r.Pass(t.Context(), keep.Trigger{Source: "audit"})
			time.Sleep(time.Minute)
		}
		if got := rec.lines(); h.Flags("docker0") != both || len(got) != 1 || !strings.Contains(got[0], "docker0 is iptables 1, ip6tables 1, wanted iptables 0, ip6tables 0") {
			t.Errorf("observe: %v, records %q", h.Flags("docker0"), got)
		}
	})
}
