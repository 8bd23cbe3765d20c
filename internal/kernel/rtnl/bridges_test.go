package rtnl

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// bridgesIn lists the bridges of ns.
func bridgesIn(ctx context.Context, ns *lab.Namespace) (list []Bridge, err error) {
	ns.Do(func() { list, err = Bridges(ctx) })
	return list, err
}

func TestBridges(t *testing.T) {
	ns := lab.NewNamespace(t)
	list, err := bridgesIn(t.Context(), ns)
	if err != nil || len(list) != 0 {
		t.Fatalf("an empty namespace has the bridges %+v, error %v", list, err)
	}

	ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge", "nf_call_iptables", "1", "nf_call_arptables", "1")
	ns.Run(t, "ip", "link", "add", "br-b", "type", "bridge", "nf_call_ip6tables", "1")
	ns.Run(t, "ip", "link", "add", "br-a", "type", "bridge")
	ns.Run(t, "ip", "link", "add", "v1", "type", "veth", "peer", "name", "v0")
	ns.Run(t, "ip", "tuntap", "add", "dev", "tap0", "mode", "tap")
	pod := lab.NewNamespace(t)
	ns.Run(t, "ip", "link", "add", "pod0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	for _, port := range []string{"v1", "v0", "tap0", "pod0"} {
		ns.Run(t, "ip", "link", "set", port, "master", "cni0")
	}
	ns.Run(t, "ip", "link", "set", "pod0", "type", "bridge_slave", "hairpin", "on")
	ns.Run(t, "ip", "link", "set", "cni0", "up")

	got, err := bridgesIn(t.Context(), ns)
	if err != nil {
		t.Fatal(err)
	}
	want := []Bridge{
		{Name: "br-a"},
		{Name: "br-b", NFCallIP6Tables: true},
		{Name: "cni0", Up: true, NFCallIPTables: true, NFCallARPTables: true, Ports: []Port{
			{Name: "pod0", Kind: "veth", Away: true, Peer: 2, Hairpin: true}, {Name: "tap0", Kind: "tun"}, {Name: "v0", Kind: "veth"}, {Name: "v1", Kind: "veth"},
		}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Bridge{}, "Index"), cmpopts.IgnoreFields(Port{}, "Index")); diff != "" {
		t.Errorf("bridges (-want +got):\n%s", diff)
	}
	for _, b := range got {
		if b.Index == 0 {
			t.Errorf("%s has no index", b.Name)
		}
	}
}

func TestUninterrupted(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		interrupted int   // this many dumps
		err         error // of the dump after them
		want        string
		dumps       int
	}{
		"quiet host":             {dumps: 1, want: "<nil>"},
		"one pod came":           {interrupted: 1, dumps: 2, want: "<nil>"},
		"pods come and go":       {interrupted: attempts, dumps: attempts, want: "changed during each of 10 attempts: results may be incomplete or inconsistent"},
		"another error":          {err: broken, dumps: 1, want: "broken"},
		"then another error":     {interrupted: 2, err: broken, dumps: 3, want: "broken"},
		"quiet at the very last": {interrupted: attempts - 1, dumps: attempts, want: "<nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			dumps := 0
			_, err := uninterrupted(t.Context(), func() ([][]byte, error) {
				dumps++
				if dumps <= tt.interrupted {
					return nil, nl.ErrDumpInterrupted
				}
				return nil, tt.err
			})
			if got := fmt.Sprint(err); got != tt.want || dumps != tt.dumps {
				t.Errorf("%d dumps, error %q; want %d dumps, error %q", dumps, got, tt.dumps, tt.want)
			}
		})
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := uninterrupted(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error %v", err)
	}
}

// FuzzParseLink proves that no message, however broken, is worse than empty.
func FuzzParseLink(f *testing.F) {
	f.Add([]byte(nil))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, nl.ZeroTerminated("bridge"))
	data := info.AddRtAttr(unix.IFLA_INFO_DATA, nil)
	data.AddRtAttr(unix.IFLA_BR_NF_CALL_IPTABLES, []byte{1})
	data.AddRtAttr(unix.IFLA_BR_VLAN_FILTERING, []byte{1})
	seed := append(make([]byte, 16), info.Serialize()...)
	if l := parseLink(seed); !l.iptables || !l.vlans || l.arptables {
		f.Fatal("the seed is not a bridge with its flags on")
	}
	f.Add(seed)
	f.Add(seed[:len(seed)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		l := parseLink(b)
		if l.iptables && l.kind != "bridge" {
			t.Errorf("a %q with the flags of a bridge", l.kind)
		}
	})
}
