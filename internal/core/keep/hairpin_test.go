package keep_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/words"
)

// keeping is a policy of scope "host" that keeps hairpin mode.
func keeping() guard.Policy {
	p := policy()
	p.ModulesLoad, p.SysctlD = "", ""
	p.Hairpin = guard.Hairpin{Keep: true, On: guard.Selection{Match: []string{"cni*"}}}
	return p
}

// cni0 is a bridge with a pod in hairpin mode and those ports that are not.
func cni0(ports ...guard.Port) guard.Bridge {
	return guard.Bridge{Name: "cni0", Index: 3, Ports: guard.Ports{Pods: 1 + len(ports), Hairpin: 1}, NoHairpin: ports}
}

// Ports that come are no drift, and nobody's fight; one that has lost it is.
func TestHairpinIsKept(t *testing.T) {
	h := hosttest.New(true)
	for _, k := range []guard.Key{guard.IPTables, guard.IP6Tables, guard.ARPTables} {
		h.Write(k, "1")
	}
	h.SetBridges(cni0(guard.Port{Name: "veth1", Index: 11}))
	r, rec := start(t, h, keeping())
	lines := func() []string {
		for i := range rec.events {
			rec.events[i].Message = strings.Replace(rec.events[i].Message, words.Short(rec.events[i].Duration), "…", 1)
		}
		return rec.lines()
	}
	want := []string{"bridge_flag corrected: bridge cni0 had no hairpin mode at some pod ports, switched on at veth1, as found at start (matches cni*)"}
	if diff := cmp.Diff(want, lines()); diff != "" {
		t.Errorf("at the start (-want +got):\n%s", diff)
	}

	news := func() keep.Trigger {
		return keep.Trigger{Source: "link", Time: time.Now().Add(-time.Millisecond)}
	}
	h.SetBridges(cni0(guard.Port{Name: "veth2", Index: 12}))
	if !r.Correct(t.Context(), "veth2", news()) {
		t.Error("a port is not met")
	}
	r.Look(t.Context(), keep.Trigger{})
	h.SetBridges(cni0(guard.Port{Name: "veth3", Index: 13}))
	r.Ask("veth3", news()) // as where nobody met it
	r.Ask("veth4", news())
	r.Look(t.Context(), keep.Trigger{})
	r.Look(t.Context(), keep.Trigger{})
	want = []string{
		"bridge_flag corrected: veth2 had no hairpin mode, switched on after … (a port of cni0: matches cni*)",
		"bridge_flag corrected: veth3 had no hairpin mode, switched on after … (a port of cni0: matches cni*)",
	}
	if diff := cmp.Diff(want, lines()); diff != "" {
		t.Errorf("ports that come (-want +got):\n%s", diff)
	}
	if got := r.Totals(); got != (keep.Totals{}) {
		t.Errorf("ports that come are counted as drift: %+v", got)
	}

	h.SetBridges(cni0(guard.Port{Name: "veth2", Index: 12, Lost: true}))
	r.Ask("veth2", news())
	r.Look(t.Context(), keep.Trigger{})
	r.Look(t.Context(), keep.Trigger{})
	h.SetBridges(cni0(guard.Port{Name: "veth2", Index: 12, Lost: true}))
	r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	want = []string{
		want[0],
		"bridge_flag corrected: bridge cni0 had no hairpin mode at some pod ports, switched on at veth2 (matches cni*)",
	}
	if diff := cmp.Diff(want, lines()); diff != "" {
		t.Errorf("one that has lost it (-want +got):\n%s", diff)
	}
	if got := r.Totals(); got != (keep.Totals{Drifts: 2, Corrected: 2}) {
		t.Errorf("totals: %+v", got)
	}
}

