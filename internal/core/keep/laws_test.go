package keep_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/keep"
)

// FuzzLaws starts from any state of a host and any fault, and holds the pass
// to its laws: two passes converge wherever the host allows it, a third
// writes nothing, nothing is ever set to 0 or unloaded, no flag of a bridge
// that is not kept is touched, nor a file of somebody else's, and what an
// observing pass sees it leaves alone.
func FuzzLaws(f *testing.F) {
	f.Add(uint16(0), uint8(0))
	f.Add(uint16(0xffff), uint8(0))
	f.Add(uint16(0x0155), uint8(3))
	f.Add(uint16(0x0c03), uint8(0))
	f.Add(uint16(0x1c03), uint8(64))
	f.Add(uint16(0x2021), uint8(0))
	f.Add(uint16(0x0c21), uint8(0))
	f.Fuzz(func(t *testing.T, state uint16, faults uint8) {
		on := func(bit int) bool { return state&(1<<bit) != 0 }
		h := hosttest.New(on(0))
		for i, k := range []guard.Key{guard.IPTables, guard.IP6Tables, guard.ARPTables} {
			if on(1 + i) {
				h.Write(k, "0")
			}
		}
		p := policy()
		if on(4) {
			p.Sysctls = append(p.Sysctls, guard.Setting{Key: "net.ipv4.ip_forward", Value: "1"})
		}
		foreign := on(5) && on(13) // somebody else's file, which stays
		if foreign {
			h.SetFile(modulesLoad, "something else\n")
		} else if on(5) {
			h.SetFile(modulesLoad, p.ModulesLoadText()+"and something else\n")
		}
		if on(6) {
			h.SetFile(sysctlD, p.SysctlText(&guard.Observation{}))
		}
		if on(7) {
			p.ModulesLoad = ""
		}
		if on(8) {
			p.Mode = guard.Observe
		}
		h.IPv6Off = on(9)
		if on(10) {
			p.Bridges = scoped().Bridges
			p.Sysctls = p.Sysctls[3:]
		}
		h.SetBridges(guard.Bridge{Name: "virbr0", Index: 3})
		if on(11) {
			h.SetBridges(guard.Bridge{Name: "virbr0", Index: 3}, guard.Bridge{Name: "cni0", Index: 4, CallIPTables: on(12)})
		}
		broken := false
		fault := func(bit int, set func()) {
			if faults&(1<<bit) != 0 {
				broken = true
				set()
			}
		}
		boom := errors.New("boom")
		fault(0, func() { h.LoadErr = boom })
		fault(1, func() { h.SetErr = boom })
		fault(2, func() { h.WriteErr = boom })
		fault(3, func() { h.ReadErr = boom })
		fault(4, func() { h.NoEffect = true })
		fault(5, func() { h.Obstacle = &guard.Obstacle{Reason: "blacklisted"} })

		fault(6, func() { h.FlagErr = boom })

		flags := h.Flags("cni0")
		values, files := h.State()
		r := keep.New(p, limits, keep.Options{Host: h, Recorder: new(recorder)})
		pass := func() keep.Report { return r.Pass(t.Context(), keep.Trigger{Source: "audit"}) }
		pass()
		second := pass()
		writes := h.Writes()
		for _, a := range writes {
			if a.Op == guard.SetSysctl && a.Value == "0" {
				t.Errorf("%s was set to 0", a.Subject)
			}
			if a.Op == guard.ClearFlags || a.Op == guard.SetFlags && (p.Bridges == nil || a.Subject != "cni0") {
				t.Errorf("flags of %s were touched: %+v", a.Subject, a)
			}
		}
		if foreign && h.File(modulesLoad) != "something else\n" {
			t.Errorf("somebody else's file is now %q", h.File(modulesLoad))
		}
		third := pass()
		if p.Mode == guard.Observe {
			v, fl := h.State()
			if diff := cmp.Diff(values, v) + cmp.Diff(files, fl); diff != "" || len(writes) > 0 || h.Flags("cni0") != flags {
				t.Errorf("mode observe changed the host: %s%v", diff, writes)
			}
			return
		}
		if !broken {
			want := guard.Right
			if foreign && p.ModulesLoad != "" {
				want = guard.Wrong
			}
			if got := second.Verdict(); got != want {
				t.Errorf("after two passes the host is %s: %+v", got, second.Items)
			}
			if again := h.Writes(); len(again) > 0 {
				t.Errorf("a third pass writes: %+v", again)
			}
		}
		// What the pass says is what is there.
		now := keep.Audit(t.Context(), h, &p)
		if diff := cmp.Diff(third.Items, now.Items, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); diff != "" {
			t.Errorf("the report is not what is there (-report +there):\n%s", diff)
		}
	})
}
