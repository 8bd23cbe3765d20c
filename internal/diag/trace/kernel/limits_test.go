package kernel

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

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
		r, err = Follow(t.Context(), q, Options{For: time.Minute, Packets: 3, Ready: func() {
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

// TestTwoTracers: both see the path, and neither the other's tables.
func TestTwoTracers(t *testing.T) {
	w := newWorker(t, false)
	other, err := trace.ParseQuery("10.244.0.31", "10.244.0.1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.others(other)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
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
func (w *worker) others(q trace.Query) (c *nfnl.Conn, err error) {
	w.Do(func() {
		if c, err = nfnl.Dial(); err != nil {
			return
		}
		m := &marks{name: namePrefix + "1", ip: unix.NFPROTO_IPV4, owned: true, bridge: true}
		err = c.Commit(m.messages(q, false)...)
	})
	return c, err
}
