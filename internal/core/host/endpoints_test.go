package host

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/kernel/netfilter"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

var one = []netip.Addr{netip.MustParseAddr("10.244.0.1")}

// TestEndpointsAge: how long an answer is used, depending on the answer.
func TestEndpointsAge(t *testing.T) {
	boom := errors.New("boom")
	for _, tt := range []struct {
		name  string
		list  []netip.Addr
		err   error
		looks []int // how many there were after 0, 59, 60 and 119 seconds
	}{
		{"endpoints", one, nil, []int{1, 1, 2, 2}},
		{"an error", nil, boom, []int{1, 1, 2, 2}},
		{"endpoints, and an error", one, boom, []int{1, 1, 2, 2}},
		{"none", nil, nil, []int{1, 2, 3, 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := asked{turn: make(chan struct{}, 1)}
				looks, start := 0, time.Now()
				var got []int
				for _, at := range []time.Duration{0, 59 * time.Second, time.Minute, 119 * time.Second} {
					time.Sleep(time.Until(start.Add(at)))
					list, err := a.endpoints(t.Context(), func(context.Context) ([]netip.Addr, error) {
						looks++
						return tt.list, tt.err
					})
					if !slices.Equal(list, tt.list) || !errors.Is(err, tt.err) {
						t.Errorf("after %v: %v, %v", at, list, err)
					}
					got = append(got, looks)
				}
				if !slices.Equal(got, tt.looks) {
					t.Errorf("looks %v, want %v", got, tt.looks)
				}
			})
		})
	}
}

// A caller who comes while another one asks waits for that answer, or for the end of its
// context. An answer that a context has cut short is not used for others.
func TestEndpointsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := asked{turn: make(chan struct{}, 1)}
		looks, hang := 0, make(chan struct{})
		look := func(ctx context.Context) ([]netip.Addr, error) {
			looks++
			select {
			case <-hang:
				return one, nil
			case <-ctx.Done():
				return one, ctx.Err()
			}
		}
		cut, cancel := context.WithCancel(t.Context())
		first, second, third := make(chan error), make(chan error), make(chan error)
		ask := func(ctx context.Context, done chan error) {
			_, err := a.endpoints(ctx, look)
			done <- err
		}
		go ask(cut, first)
		synctest.Wait()
		go ask(cut, second)
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("who asked: %v", err)
		}
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("who waited: %v", err)
		}
		looks = 0
		go ask(t.Context(), first)
		synctest.Wait()
		go ask(t.Context(), third)
		synctest.Wait()
		close(hang)
		if err := errors.Join(<-first, <-third); err != nil || looks != 1 {
			t.Errorf("%d looks, error %v", looks, err)
		}
	})
}

// TestEvidenceOfRules: rules of each kind are evidence for a bridge, and they are read
// only while something depends on them.
func TestEvidenceOfRules(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	program := standin.Build(t)
	for _, tt := range []struct{ mode, network, want string }{
		{"-backend=nft -family=ipv4", "10.244.0.250/24", "10.244.0.1, in its network 10.244.0.0/24"},
		{"-backend=nft -family=ipv6", "fd00:244::250/64", "fd00:244::1, in its network fd00:244::/64"},
		{"-backend=legacy -family=ipv4", "10.244.0.250/24", "10.244.0.1, in its network 10.244.0.0/24"},
		{"-backend=legacy -family=ipv6", "fd00:244::250/64", "fd00:244::1, in its network fd00:244::/64"},
		{"-mode=nftables -family=ipv4", "10.244.0.250/24", "10.244.0.1, in its network 10.244.0.0/24"},
		{"-mode=nftables -family=ipv6", "fd00:244::250/64", "fd00:244::1, in its network fd00:244::/64"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			ns, pod := lab.NewNamespace(t), lab.NewNamespace(t)
			ip := func(args ...string) { t.Helper(); ns.Run(t, "ip", args...) }
			ip("link", "add", "podbr", "type", "bridge")
			ip("addr", "add", tt.network, "dev", "podbr", "nodad")
			ip("link", "add", "docker0", "type", "bridge")
			ip("addr", "add", "172.17.0.1/16", "dev", "docker0")
			process := pod.Command("sleep", "inf")
			if err := process.Start(); err != nil {
				t.Fatal(err)
			}
			defer process.Wait()
			defer process.Process.Kill()
			looks, isPod := 0, false
			l := NewAt(t.TempDir(), Options{Bridges: Bridges, Endpoints: func(ctx context.Context) ([]netip.Addr, error) {
				looks++
				return netfilter.Endpoints(ctx)
			}, PodSpaces: func() ([]int, error) {
				if !isPod {
					return nil, nil
				}
				id, err := rtnl.SpaceOf(process.Process.Pid)
				return []int{id}, err
			}})
			defer l.Close()
			p := guard.Policy{Module: "br_netfilter", Bridges: &guard.Selection{Auto: true, Families: []guard.Family{guard.IPv4}}}
			why := func(name string) (why string) {
				t.Helper()
				ns.Do(func() {
					o := l.Survey(t.Context(), &p, 0)
					one := l.SurveyBridge(t.Context(), &p, name)
					for i := range o.Bridges {
						if o.Bridges[i].Name == name {
							why = p.Bridges.Choose(&o.Bridges[i], o.Evidence).Why
						}
					}
					if got := p.Bridges.Choose(&one.Bridges[0], one.Evidence).Why; got != why {
						t.Errorf("one bridge alone: %s\nall bridges: %s", got, why)
					}
				})
				return why
			}
			standin.Start(t, ns, program, append(strings.Fields(tt.mode), "-services=3")...)
			if got := why("podbr"); got != "no port leads into another network namespace" || looks != 0 {
				t.Errorf("%d looks, %s", looks, got)
			}
			for _, name := range []string{"podbr", "docker0"} {
				ip("link", "add", "veth-"+name, "master", name, "type", "veth", "peer", "name", "eth-"+name, "netns", pod.Path())
			}
			if got, want := why("podbr"), "a port leads into other network namespaces, but no CNI configuration has its name or its subnet, "+
				"and none leads to a pod, although kube-proxy's rules send to "+tt.want; got != want || looks != 1 {
				t.Errorf("a container that is no pod: %d looks\ngot  %s\nwant %s", looks, got, want)
			}
			isPod = true
			if got, want := why("podbr"), "a port leads into other network namespaces, one to a pod, and kube-proxy's rules send to "+tt.want; got != want || looks != 1 {
				t.Errorf("%d looks\ngot  %s\nwant %s", looks, got, want)
			}
			const left = "a port leads into other network namespaces, but no CNI configuration has its name or its subnet, and kube-proxy's rules send nothing into that"
			if got := why("docker0"); got != left || looks != 1 {
				t.Errorf("%d looks\ngot  %s\nwant %s", looks, got, left)
			}
		})
	}
}
