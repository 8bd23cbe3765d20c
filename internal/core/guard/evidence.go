package guard

import (
	"fmt"
	"net/netip"
)

// Evidence is what is known that can say that a bridge carries pods.
type Evidence struct {
	CNI       CNI
	Endpoints *Endpoints // nil: not looked at
}

// CNI is what is configured for container networks on this host.
type CNI struct {
	Networks []Network
	Err      error // what could not be read or understood; nil when all was
}

// Network is one network of the CNI plugin "bridge", or of one that runs it.
type Network struct {
	Name    string
	Place   string // its file
	Bridge  string // the name of its bridge
	Subnets []netip.Prefix
}

// Endpoints are where kube-proxy's rules send connections.
type Endpoints struct {
	Addresses []netip.Addr   // those in the networks of bridges that are [Selection.Undecided]; of others, or not
	Host      []netip.Prefix // the addresses of this host, each with its network
	Err       error          // why not all are known; nil when they are
	Pods      PodSpaces
}

// PodSpaces are the network namespaces in which pods run, by the ids that they
// have here.
type PodSpaces struct {
	IDs []int
	Err error // why not all are known; nil when they are
}

// choose keeps a bridge that carries pods, as far as that can be certain: ports
// lead into other network namespaces, as those of containers of any kind do,
// and a CNI configuration has the bridge's name or its subnet, or kube-proxy's
// rules point into that and a pod is seen to be behind a port. Whoever may write
// the endpoints of a Service chooses where the rules point.
//
// A bridge that a configuration names and that has no pod for now is not kept,
// and its evidence is not gone: the next pod is a matter of time.
func (e *Evidence) choose(b *Bridge) Choice {
	named := e.CNI.evidence(b)
	if b.Ports.Pods == 0 {
		return Choice{Why: "no port leads into another network namespace", Gone: named == "" && e.CNI.Err == nil}
	}
	ports := "a port leads"
	if b.Ports.Pods > 1 {
		ports = fmt.Sprintf("%d ports lead", b.Ports.Pods)
	}
	ports += " into other network namespaces"
	if named != "" {
		return Choice{Kept: true, Why: ports + ", and " + named}
	}
	// What the rules can say of it.
	rules, tell := e.Endpoints, b.Ports.apart() && len(b.Addresses) > 0
	to := ""
	if rules != nil && tell {
		to = rules.evidence(b)
	}
	if to != "" && rules.Pods.behind(b) {
		return Choice{Kept: true, Why: ports + ", one to a pod, and " + to}
	}
	const unnamed = ", but no CNI configuration has its name or its subnet"
	switch {
	case e.CNI.Err != nil:
		return Choice{Why: ports + ", but not all CNI configuration could be read", Err: e.CNI.Err}
	case !b.Ports.apart():
		return Choice{Why: ports + unnamed + ", and kube-proxy's rules are no evidence where a port is an uplink or a virtual machine's", Gone: true}
	case !tell:
		return Choice{Why: ports + unnamed, Gone: true}
	case rules == nil:
		return Choice{Why: ports + unnamed}
	case to != "" && rules.Pods.Err != nil:
		return Choice{Why: ports + unnamed + ", and not all pods are known", Err: rules.Pods.Err}
	case to != "":
		return Choice{Why: ports + unnamed + ", and none leads to a pod, although " + to, Gone: true}
	case rules.Err != nil:
		return Choice{Why: ports + unnamed + ", and not all of kube-proxy's rules could be read", Err: rules.Err}
	}
	return Choice{Why: ports + unnamed + ", and kube-proxy's rules send nothing into that", Gone: true}
}

// evidence says which network is b's, and why, or "".
func (c *CNI) evidence(b *Bridge) string {
	for i := range c.Networks {
		if why := c.Networks[i].evidence(b); why != "" {
			return why
		}
	}
	return ""
}

// behind reports whether a port of b leads into the namespace of a pod.
func (p *PodSpaces) behind(b *Bridge) bool {
	for _, id := range b.Behind {
		for _, pod := range p.IDs {
			if id == pod {
				return true
			}
		}
	}
	return false
}

// evidence says what of n is b, or "".
func (n *Network) evidence(b *Bridge) string {
	if n.Bridge == b.Name {
		return fmt.Sprintf("%s (%s) names it", n.Place, n.Name)
	}
	for _, subnet := range n.Subnets {
		for _, a := range b.Addresses {
			if subnet.Contains(a.Addr()) {
				return fmt.Sprintf("its address %s is in %s of %s (%s)", a.Addr(), subnet, n.Place, n.Name)
			}
		}
	}
	return ""
}

// evidence says which endpoint is in a network of b, or "". One that is this
// host itself is none, and one in a smaller network of the host is in that.
func (e *Endpoints) evidence(b *Bridge) string {
	for _, to := range e.Addresses {
		var in netip.Prefix
		for _, a := range b.Addresses {
			if a.Contains(to) && a.Bits() > in.Bits() {
				in = a
			}
		}
		elsewhere := !in.IsValid()
		for _, h := range e.Host {
			elsewhere = elsewhere || h.Addr() == to || h.Contains(to) && h.Bits() > in.Bits()
		}
		if !elsewhere {
			return fmt.Sprintf("kube-proxy's rules send to %s, in its network %s", to, in.Masked())
		}
	}
	return ""
}
