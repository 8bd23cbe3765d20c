package guard

import (
	"fmt"
	"net/netip"
	"path"
	"strings"
)

// Selection is scope "bridges": the bridges whose own flags are kept at 1,
// instead of the sysctls for all.
type Selection struct {
	Match    []string // patterns of path.Match, well-formed
	Auto     bool     // by evidence that it carries pods, and not by Match
	Ignore   []string // patterns of bridges that are left alone whatever else holds
	Families []Family // whose flags are kept
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

// Choice is what a [Selection] makes of one bridge.
type Choice struct {
	Kept bool
	Why  string // "matches cni*"
	Err  error  // why it is not certain; the bridge is left alone then
}

// Choose says whether the flags of b are kept, and why, or why not. cni may be
// nil where the selection is not by evidence.
func (s *Selection) Choose(b *Bridge, cni *CNI) Choice {
	if pattern := matching(s.Ignore, b.Name); pattern != "" {
		return Choice{Why: "ignored by " + pattern}
	}
	if s.Auto {
		return byEvidence(b, cni)
	}
	if pattern := matching(s.Match, b.Name); pattern != "" {
		return Choice{Kept: true, Why: "matches " + pattern}
	}
	return Choice{Why: "no pattern matches"}
}

// matching returns the first pattern that matches name, or "".
func matching(patterns []string, name string) string {
	for _, pattern := range patterns {
		if ok, err := path.Match(pattern, name); ok && err == nil {
			return pattern
		}
	}
	return ""
}

// byEvidence keeps a bridge that carries pods, as far as that can be certain:
// ports lead into other network namespaces, as those of containers of any
// kind do, and a CNI configuration has the bridge's name or its subnet.
func byEvidence(b *Bridge, cni *CNI) Choice {
	if b.Ports.Pods == 0 {
		return Choice{Why: "no port leads into another network namespace"}
	}
	ports := "a port leads"
	if b.Ports.Pods > 1 {
		ports = fmt.Sprintf("%d ports lead", b.Ports.Pods)
	}
	ports += " into other network namespaces"
	if cni == nil {
		cni = &CNI{}
	}
	for i := range cni.Networks {
		if why := cni.Networks[i].evidence(b); why != "" {
			return Choice{Kept: true, Why: ports + ", and " + why}
		}
	}
	if cni.Err != nil {
		return Choice{Why: ports + ", but not all CNI configuration could be read", Err: cni.Err}
	}
	return Choice{Why: ports + ", but no CNI configuration has its name or its subnet"}
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

// Flags are the three flags of a bridge, by [Family].
type Flags [3]bool

// text is those flags of f that fs names: "iptables 1, arptables 0".
func (f Flags) text(fs []Family) string {
	var parts []string
	for _, x := range fs {
		value := " 0"
		if f[x] {
			value = " 1"
		}
		parts = append(parts, x.table()+value)
	}
	return strings.Join(parts, ", ")
}

// families are those whose flag is on, in the order of [IPv4], [IPv6], [ARP].
func (f Flags) families() []Family {
	var fs []Family
	for _, x := range allFamilies {
		if f[x] {
			fs = append(fs, x)
		}
	}
	return fs
}

var allFamilies = []Family{IPv4, IPv6, ARP}
