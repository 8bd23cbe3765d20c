package keep_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
)

// atZero is scope "bridges" with the sysctls kept at 0, without drop-ins.
func atZero() guard.Policy {
	p := scoped()
	p.Sysctls = []guard.Setting{{Key: guard.IPTables, Value: "0"}, {Key: guard.IP6Tables, Value: "0"}, {Key: guard.ARPTables, Value: "0"}}
	return p
}

// watched counts how often cni0 is left without the sysctl and without its flag.
func watched(h *hosttest.Host) *int {
	bare := new(int)
	look := func(h *hosttest.Host) {
		for f, k := range []guard.Key{guard.IPTables, guard.IP6Tables} {
			if h.Get(k) != "1" && !h.Flags("cni0")[f] {
				*bare++
			}
		}
	}
	h.BeforeFlag = func(h *hosttest.Host, _ guard.Action) { look(h) }
	h.BeforeSet = look
	h.AfterSet = func(h *hosttest.Host, _ guard.Key) { look(h) }
	return bare
}

// reloaded is a keeper that kept to p, and keeps the sysctls at 0 now.
func reloaded(t *testing.T, h *hosttest.Host, p guard.Policy) *keep.Keeper {
	t.Helper()
	r, _ := start(t, h, p)
	r.Prepare(t.Context(), atZero(), keep.Trigger{Source: "reload"})
	r.SetPolicy(atZero(), limits)
	r.Look(t.Context(), keep.Trigger{Source: "sysctl"})
	r.Pass(t.Context(), keep.Trigger{Source: "reload"})
	return r
}

// At the start, and after a change of the scope, the flags are set before a sysctl is
// set to 0; where a flag can't be, the sysctl waits.
func TestZeroComesAfterTheFlags(t *testing.T) {
	host := policy()
	host.ModulesLoad, host.SysctlD = "", ""
	values := func(h *hosttest.Host) string {
		return h.Get(guard.IPTables) + h.Get(guard.IP6Tables) + h.Get(guard.ARPTables)
	}
	for _, tt := range []struct {
		name  string
		begin func(t *testing.T, h *hosttest.Host) *keep.Keeper
	}{
		{"at the start", func(t *testing.T, h *hosttest.Host) *keep.Keeper {
			r, _ := start(t, h, atZero())
			return r
		}},
		{"after a reload from scope host", func(t *testing.T, h *hosttest.Host) *keep.Keeper {
			return reloaded(t, h, host)
		}},
		{"after a reload from sysctls that were left alone, with a flag more", func(t *testing.T, h *hosttest.Host) *keep.Keeper {
			p := scoped()
			p.Bridges.Families = p.Bridges.Families[:1]
			return reloaded(t, h, p)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := hosttest.New(true)
			h.SetBridges(guard.Bridge{Name: "cni0", Index: 3}, guard.Bridge{Name: "virbr0", Index: 4})
			bare := watched(h)
			tt.begin(t, h)
			if *bare > 0 || values(h) != "000" || h.Flags("cni0") != both || h.Flags("virbr0") != none {
				t.Errorf("%d times without either; the sysctls are %s, cni0 %v, virbr0 %v", *bare, values(h), h.Flags("cni0"), h.Flags("virbr0"))
			}
		})
		t.Run(tt.name+", and the flags can't be set", func(t *testing.T) {
			h := hosttest.New(true)
			h.SetBridges(guard.Bridge{Name: "cni0", Index: 3})
			bare := watched(h)
			h.FlagErr = errors.New("boom")
			r := tt.begin(t, h)
			if *bare > 0 || values(h) != "110" { // no flag is to be kept for arptables
				t.Errorf("%d times without either; the sysctls are %s", *bare, values(h))
			}
			h.FlagErr = nil
			rep := r.Pass(t.Context(), keep.Trigger{Source: "audit"})
			if *bare > 0 || values(h) != "000" || rep.Verdict() != guard.Right {
				t.Errorf("once they can: %d times without either; the sysctls are %s, %s", *bare, values(h), rep.Verdict())
			}
		})
	}
}

