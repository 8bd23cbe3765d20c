package kernel

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/trace"
)

// TestLegacyLogIsTaken: somebody listens to the log of rules already. The way
// is seen without those rules, and a note says so.
func TestLegacyLogIsTaken(t *testing.T) {
	w := newWorker(t, true)
	w.Run(t, "iptables-legacy", "-A", "FORWARD", "-j", "ACCEPT")
	var other *legacy
	var err error
	w.Do(func() { other, err = openLegacy(unix.NFPROTO_IPV4) })
	if err != nil || other == nil {
		t.Fatal(other, err)
	}
	defer w.Do(func() {
		if err := other.close(); err != nil {
			t.Error(err)
		}
	})
	r := w.follow(v4.client.Addr().String(), v4.endpoint.String(), func() {
		if err := w.get(w.client, v4.endpoint); err != nil {
			t.Error(err)
		}
	})
	want := []string{"rules of iptables-legacy are not shown: another program listens to the log of rules (nfnetlink_log, group 0)"}
	if way := trace.New(r); way.Verdict != trace.Answered || cmp.Diff(want, way.Notes) != "" {
		t.Errorf("%s, notes %q", way.Verdict, way.Notes)
	}
}

// TestLegacyDrop: a rule, and a policy, that end the way.
func TestLegacyDrop(t *testing.T) {
	for name, tt := range map[string]struct{ rule, want string }{
		"rule": {
			"-A FORWARD -d 10.244.0.1 -m comment --comment closed -j DROP",
			`the request was dropped at ip forward: ip filter FORWARD, by the rule "closed"`,
		},
		"a rule in a chain of its own": {
			"-A OWN -j DROP", "the request was dropped at ip forward: ip filter OWN",
		},
		"policy": {"-P FORWARD DROP", "the request was dropped at ip forward: ip filter FORWARD, its policy"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorker(t, true)
			w.Run(t, "iptables-legacy", "-N", "OWN")
			w.Run(t, "iptables-legacy", "-A", "FORWARD", "-j", "OWN")
			w.Run(t, "iptables-legacy", strings.Fields(tt.rule)...)
			r := w.follow(v4.client.Addr().String(), v4.endpoint.String(), func() {
				if err := w.get(w.client, v4.endpoint); err == nil {
					t.Error("the request was answered")
				}
			})
			if way := trace.New(r); way.Verdict != trace.Dropped || way.Meaning != tt.want {
				t.Errorf("%s: %s, want %s", way.Verdict, way.Meaning, tt.want)
			}
		})
	}
}

// TestFlag: the bridge's own flag is as good as the sysctl.
func TestFlag(t *testing.T) {
	w := newWorker(t, false)
	w.load("table ip t { chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.0.1:8080;\n}\n}\n")
	w.Run(t, "ip", "link", "set", "cnio0", "type", "bridge", "nf_call_iptables", "1")
	r := w.follow(v4.client.Addr().String(), v4.service.String(), func() {
		if err := w.get(w.client, v4.service); err != nil {
			t.Error(err)
		}
	})
	way := trace.New(r)
	if way.Verdict != trace.Answered || way.Handing.Value != "0" || !way.Handing.Bridges["cnio0"] {
		t.Errorf("%s, %+v", way.Verdict, way.Handing)
	}
}

// TestPackets: it ends by itself when it has seen enough.
func TestPackets(t *testing.T) {
	w := newWorker(t, true)
	q, err := trace.ParseQuery("10.244.0.31", "10.244.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	var r *trace.Record
	w.Do(func() {
		r, err = Follow(t.Context(), q, Options{For: 1 << 40, Packets: 3, Ready: func() {
			go func() { done <- w.get(w.client, v4.endpoint) }()
		}})
	})
	if err, err2 := err, <-done; err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if got := len(trace.New(r).Packets); got != 3 {
		t.Errorf("%d packets, want 3", got)
	}
}

// TestTwoTracers: both see the way, and neither the other's tables.
func TestTwoTracers(t *testing.T) {
	w := newWorker(t, false)
	other, err := trace.ParseQuery("10.244.0.31", "10.244.0.1")
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.others(other)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	r := w.follow(v4.client.Addr().String(), v4.endpoint.String(), func() {
		if err := w.get(w.client, v4.endpoint); err != nil {
			t.Error(err)
		}
	})
	way := trace.New(r)
	request := firstOf(t, way, trace.Request)
	if way.Verdict != trace.Answered || road(request) != layer2 {
		t.Errorf("%s, %s", way.Verdict, road(request))
	}
	for _, step := range request.Steps {
		if len(step.Rules)+len(step.Passed) > 0 {
			t.Errorf("somebody else's chains at %s: %+v", step.Hook, step)
		}
	}
}

// others are the tables of another tracer.
func (w *worker) others(q trace.Query) (s socket, err error) {
	w.Do(func() {
		if s, err = openSocket(); err != nil {
			return
		}
		m := &marks{name: namePrefix + "1", ip: unix.NFPROTO_IPV4, owned: true, bridge: true}
		err = s.commit(m.messages(q, false)...)
	})
	return s, err
}
