package rtnl

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

func TestSubscription(t *testing.T) {
	ns := lab.NewNamespace(t)
	var s *Subscription
	var err error
	ns.Do(func() { s, err = Subscribe(4<<20, "eth1", "eth1.100", "a-name-of-15-by") })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	ns.Run(t, "ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
	ns.Run(t, "ip", "link", "add", "bridge", "type", "bridge") // a name is not a kind
	ns.Run(t, "ip", "link", "set", "veth0", "name", "bridges")
	ns.Run(t, "ip", "link", "set", "bridge", "name", "cni0")
	ns.Run(t, "ip", "link", "del", "bridges")
	ns.Run(t, "ip", "link", "del", "cni0")
	// Of the others only those that are asked for, whatever they are.
	for _, name := range []string{"eth", "eth1", "eth10", "eth1.10", "eth1.100", "a-name-of-15-by", "a-name-of-15-bz"} {
		ns.Run(t, "ip", "link", "add", name, "type", "veth", "peer", "name", "peer")
		ns.Run(t, "ip", "link", "del", name)
	}
	ns.Run(t, "ip", "link", "add", "veth2", "type", "veth", "peer", "name", "peer")
	ns.Run(t, "ip", "link", "set", "veth2", "name", "eth1")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	want := []News{
		{"bridge", true, Appeared},
		{"cni0", true, Changed},
		{"cni0", true, Went},
		{"eth1", false, Appeared},
		{"eth1", false, Went},
		{"eth1.100", false, Appeared},
		{"eth1.100", false, Went},
		{"a-name-of-15-by", false, Appeared},
		{"a-name-of-15-by", false, Went},
		{"eth1", false, Changed},
	}
	var got []News
	for range want {
		news, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		got = append(got, news)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("news (-want +got):\n%s", diff)
	}

	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestJoinRefusesABadFilter(t *testing.T) {
	_, err := Join(0, 1, bridgesAnd(nil)[:2], 0) // no end
	want := "join group 1 of netlink protocol 0: attach filter: invalid argument"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
