package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/kernel/netfilter"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Bounds on a look at what Services need: of each bridge so many pods are asked
// for their addresses, and the way between so many is asked for. The whole look
// ends after needsLimit, and after needsFirst where it is all that is looked at,
// before anything is put right; what was not seen then is not known. To find what
// is at the hooks among the chains of 49,000 Services takes 200 ms, and several
// times that on a node that is busy.
const (
	maxPaths   = 128 // of bridges, two of each
	maxSpaces  = 32
	maxPods    = 8
	needsLimit = 5 * time.Second
	needsFirst = 100 * time.Millisecond
)

// passages is what FORWARD did at the last look. The rounds of a pass follow each
// other within passagesServe.
type passages struct {
	at     time.Time
	routes []netfilter.Route
	found  []netfilter.Passage
	err    error
}

const passagesServe = 2 * time.Second

// look asks what FORWARD does, unless it just has.
func (p *passages) look(ctx context.Context, routes []netfilter.Route) ([]netfilter.Passage, error) {
	if time.Since(p.at) > passagesServe || !slices.EqualFunc(routes, p.routes, sameRoute) {
		p.found, p.err = netfilter.Passages(ctx, routes)
		p.at, p.routes = time.Now(), routes
	}
	return p.found, p.err
}

func sameRoute(a, b netfilter.Route) bool {
	return a.Bridge == b.Bridge && a.Index == b.Index && a.IPv6 == b.IPv6 && a.From == b.From && a.To == b.To && slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Connected, b.Connected)
}

// needs looks at what Services need beside the keys and flags. It runs no program,
// makes and loads nothing.
func (l *Linux) needs(ctx context.Context, p *guard.Policy, o *guard.Observation, limit time.Duration) *guard.Needs {
	step.Begin(ctx, "looking at what Services need beside the keys")
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	n := &guard.Needs{Forwarding: [2]guard.Value{l.read("net.ipv4.ip_forward"), l.read("net.ipv6.conf.all.forwarding")}}
	var routes []netfilter.Route
	var others [][]netfilter.Route
	connected := connected(ctx)
	for i := range o.Bridges {
		b := &o.Bridges[i]
		if b.Ports.VMs == 0 && (b.Ports.Pods == 0 || p.Ignores(b.Name)) {
			continue
		}
		if len(n.Paths) >= maxPaths || ctx.Err() != nil {
			break // of the others nothing is said
		}
		pods, ports := podAddresses(ctx, b)
		for _, f := range []guard.Family{guard.IPv4, guard.IPv6} {
			if f == guard.IPv6 && o.IPv6Off {
				continue
			}
			path := l.between(b, f, pods)
			n.Paths = append(n.Paths, path)
			r := netfilter.Route{Bridge: b.Name, Index: b.Index, IPv6: f == guard.IPv6, Ports: ports, Connected: connected}
			if path.Route.From.IsValid() {
				r.From, r.To = single(path.Route.From), single(path.Route.To)
			}
			if !path.Route.Seen {
				r.From = network(b, f)
				r.To = r.From
			}
			routes = append(routes, r)
			others = append(others, otherPairs(pods, r))
		}
	}
	fates, err := l.passages.look(ctx, routes)
	if err == nil {
		fates = l.compare(ctx, others, fates)
	}
	for i := range n.Paths {
		p := &n.Paths[i]
		if err != nil {
			p.Forward.Err = err
			continue
		}
		service, direct := &fates[i].Service, &fates[i].Direct
		p.Forward = verdict(&service.Forward)
		if d := verdict(&direct.Forward); d != p.Forward {
			p.Direct = &d
		}
		for to, v := range map[**guard.Forward]*netfilter.Verdict{&p.Beside.Service: &service.Beside, &p.Beside.Direct: &direct.Beside} {
			if v.Fate != netfilter.Accepted {
				f := verdict(v)
				*to = &f
			}
		}
	}
	if len(n.Paths) > 0 && o.KubeProxy != nil {
		n.Lacks = l.lacks(o.KubeProxy.Rules)
	}
	if len(n.Paths) > 0 && o.KubeProxy.State() != guard.ProxyProgrammed {
		n.Others, n.OthersErr = netfilter.Translators(ctx)
	}
	return n
}

