package rtnl

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

func TestOneBridge(t *testing.T) {
	ns, pod := lab.NewNamespace(t), lab.NewNamespace(t)
	ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge", "nf_call_ip6tables", "1")
	ns.Run(t, "ip", "link", "add", "other", "type", "bridge")
	ns.Run(t, "ip", "link", "add", "veth9", "master", "other", "type", "veth", "peer", "name", "eth9", "netns", pod.Path())
	ns.Run(t, "ip", "link", "add", "veth0", "master", "cni0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	ns.Run(t, "ip", "tuntap", "add", "dev", "tap0", "mode", "tap")
	ns.Run(t, "ip", "link", "set", "tap0", "master", "cni0")
	ns.Run(t, "ip", "addr", "add", "10.244.0.1/24", "dev", "cni0")
	ns.Run(t, "ip", "addr", "add", "fd00::1/64", "dev", "cni0")
	inside := pod.Command("sleep", "inf")
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	defer inside.Wait()
	defer inside.Process.Kill()
	ns.Do(func() {
		b, err := BridgeNamed("cni0")
		if err != nil {
			t.Error(err)
			return
		}
		want := Bridge{Name: "cni0", Index: b.Index, NFCallIP6Tables: true}
		if diff := cmp.Diff(want, b); diff != "" || b.Index == 0 {
			t.Errorf("bridge (-want +got):\n%s", diff)
		}
		ports, err := PortsOf(t.Context(), b.Index)
		if diff := cmp.Diff([]Port{{Name: "tap0", Kind: "tun"}, {Name: "veth0", Kind: "veth", Away: true, Peer: 3}}, ports, cmpopts.IgnoreFields(Port{}, "Index")); diff != "" || err != nil {
			t.Errorf("ports (-want +got):\n%s%v", diff, err)
		}
		all, err := Addresses(t.Context())
		if id, err := SpaceOf(os.Getpid()); id != -1 || err != nil {
			t.Errorf("a namespace that no device leads into has the id %d, %v", id, err)
		}
		for range 1000 { // until it has gone there
			if id, err := SpaceOf(inside.Process.Pid); id >= 0 || err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if id, err := SpaceOf(inside.Process.Pid); id != ports[1].ID || err != nil {
			t.Errorf("the pod's namespace has the id %d, %v; the port leads to %d", id, err, ports[1].ID)
		}
		if _, err := SpaceOf(1 << 30); err == nil {
			t.Error("a process that is not there has a namespace")
		}
		addresses := []netip.Prefix{netip.MustParsePrefix("10.244.0.1/24"), netip.MustParsePrefix("fd00::1/64")}
		if diff := cmp.Diff(addresses, all[b.Index], cmpopts.EquateComparable(netip.Prefix{})); diff != "" || err != nil {
			t.Errorf("addresses (-want +got):\n%s%v", diff, err)
		}

		if err := SetNFCall(b.Index, "cni0", NFCall{0: true, 2: true}, true); err != nil {
			t.Error(err)
		}
		want.NFCallIPTables, want.NFCallARPTables = true, true
		b, err = BridgeNamed("cni0")
		if diff := cmp.Diff(want, b); diff != "" || err != nil {
			t.Errorf("two flags set (-want +got):\n%s%v", diff, err)
		}
		if err := SetNFCall(b.Index, "cni0", NFCall{0: true, 1: true}, false); err != nil {
			t.Error(err)
		}
		want.NFCallIPTables, want.NFCallIP6Tables = false, false
		b, err = BridgeNamed("cni0")
		if diff := cmp.Diff(want, b); diff != "" || err != nil {
			t.Errorf("two flags cleared (-want +got):\n%s%v", diff, err)
		}
	})
}

// Neither an index nor a name that has come to mean another device is hit.
func TestOnlyTheBridgeThatIsMeant(t *testing.T) {
	ns := lab.NewNamespace(t)
	all := NFCall{true, true, true}
	ns.Run(t, "ip", "link", "add", "cni0", "index", "77", "type", "bridge")
	ns.Run(t, "ip", "link", "del", "cni0")
	ns.Run(t, "ip", "link", "add", "virbr0", "index", "77", "type", "bridge")
	ns.Run(t, "ip", "link", "add", "cni0", "index", "78", "type", "veth", "peer", "name", "v1")
	ns.Do(func() {
		for name, err := range map[string]error{
			"the index of another bridge":     SetNFCall(77, "cni0", all, true),
			"the index of another kind":       SetNFCall(78, "cni0", all, true),
			"an index that is free":           SetNFCall(79, "cni0", all, true),
			"the name of another kind":        func() error { _, err := BridgeNamed("cni0"); return err }(),
			"a name that is free":             func() error { _, err := BridgeNamed("cni1"); return err }(),
			"a name that no device can carry": func() error { _, err := BridgeNamed("abcdefghijklmnopqrst"); return err }(),
		} {
			if !errors.Is(err, ErrNoBridge) {
				if name == "a name that no device can carry" && errors.Is(err, unix.ERANGE) {
					continue // the kernel's own word for it
				}
				t.Errorf("%s: %v", name, err)
			}
		}
		if b, err := BridgeNamed("virbr0"); err != nil || b.NFCallIPTables || b.NFCallIP6Tables || b.NFCallARPTables {
			t.Errorf("virbr0 was hit: %+v, %v", b, err)
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{2, 24, 0, 0, 3, 0, 0, 0, 8, 0, 2, 0, 10, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, p, ok := parseAddress(b); ok != p.IsValid() {
			t.Errorf("%v is %v", p, ok)
		}
	})
}

// A port is put in hairpin mode, and nothing else of it changes; what is not that
// port any more is left alone.
func TestSetHairpin(t *testing.T) {
	ns, pod := lab.NewNamespace(t), lab.NewNamespace(t)
	for _, name := range []string{"cni0", "other"} {
		ns.Run(t, "ip", "link", "add", name, "type", "bridge")
	}
	ns.Run(t, "ip", "link", "set", "other", "promisc", "on")
	ns.Run(t, "ip", "link", "add", "veth0", "master", "cni0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	ns.Run(t, "ip", "link", "set", "veth0", "type", "bridge_slave", "learning", "off", "guard", "on", "cost", "77")
	ns.Run(t, "ip", "link", "add", "free0", "type", "veth", "peer", "name", "free1")
	show := func() string { return ns.Run(t, "ip", "-d", "-o", "link", "show", "veth0") }
	before := show()
	ns.Do(func() {
		p, b, err := PortNamed("veth0")
		want := Port{Name: "veth0", Index: p.Index, Kind: "veth", Away: true, ID: p.ID, Peer: p.Peer}
		if err != nil || b.Name != "cni0" || b.Promiscuous || p.Index == 0 || p != want {
			t.Errorf("%+v, %+v, %v", p, b, err)
			return
		}
		if other, err := BridgeNamed("other"); err != nil || !other.Promiscuous {
			t.Errorf("%+v, %v", other, err)
		} else if err := SetHairpin(other.Index, p.Index, p.Name); !errors.Is(err, ErrNoBridge) {
			t.Errorf("of another bridge: %v", err)
		}
		for name, try := range map[string]error{
			"of another name": SetHairpin(b.Index, p.Index, "veth1"),
			"gone":            SetHairpin(b.Index, 99999, "veth0"),
		} {
			if !errors.Is(try, ErrNoBridge) {
				t.Errorf("%s: %v", name, try)
			}
		}
		for _, name := range []string{"free0", "cni0", "nothing"} {
			if _, _, err := PortNamed(name); !errors.Is(err, ErrNoBridge) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if p, _, _ := PortNamed("veth0"); p.Hairpin {
			t.Error("it was set all the same")
		}
		if err := SetHairpin(b.Index, p.Index, "veth0"); err != nil {
			t.Error(err)
		}
		if p, _, err := PortNamed("veth0"); err != nil || !p.Hairpin {
			t.Errorf("%+v, %v", p, err)
		}
	})
	if diff := cmp.Diff(strings.Replace(before, "hairpin off", "hairpin on", 1), show()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
