package guard

import (
	"fmt"
	"strings"
)

func (o *Observation) handedRow(b *Bridge, f Family) Need {
	n := Need{What: HandedNeed, State: NeedMet, Have: "yes"}
	switch {
	case o.handed(b, f):
	case o.Module.State == Unknown:
		n.State, n.Have = NeedUnknown, "not known"
	case o.Module.State == Absent:
		n.State, n.Have, n.Reason = NeedMissing, "no", "br_netfilter is not loaded"
	default:
		n.State, n.Have, n.Reason = NeedMissing, "no", fmt.Sprintf("%s is 0, and so is the bridge's own flag", f.Key())
	}
	return n
}

func (o *Observation) rulesRow(f Family) Need {
	n := Need{What: needRules}
	k := o.KubeProxy
	switch {
	case k == nil:
		n.State, n.Have = NeedUnknown, "not looked at"
	case k.serves(f) || k.anyFamily():
		n.State, n.Have = NeedMet, k.DescribeRules()
	case len(o.Needs.Others) > 0:
		n.State, n.Have = NeedMet, "none of kube-proxy; destinations are translated by "+enumerate(o.Needs.Others)
	case k.RulesErr != nil:
		n.State, n.Have, n.Next = NeedUnknown, "could not look: "+oneLine(k.RulesErr), lookAgain
	case o.Needs.OthersErr != nil:
		n.State, n.Have, n.Next = NeedUnknown, "could not look: "+oneLine(o.Needs.OthersErr), lookAgain
	default:
		n.State, n.Have = NeedMissing, "none"
		n.Reason = "no Service is reached before a proxy has written rules"
		n.Next = "see whether kube-proxy runs on this node; where another program takes its place without rules, as by BPF, nothing of this is needed"
	}
	return n
}

// oneLine is an error that can be of several.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// anyFamily reports rules of which the family is not told: mode ipvs, of which
// only the device is seen.
func (k *KubeProxy) anyFamily() bool {
	for _, r := range k.Rules {
		if !r.IPv4 && !r.IPv6 {
			return true
		}
	}
	return false
}

func (n *Needs) forwarding(p *Path) Need {
	host, key := n.Forwarding[p.Family], Key("net.ipv4.ip_forward")
	if p.Family == IPv6 {
		host, key = n.Forwarding[IPv6], "net.ipv6.conf.all.forwarding"
	}
	need := Need{What: ForwardingNeed, State: NeedMet, Have: "on"}
	off := func(v Value) bool { return v.State == Present && v.Have == "0" }
	switch {
	case p.Family == IPv6:
		// A bridged packet whose destination was translated is routed without a look
		// at the key (br_nf_pre_routing_finish_ipv6): seen on Linux 6.18.
		if off(host) || off(p.Forwarding) {
			need.Have = "off; Services with an endpoint on this node do not need it in IPv6, those elsewhere do"
			need.Setting = setting(key)
		}
	case p.Forwarding.State != Present:
		need.State, need.Have = NeedUnknown, "not known"
		if p.Forwarding.Err != nil {
			need.Have = fmt.Sprintf("could not look: %v", p.Forwarding.Err)
		}
	case off(p.Forwarding) && off(host):
		need.State, need.Have = NeedMissing, "off"
		need.brief = string(key) + " is 0"
		need.Reason = string(key) + " is 0: what a Service's rules have translated is not routed, and no Service answers"
		need.Next = "sysctl -w " + string(key) + "=1, and " + setting(key) + " under [sysctl] to have it kept"
		need.Setting = setting(key)
	case off(p.Forwarding):
		key = deviceKey(p.Bridge, "forwarding")
		need.State, need.Have = NeedMissing, "off for this bridge"
		need.brief = string(key) + " is 0"
		need.Reason = string(key) + " is 0, although net.ipv4.ip_forward is 1: what comes in by the bridge is not routed, and no Service answers"
		need.Next = "sysctl -w " + string(key) + "=1, and " + setting(key) + " under [sysctl] to have it kept"
		need.Setting = setting(key)
	case off(host):
		need.Have = "on for this bridge; net.ipv4.ip_forward is 0, so replies of other nodes are not routed to it"
		need.Setting = setting(key)
	}
	return need
}

