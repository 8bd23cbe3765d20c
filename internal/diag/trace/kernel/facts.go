package kernel

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// readNumber reads a number of procfs of the calling thread's namespace.
func readNumber(path string) (int, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return n, err == nil
}

// facts reads the settings that can end the path of a packet to the server. What
// cannot be read is left out: it tells nothing then.
func (f *follower) facts(ctx context.Context) *trace.Facts {
	v6 := f.query.Client.Is6()
	facts := &trace.Facts{ForwardingKey: "net.ipv4.ip_forward", ReversePath: map[string]int{}, NoHairpin: map[string]bool{}}
	if v6 {
		facts.ForwardingKey = "net.ipv6.conf.all.forwarding"
	}
	if n, ok := readNumber("/proc/sys/" + strings.ReplaceAll(facts.ForwardingKey, ".", "/")); ok {
		facts.Forwarding = strconv.Itoa(n)
	}
	all, _ := readNumber("/proc/sys/net/ipv4/conf/all/rp_filter")
	names := map[int]string{}
	for _, d := range f.devices {
		names[d.Index] = d.Name
		if one, ok := readNumber("/proc/sys/net/ipv4/conf/" + strings.ReplaceAll(d.Name, "/", ".") + "/rp_filter"); ok && !v6 {
			facts.ReversePath[d.Name] = max(all, one)
		}
	}
	// IPv4 asks the device that a packet came in by; what the node's key says is no
	// more than what they all got when it was written.
	if in := names[f.cameBy()]; in != "" && !v6 && facts.Forwarding == "1" {
		if n, ok := readNumber("/proc/sys/net/ipv4/conf/" + in + "/forwarding"); ok && n == 0 {
			facts.ForwardingOf, facts.Forwarding = in, "0"
			facts.ForwardingKey = "net.ipv4.conf." + strings.ReplaceAll(in, ".", "/") + ".forwarding"
		}
	}
	facts.ConntrackCount, _ = readNumber("/proc/sys/net/netfilter/nf_conntrack_count")
	facts.ConntrackMax, _ = readNumber("/proc/sys/net/netfilter/nf_conntrack_max")
	server := f.endpoints()[0].Addr()
	facts.Endpoint = f.endpoint(ctx, server)
	facts.To = lookUp(ctx, server, f.query.Client, f.cameBy())
	facts.Back = lookUp(ctx, f.query.Client, netip.Addr{}, 0)
	if bridges, err := rtnl.Bridges(ctx); err == nil {
		for _, b := range bridges {
			for _, p := range b.Ports {
				if !p.Hairpin {
					facts.NoHairpin[p.Name] = true
				}
			}
		}
	}
	facts.Counters = f.risen()
	return facts
}

// cameBy is the device at which IP got the client's packets, or 0.
func (f *follower) cameBy() int {
	for i := range f.record.Events {
		e := &f.record.Events[i]
		if e.Layer == trace.IP && e.Hook == "prerouting" && e.Headers != nil && e.Headers.Source.Addr() == f.query.Client && e.In != 0 {
			return e.In
		}
	}
	return 0
}

// lookUp asks the routes and neighbours for an address. It is nil where the
// kernel's answer says nothing of a route.
func lookUp(ctx context.Context, to, from netip.Addr, in int) *trace.Lookup {
	l := &trace.Lookup{Address: to}
	if in == 0 {
		from = netip.Addr{}
	}
	path, err := rtnl.PathTo(to, from, in)
	switch {
	case err == nil:
	case errors.Is(err, unix.ENETUNREACH):
		l.Missing = "no_route"
		return l
	case errors.Is(err, unix.EHOSTUNREACH):
		// Also where forwarding is off, which is known by itself.
		l.Missing = "unreachable"
		return l
	case errors.Is(err, unix.EACCES):
		l.Missing = "prohibit"
		return l
	case errors.Is(err, unix.EXDEV):
		l.Missing = "rp_filter"
		return l
	case errors.Is(err, unix.EINVAL):
		l.Missing = "blackhole"
		return l
	default:
		return nil
	}
	l.Local, l.Next = path.Local, path.Next
	if list, err := rtnl.Devices(ctx); err == nil {
		for _, d := range list {
			if d.Index == path.Device {
				l.Device = d.Name
			}
		}
	}
	if n, err := rtnl.NeighbourOf(path.Device, path.Next); err == nil {
		l.Neighbour, l.MAC = n.State, n.MAC
	}
	return l
}