// connected are the networks that this host has an address in; none where that
// could not be read.
func connected(ctx context.Context) (list []netip.Prefix) {
	all, _ := rtnl.Addresses(ctx)
	for _, addresses := range all {
		for _, a := range addresses {
			if !a.IsSingleIP() {
				list = append(list, a.Masked())
			}
		}
	}
	slices.SortFunc(list, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return list
}

// verdict is what netfilter does in the words of package guard.
func verdict(v *netfilter.Verdict) guard.Forward {
	f := guard.Forward{Fate: fate(v.Fate), By: v.By, Frame: v.Frame, Of: v.Of}
	if v.At.Chain != "" {
		f.Rule = guard.Rule{Table: v.At.Table, Chain: v.At.Chain, Number: v.At.Number, Legacy: v.At.Legacy}
	}
	return f
}

func fate(f netfilter.Fate) guard.Fate {
	switch f {
	case netfilter.Accepted:
		return guard.FateAccepts
	case netfilter.DroppedByPolicy:
		return guard.FateDropsByPolicy
	case netfilter.DroppedByRule:
		return guard.FateDropsByRule
	case netfilter.Depends:
	}
	return guard.FateUnknown
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// read is a sysctl that is not guarded, or not for this.
func (l *Linux) read(k guard.Key) guard.Value {
	text, err := os.ReadFile(filepath.Join(l.o.Proc, "sys", k.Path()))
	if err != nil {
		return unread(err)
	}
	return guard.Value{State: guard.Present, Have: strings.TrimSuffix(string(text), "\n")}
}

// podAddresses are those that pods have behind the ports of a bridge, as far as
// the kernel tells: an older one does not; and the names of the ports.
func podAddresses(ctx context.Context, b *guard.Bridge) (list []netip.Addr, names []string) {
	ports, err := rtnl.PortsOf(ctx, b.Index)
	if err != nil {
		return nil, nil
	}
	asked := 0
	for _, p := range ports {
		if p.Kind != "veth" || !p.Away {
			continue
		}
		names = append(names, p.Name)
		if asked++; asked > maxSpaces {
			continue // it is only named
		}
		all, err := rtnl.AddressesIn(ctx, p.ID)
		if err != nil {
			continue // the pod is gone, or the kernel does not tell
		}
		for _, a := range all[p.Peer] {
			if !a.Addr().IsLinkLocalUnicast() {
				list = append(list, a.Addr())
			}
		}
	}
	return list, names
}

// network is that of a bridge's own address in a family, or zero.
func network(b *guard.Bridge, f guard.Family) netip.Prefix {
	for _, a := range b.Addresses {
		if a.Addr().Is4() == (f == guard.IPv4) && !a.Addr().IsLinkLocalUnicast() && !a.IsSingleIP() {
			return a.Masked()
		}
	}
	return netip.Prefix{}
}

// between looks at how one pod of a bridge reaches another, in one family.
func (l *Linux) between(b *guard.Bridge, f guard.Family, pods []netip.Addr) guard.Path {
	ip := "net.ipv4"
	if f == guard.IPv6 {
		ip = "net.ipv6"
	}
	key := func(device, name string) guard.Key {
		return guard.Key(ip + ".conf." + strings.ReplaceAll(device, ".", "/") + "." + name)
	}
	p := guard.Path{Bridge: b.Name, Family: f, Forwarding: l.read(key(b.Name, "forwarding"))}
	p.Off = f == guard.IPv6 && l.read(key(b.Name, "disable_ipv6")).Have == "1"

	pods = slices.DeleteFunc(slices.Clone(pods), func(a netip.Addr) bool { return a.Is4() != (f == guard.IPv4) })
	seen := len(pods) > 0
	if len(pods) < 2 { // what the bridge's own network has beside
		pods = append(pods, beside(b, f, pods)...)
	}
	pods = pods[:min(len(pods), maxPods)]
	if len(pods) == 0 || p.Off {
		return p
	}
	if len(pods) == 1 { // the way to it is the same for whoever asks
		pods = append(pods, pods[0].Next())
	}
	// What comes in by a device that does not forward has no way at all: then the
	// question is for the way of what the node itself sends.
	forwards := f == guard.IPv6 || p.Forwarding.Have != "0"
	for i, to := range pods {
		r := way(b, pods[(i+1)%len(pods)], to, forwards)
		if r.State == guard.RouteFiltered {
			if r.Strict = l.strict(key("all", "rp_filter"), key(b.Name, "rp_filter")); r.Strict == "" {
				r.State = guard.RouteUnknown // it is refused for another reason
			}
		}
		r.Seen = seen
		switch {
		case r.State == guard.RouteFiltered:
			if p.Filtered.State != guard.RouteFiltered {
				p.Filtered = r
			}
			if i == 0 {
				p.Route = r
			}
		case i == 0, p.Route.State == guard.RouteBack, p.Route.State == guard.RouteFiltered:
			p.Route = r
		}
	}
	return p
}

// strict is the key that has the kernel drop what comes from where it would not
// send to: the greater value of the two counts. It is "" where neither does.
func (l *Linux) strict(all, device guard.Key) guard.Key {
	host, own := l.read(all).Have, l.read(device).Have
	switch {
	case max(host, own) <= "0":
		return ""
	case own >= host:
		return device
	}
	return all
}

// beside are two addresses of the bridge's network that are neither its own nor
// among those.
func beside(b *guard.Bridge, f guard.Family, those []netip.Addr) []netip.Addr {
	n := network(b, f)
	if !n.IsValid() {
		return nil
	}
	var list []netip.Addr
	for a := n.Addr().Next(); n.Contains(a) && len(list) < 2; a = a.Next() {
		own := slices.ContainsFunc(b.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
		if !own && !slices.Contains(those, a) {
			list = append(list, a)
		}
	}
	return list
}

// way asks the kernel for the way from one pod of a bridge to another.
func way(b *guard.Bridge, from, to netip.Addr, forwards bool) guard.Route {
	r := guard.Route{From: from, To: to}
	var index int
	var err error
	if forwards {
		index, err = rtnl.RouteThrough(from, to, b.Name)
	} else {
		index, err = rtnl.RouteTo(to)
	}
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL): // the latter since Linux 6.13
		r.State, r.Err = guard.RouteFiltered, err
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES):
		r.State = guard.RouteNone
	case err != nil:
		r.Err = err
	case index == b.Index:
		r.State = guard.RouteBack
	default:
		r.State, r.Device = guard.RouteElsewhere, rtnl.NameOf(index)
		if r.Device == "" {
			r.Device = fmt.Sprintf("device %d", index)
		}
	}
	return r
}