// deviceKey is the key of one device below net.ipv4.conf.
func deviceKey(device, name string) Key {
	return Key("net.ipv4.conf." + strings.ReplaceAll(device, ".", "/") + "." + name)
}

// setting is the line of nfguard.toml that guards a key at 1.
func setting(k Key) string { return fmt.Sprintf("%q = 1", string(k)) }

func (p *Path) forward() Need {
	n := Need{What: ForwardNeed, State: NeedMet, Have: p.Forward.what(), Rule: p.Forward.Rule}
	switch p.Forward.Fate {
	case FateAccepts:
		if d := p.direct(); d.Fate != FateAccepts {
			n.Have = "accepts what is for Services; of what pods send each other by their own addresses: " + d.what()
			n.Rule = d.Rule
		}
	case FateDropsByPolicy, FateDropsByRule:
		n.missing(ForwardNeed, p)
	case FateUnknown:
		n.State, n.Next = NeedUnknown, sendPackets
		if p.Forward.Err != nil {
			n.Next = lookAgain + "; " + sendPackets
		}
	}
	return n
}

// missing says that FORWARD drops what is for Services.
func (n *Need) missing(hook string, p *Path) {
	f, d := &p.Forward, p.direct()
	if hook == BesideNeed {
		f, d = p.Beside.Service, p.Beside.Direct
		hook = "netfilter"
	}
	n.State, n.some = NeedMissing, f.Of != ""
	n.brief = fmt.Sprintf("%s drops %s (%s)", hook, f.whom(), f.By)
	n.Next = p.accept(f)
	by, while := "", " while their packets are handed over"
	if n.some {
		by = " by " + f.Of
	}
	if f.Frame {
		while = ""
	}
	switch {
	case d == nil || !d.drops():
		n.Reason = fmt.Sprintf("pods on %s do not reach Services with an endpoint on this node%s%s", p.Bridge, by, while)
	case f.Frame:
		n.Reason = fmt.Sprintf("pods on %s do not reach each other%s", p.Bridge, by)
	default:
		n.Reason = fmt.Sprintf("pods on %s reach neither each other nor Services with an endpoint on this node%s%s", p.Bridge, by, while)
	}
}

// beside says what the hooks other than forward do to what is for Services.
func (p *Path) beside() Need {
	f := p.Beside.Service
	n := Need{What: BesideNeed, State: NeedUnknown, Have: f.what(), Rule: f.Rule, Next: sendPackets}
	if f.drops() {
		n.missing(BesideNeed, p)
	}
	return n
}

// accept is what lets through what pods of a bridge send each other.
func (p *Path) accept(f *Forward) string {
	if strings.HasSuffix(f.By, ", in the table inet firewalld of nf_tables") {
		return fmt.Sprintf("firewall-cmd --permanent --zone=trusted --add-interface=%s && firewall-cmd --reload has firewalld accept it; nfguard trace shows where a packet dies", p.Bridge)
	}
	if f.Rule.Table != "filter" || f.Rule.Chain == "" {
		return "have it accept what comes in and goes out by " + p.Bridge + "; nfguard trace shows where a packet dies"
	}
	program := p.Family.table()
	if f.Rule.Legacy {
		program += "-legacy"
	}
	return fmt.Sprintf("%s -I FORWARD -i %s -o %s -j ACCEPT lets it through until a reboot; the CNI plugin or the firewall has to keep it; nfguard trace shows where a packet dies",
		program, p.Bridge, p.Bridge)
}