// telling are the counters that tell of a reason for a drop.
var telling = map[string]bool{
	"TcpExt ListenOverflows": true, "TcpExt IPReversePathFilter": true,
	"Udp RcvbufErrors": true, "Ip InHdrErrors": true,
}

// counters reads those of a network namespace, by a process in it, or by the
// calling thread.
func counters(process string) map[string]uint64 {
	found := make(map[string]uint64)
	for _, file := range []string{"snmp", "netstat"} {
		b, err := os.ReadFile("/proc/" + process + "/net/" + file)
		if err != nil {
			continue
		}
		parseCounters(string(b), found)
	}
	return found
}

// parseCounters reads pairs of lines: the names, and the values.
func parseCounters(text string, into map[string]uint64) {
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(names) == 0 || names[0] != fields[0] || len(names) != len(fields) {
			names = fields
			continue
		}
		for i, v := range fields[1:] {
			name := strings.TrimSuffix(names[0], ":") + " " + names[i+1]
			if n, err := strconv.ParseUint(v, 10, 64); err == nil && telling[name] {
				into[name] = n
			}
		}
		names = nil
	}
}

// endpoint looks at the network namespace that has the address that answers. It is
// nil where none of this node has it.
func (f *follower) endpoint(ctx context.Context, a netip.Addr) *trace.Endpoint {
	inode, path := f.own, ""
	if !has(ctx, a) {
		t, ok := f.tenantWith(ctx, a)
		if !ok {
			return nil
		}
		inode, path = t.inode, t.path
	}
	e := &trace.Endpoint{Place: f.places[inode]}
	if path != "" {
		_ = within(path, func() { e.Back = lookUp(ctx, f.query.Client, netip.Addr{}, 0) }) // nil is "not looked up"
	}
	if process, ok := f.processIn(inode); ok {
		e.Listeners = listeners(process, f.query.Protocol, f.endpoints()[0].Port())
	}
	return e
}

// endpoints are where requests went to in the end, the last first; the server
// where none was seen.
func (f *follower) endpoints() (list []netip.AddrPort) {
	for i := range slices.Backward(f.record.Events) {
		if h := f.record.Events[i].Headers; h != nil && h.Source.Addr() == f.query.Client && !h.Protocol.Echo() {
			list = append(list, h.Destination)
			break
		}
	}
	for _, c := range slices.Backward(f.record.Connections) {
		list = append(list, c.Endpoint())
	}
	return append(list, netip.AddrPortFrom(f.query.Server, f.query.Port))
}

// countAtStart reads the counters of all places as they are at the beginning.
func (f *follower) countAtStart() {
	f.before = make(map[uint64]map[string]uint64, len(f.places))
	for inode := range f.places {
		if process, ok := f.processIn(inode); ok {
			f.before[inode] = counters(process)
		}
	}
}

// processIn is the name below /proc of a process in a namespace.
func (f *follower) processIn(inode uint64) (string, bool) {
	if inode == f.own {
		return "thread-self", true
	}
	t, ok := f.tenants[inode]
	return strconv.Itoa(t.pid), ok && t.pid != 0
}

// risen is the counters that rose since the beginning.
func (f *follower) risen() (list []trace.Counter) {
	for inode, before := range f.before {
		process, ok := f.processIn(inode)
		if !ok {
			continue
		}
		for name, n := range counters(process) {
			if n > before[name] {
				list = append(list, trace.Counter{Place: f.places[inode], Name: name, Rose: n - before[name]})
			}
		}
	}
	return list
}
