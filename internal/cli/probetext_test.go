package cli

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/diag/probe"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

func TestWriteCells(t *testing.T) {
	cell := func(path probe.Path, to probe.Target, p probe.Protocol, service string, o probe.Outcome, source string) probe.Cell {
		c := probe.Cell{Path: path, To: to, Family: probe.IPv4, Protocol: p, Service: service}
		c.Outcome, c.Took = o, time.Second
		if source != "" {
			c.Source = netip.MustParseAddrPort(source)
		}
		return c
	}
	pod := func(at string, o probe.Outcome) probe.Cell {
		c := cell(probe.Bridged, probe.PodIP, probe.TCP, "a/web", o, "")
		c.Asked = netip.MustParseAddrPort(at)
		if o == probe.Answered {
			c.Source = c.Asked
		}
		return c
	}
	for _, tt := range []struct {
		name  string
		cells []probe.Cell
		want  string
	}{
		{"TCP and UDP agree, or not", []probe.Cell{
			cell(probe.Bridged, probe.PodIP, probe.TCP, "", probe.Answered, "192.0.2.3:7"),
			cell(probe.Bridged, probe.PodIP, probe.UDP, "", probe.Answered, "192.0.2.3:7"),
			cell(probe.Bridged, probe.ClusterIP, probe.TCP, "", probe.WrongSource, "192.0.2.3:7"),
			cell(probe.Bridged, probe.ClusterIP, probe.UDP, "", probe.WrongSource, "192.0.2.3:7"),
			cell(probe.Hairpin, probe.ClusterIP, probe.TCP, "", probe.TimedOut, ""),
			cell(probe.Hairpin, probe.ClusterIP, probe.UDP, "", probe.Refused, ""),
		}, `
family  endpoint   pod IP    cluster IP
IPv4    same node  answered  reply from 192.0.2.3:7
IPv4    itself     -         TCP no answer within 1s, UDP refused
`},
		{"Services, those of the same node first", []probe.Cell{
			cell(probe.Routed, probe.ClusterIP, probe.TCP, "a/far", probe.Answered, "10.96.0.2:80"),
			cell(probe.Routed, probe.PodIP, probe.TCP, "a/far", probe.Answered, "10.244.1.1:80"),
			cell(probe.Bridged, probe.PodIP, probe.TCP, "a/near", probe.Answered, "10.244.0.1:80"),
			cell(probe.Bridged, probe.ClusterIP, probe.TCP, "a/near", probe.WrongSource, "10.244.0.1:80"),
		}, `
family  endpoint    pod IP    cluster IP                service
IPv4    same node   answered  reply from 10.244.0.1:80  a/near
IPv4    other node  answered  answered                  a/far
`},
		{"several pods that answer", []probe.Cell{
			pod("10.244.0.1:80", probe.Answered), pod("10.244.0.2:80", probe.Answered),
			cell(probe.Bridged, probe.ClusterIP, probe.TCP, "a/web", probe.Answered, "10.96.0.2:80"),
		}, `
family  endpoint   pod IP    cluster IP  service
IPv4    same node  answered  answered    a/web
`},
		{"one pod of several that does not", []probe.Cell{
			pod("10.244.0.1:80", probe.Answered), pod("10.244.0.2:80", probe.TimedOut), pod("10.244.0.3:80", probe.Answered),
			cell(probe.Bridged, probe.ClusterIP, probe.TCP, "a/web", probe.TimedOut, ""),
		}, `
family  endpoint   pod IP                                         cluster IP           service
IPv4    same node  2 answered, 10.244.0.2:80 no answer within 1s  no answer within 1s  a/web
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			writeCells(&b, tt.cells)
			if diff := cmp.Diff(tt.want[1:], b.String()); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCopyPorts: what a world's bridge has of the bridges of the host.
func TestCopyPorts(t *testing.T) {
	pod := rtnl.Port{Kind: "veth", Away: true}
	hairpin := pod
	hairpin.Hairpin = true
	some := &guard.Selection{Match: []string{"*"}, Ignore: []string{"lxdbr*"}}
	for _, tt := range []struct {
		name    string
		bridges []rtnl.Bridge
		want    probe.Settings
		of      []string
	}{
		{"none", nil, probe.Settings{}, nil},
		{"one", []rtnl.Bridge{{Name: "cni0", NFCallIPTables: true, Ports: []rtnl.Port{hairpin}}}, probe.Settings{Flags: probe.Flags{IPTables: true}}, []string{"cni0"}},
		{"two that differ", []rtnl.Bridge{
			{Name: "cni0", NFCallIPTables: true, NFCallIP6Tables: true, Ports: []rtnl.Port{hairpin}},
			{Name: "cni1", NFCallIP6Tables: true, NFCallARPTables: true, Ports: []rtnl.Port{pod, hairpin}},
		}, probe.Settings{Flags: probe.Flags{IP6Tables: true}, NoHairpin: true}, []string{"cni0", "cni1"}},
		{"without pods, and ignored", []rtnl.Bridge{
			{Name: "vmbr0", NFCallIPTables: true, Ports: []rtnl.Port{{Kind: "tun"}}},
			{Name: "lxdbr0", NFCallIPTables: true, Ports: []rtnl.Port{pod}},
		}, probe.Settings{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d proof
			var s probe.Settings
			d.copyPorts(&s, tt.bridges, some)
			if diff := cmp.Diff(tt.want, s) + cmp.Diff(tt.of, d.Bridges); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}