func (p *Path) route() Need {
	r := &p.Route
	n := Need{What: needRoute, State: NeedMet}
	to := "what is for " + r.To.String()
	switch {
	case p.Off:
		n.State, n.Have = NeedMissing, "IPv6 is off on the bridge"
		n.brief = "IPv6 is off on " + p.Bridge
		n.Reason = "net.ipv6.conf." + p.Bridge + ".disable_ipv6 is 1: what Services' rules have translated is dropped there"
		n.Next = "sysctl -w net.ipv6.conf." + strings.ReplaceAll(p.Bridge, ".", "/") + ".disable_ipv6=0, where Services over IPv6 are wanted"
		return n
	case r.State == RouteBack:
		n.Have = to + " goes out by " + p.Bridge
	case r.State == RouteElsewhere:
		n.State, n.Have = NeedMissing, to+" goes out by "+r.Device
		n.brief = n.Have
		n.Reason = "what a Service's rules have translated leaves the bridge, and does not arrive"
		n.Next = p.giveRoute()
	case r.State == RouteNone:
		n.State, n.Have = NeedMissing, "none to "+r.To.String()
		n.brief = "there is no route to " + r.To.String()
		n.Reason = "the bridge has no address in the network of its pods, and no route leads there: what Services' rules have translated is dropped"
		n.Next = p.giveRoute()
	case r.State == RouteFiltered:
		n.Have = "see rp_filter"
	case r.Err != nil:
		n.State, n.Have = NeedUnknown, fmt.Sprintf("could not look: %v", r.Err)
	default:
		n.State, n.Have, n.Next = NeedUnknown, "no address of a pod is known to ask for", sendPackets
	}
	return n
}

func (p *Path) giveRoute() string {
	word := "ip route"
	if p.Family == IPv6 {
		word = "ip -6 route"
	}
	return fmt.Sprintf("%s get %s shows it; the bridge needs its address in the pods' network, as isGateway of the CNI plugin bridge gives it, or a route to that by %s",
		word, p.Route.To, p.Bridge)
}

func (p *Path) filter() Need {
	r := &p.Filtered
	n := Need{What: needFilter, State: NeedMet, Have: "lets it through"}
	if r.State == RouteFiltered {
		n.State, n.Have = NeedMissing, "drops what comes from "+r.From.String()
		n.brief = fmt.Sprintf("%s drops what comes from %s", r.Strict, r.From)
		n.Reason = fmt.Sprintf("the node's way to %s is not by %s, and %s is on: such a packet is taken for forged", r.From, p.Bridge, r.Strict)
		n.Next = fmt.Sprintf("ip route get %s shows the way; where that is meant to be so, sysctl -w %s=2 has the kernel take it", r.From, r.Strict)
	}
	return n
}

// modulesRow says what there is of modules. In the running kernel all are there, as the rules show.
func (o *Observation) modulesRow() (Need, bool) {
	if o.KubeProxy.State() != ProxyProgrammed {
		return Need{}, false
	}
	n := Need{What: needModules, State: NeedMet, Have: "there, as the rules show"}
	for _, l := range o.Needs.Lacks {
		n.Have += "; not " + l.Module + " in the installed Linux " + l.Release
	}
	return n, true
}

// lacking are findings about installed kernels that the rules would not work with.
func (n *Needs) lacking() []Finding {
	var list []Finding
	for i, l := range n.Lacks {
		if i > 0 && n.Lacks[i-1].Release == l.Release {
			continue // told with the first one
		}
		var names []string
		for _, other := range n.Lacks[i:] {
			if other.Release == l.Release {
				names = append(names, other.Module)
			}
		}
		list = append(list, Finding{
			Subject: "kube-proxy",
			Sentence: fmt.Sprintf("the installed Linux %s has no %s, which rules of kube-proxy in %s need: after a reboot into it no Service is reached",
				l.Release, enumerate(names), l.For),
			Next: "install the package with the rest of that kernel's modules before the reboot",
		})
	}
	return list
}
