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
	ns.Do(func() { s, err = Subscribe(4<<20, false, "eth1", "eth1.100", "a-name-of-15-by") })
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
		{Name: "bridge", Bridge: true, Change: Appeared},
		{Name: "cni0", Bridge: true, Change: Changed},
		{Name: "cni0", Bridge: true, Change: Went},
		{Name: "eth1", Change: Appeared},
		{Name: "eth1", Change: Went},
		{Name: "eth1.100", Change: Appeared},
		{Name: "eth1.100", Change: Went},
		{Name: "a-name-of-15-by", Change: Appeared},
		{Name: "a-name-of-15-by", Change: Went},
		{Name: "eth1", Change: Changed},
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

// Of ports those are told that are not in hairpin mode, when they are added and
// when they lose it; nothing of devices that are no ports, and of others.
func TestSubscriptionToPorts(t *testing.T) {
	ns := lab.NewNamespace(t)
	ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	var s *Subscription
	var err error
	ns.Do(func() { s, err = Subscribe(4<<20, true, "eth1") })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ns.Run(t, "ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
	ns.Run(t, "ip", "link", "set", "veth0", "up")
	ns.Run(t, "ip", "link", "set", "veth0", "master", "cni0")
	ns.Run(t, "ip", "link", "set", "veth0", "type", "bridge_slave", "hairpin", "on")
	ns.Run(t, "ip", "link", "set", "veth0", "type", "bridge_slave", "learning", "off")
	ns.Run(t, "ip", "link", "set", "veth0", "type", "bridge_slave", "learning", "on", "hairpin", "off")
	ns.Run(t, "ip", "link", "set", "veth0", "nomaster")
	ns.Run(t, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "peer")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []News
	for {
		news, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		if news.Name == "cni0" { // its link comes up with the port's, when that is
			continue
		}
		if len(got) == 0 || got[len(got)-1] != news {
			got = append(got, news)
		}
		if news.Name == "eth1" {
			break
		}
	}
	want := []News{{Name: "veth0", Port: true, Change: Changed}, {Name: "eth1", Change: Appeared}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("news (-want +got):\n%s", diff)
	}

	ns.Run(t, "ip", "link", "set", "veth0", "master", "cni0")
	ns.Run(t, "ip", "link", "set", "veth0", "type", "bridge_slave", "hairpin", "on")
	ns.Do(func() { s, err = Subscribe(4<<20, true) })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	next := func() string {
		for {
			if news, err := s.Next(ctx); err != nil {
				t.Fatal(err)
			} else if news.Port {
				return news.Name
			}
		}
	}
	for range 10 {
		ns.Run(t, "ip", "link", "set", "veth0", "type", "bridge_slave", "learning", "off")
		ns.Run(t, "ip", "link", "set", "veth0", "type", "bridge_slave", "learning", "on")
	}
	ns.Run(t, "ip", "link", "set", "veth1", "master", "cni0")
	if got := next(); got != "veth1" {
		t.Errorf("news of %s, which is in hairpin mode", got)
	}
	ns.Run(t, "ip", "link", "set", "veth0", "type", "bridge_slave", "hairpin", "off")
	for next() != "veth0" {
	}
}

func TestJoinRefusesABadFilter(t *testing.T) {
	_, err := Join(0, 1, bridgesAnd(false, nil)[:2], 0) // no end
	want := "join group 1 of netlink protocol 0: attach filter: invalid argument"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