// A thousand pods in a minute are a few records.
func TestManyHairpinsAreFewRecords(t *testing.T) {
	h := hosttest.New(true)
	r, rec := start(t, h, keeping())
	rec.lines()
	for i := range 1000 {
		h.SetBridges(cni0(guard.Port{Name: "veth", Index: i}))
		r.Correct(t.Context(), "veth", keep.Trigger{Source: "link"})
	}
	r.Look(t.Context(), keep.Trigger{})
	if got := rec.lines(); len(got) != 10 {
		t.Errorf("%d records", len(got))
	}
	r.Tick(time.Now().Add(2 * time.Minute))
	want := []string{"bridge_flag observed: 990 more bridges or ports were put in hairpin mode since the last record"}
	if diff := cmp.Diff(want, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// Mode observe tells, once, and not again with each pod.
func TestHairpinIsObserved(t *testing.T) {
	h := hosttest.New(true)
	for _, k := range []guard.Key{guard.IPTables, guard.IP6Tables, guard.ARPTables} {
		h.Write(k, "1")
	}
	p := keeping()
	p.Mode = guard.Observe
	h.SetBridges(cni0(guard.Port{Name: "veth1", Index: 11}))
	r, rec := start(t, h, p)
	h.SetBridges(cni0(guard.Port{Name: "veth1", Index: 11}, guard.Port{Name: "veth2", Index: 12}))
	r.Ask("veth2", keep.Trigger{Source: "link"})
	r.Look(t.Context(), keep.Trigger{})
	r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	want := []string{
		"bridge_flag observed: cni0 is no hairpin mode at some pod ports, wanted hairpin mode at pod ports: " +
			"a pod there does not reach its own Service when it is chosen as the endpoint",
	}
	if diff := cmp.Diff(want, rec.lines()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// What the first 1 ends is on record before it is set, and once only, whatever
// pods come. The record of kube-proxy's start has it, too.
func TestHairpinIsToldBeforeTheFirstOne(t *testing.T) {
	h := hosttest.New(true)
	for _, k := range []guard.Key{guard.IPTables, guard.IP6Tables, guard.ARPTables} {
		h.Write(k, "0")
	}
	p := keeping()
	p.Hairpin.Keep = false
	h.SetBridges(cni0(guard.Port{Name: "veth1", Index: 11}))
	var before string
	rec := new(recorder)
	h.BeforeSet = func(*hosttest.Host) {
		if before == "" {
			before = strings.Join(rec.lines(), "\n")
		}
	}
	r := keep.New(p, limits, keep.Options{Host: h, Recorder: rec})
	r.Pass(t.Context(), keep.Trigger{Source: "start"})
	want := "bridge observed: a pod on cni0 will not reach its own Service any more when it is chosen as the endpoint, " +
		"once its frames are handed to netfilter: 1 of 2 pod ports has no hairpin mode"
	if before != want {
		t.Errorf("before the first 1: %s", before)
	}
	h.SetBridges(cni0(guard.Port{Name: "veth1", Index: 11}, guard.Port{Name: "veth2", Index: 12}))
	h.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{{PID: 42, Comm: "kube-proxy"}}})
	rec.lines()
	rep := r.Pass(t.Context(), keep.Trigger{Source: "exec", Look: guard.LookAll})
	const now = "a pod on cni0 does not reach its own Service when it is chosen as the endpoint: 2 of 3 pod ports have no hairpin mode"
	got := rec.lines()
	if len(got) != 1 || !strings.Contains(got[0], "the node was ready") || !strings.HasSuffix(got[0], "; "+now) {
		t.Errorf("at kube-proxy's start: %q", got)
	}
	if len(rep.Findings) != 1 || rep.Findings[0].Sentence != now {
		t.Errorf("findings: %+v", rep.Findings)
	}
	h.SetBridges(cni0())
	r.Pass(t.Context(), keep.Trigger{Source: "audit"})
	want = "bridge observed: no longer so: " + now
	if got := rec.lines(); len(got) != 1 || got[0] != want {
		t.Errorf("at its end: %q", got)
	}
}