// Once a sysctl was 0, a foreign 1 is put right whatever flags the bridges have, and
// its writer named: a new bridge has none, and no pod yet.
func TestForeignOneIsNamed(t *testing.T) {
	h := twoBridges()
	rec := new(recorder)
	var news []record.Write
	r := keep.New(atZero(), limits, keep.Options{Host: h, Recorder: rec, News: func() []record.Write {
		n := news
		news = nil
		return n
	}})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	rec.lines()
	h.SetBridges(guard.Bridge{Name: "cni0", Index: 3, CallIPTables: true, CallIP6Tables: true}, guard.Bridge{Name: "cni1", Index: 5})
	h.FlagErr = errors.New("boom")
	r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	rec.lines()
	h.Write(guard.IPTables, "1")
	news = []record.Write{{
		File: guard.IPTables.File(), Writer: record.Process{PID: 812, Comm: "k3s-server", Unit: "k3s.service"}, Old: "0", New: "1",
	}}
	r.Look(t.Context(), keep.Trigger{Source: "sysctl"})
	got := rec.lines()
	const before, after = "drift corrected: net.bridge.bridge-nf-call-iptables was 1, set back to 0 after ", " (written by k3s-server[812], k3s.service)"
	if len(got) != 1 || !strings.HasPrefix(got[0], before) || !strings.HasSuffix(got[0], after) || h.Get(guard.IPTables) != "0" {
		t.Errorf("want %s…%s, got %q; the sysctl is %s", before, after, got, h.Get(guard.IPTables))
	}
}

// The kernel does not store a 0 in place of a foreign 1 by which a bridge may live.
func TestKernelWaitsForTheFlags(t *testing.T) {
	h := hosttest.New(true)
	h.SetBridges(guard.Bridge{Name: "cni0", Index: 3})
	yields := make(map[guard.Key]bool)
	asked := map[guard.Key]bool{}
	h.BeforeFlag = func(*hosttest.Host, guard.Action) {
		for k, v := range yields {
			asked[k] = v
		}
	}
	r := keep.New(atZero(), limits, keep.Options{Host: h, Recorder: new(recorder), Yield: func(k guard.Key, on bool) { yields[k] = on }})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	if diff := cmp.Diff(map[guard.Key]bool{guard.IPTables: true, guard.IP6Tables: true, guard.ARPTables: false}, asked); diff != "" {
		t.Errorf("while the flags are set (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[guard.Key]bool{guard.IPTables: false, guard.IP6Tables: false, guard.ARPTables: false}, yields); diff != "" {
		t.Errorf("after it (-want +got):\n%s", diff)
	}
}

// Mode observe changes no flag at a reload, as at any other time.
func TestReloadToObserveSetsNoFlag(t *testing.T) {
	host := policy()
	host.ModulesLoad, host.SysctlD = "", ""
	h := hosttest.New(true)
	h.SetBridges(guard.Bridge{Name: "cni0", Index: 3})
	r, _ := start(t, h, host)
	p := atZero()
	p.Mode = guard.Observe
	r.Prepare(t.Context(), p, keep.Trigger{Source: "reload"})
	r.SetPolicy(p, limits)
	r.Pass(t.Context(), keep.Trigger{Source: "reload"})
	if h.Flags("cni0") != none || h.Get(guard.IPTables) != "1" {
		t.Errorf("cni0 %v, the sysctl %s", h.Flags("cni0"), h.Get(guard.IPTables))
	}
}

// Where nothing is to be handed over, the module is not loaded; when somebody else loads
// it, what it comes with is set to 0.
func TestZeroWithoutTheModule(t *testing.T) {
	h := hosttest.New(false)
	p := atZero()
	p.Bridges.Families = nil
	r, rec := start(t, h, p)
	if rep := r.Pass(t.Context(), keep.Trigger{Source: "audit"}); rep.Verdict() != guard.Right || len(h.Writes()) > 0 || rec.lines() != nil {
		t.Errorf("%s, %+v", rep.Verdict(), rep.Items)
	}
	h.Load()
	rep := r.Pass(t.Context(), keep.Trigger{Source: "uevent"})
	if rep.Verdict() != guard.Right || h.Get(guard.IPTables) != "0" {
		t.Errorf("after its load: %s, the sysctl is %s", rep.Verdict(), h.Get(guard.IPTables))
	}
}
