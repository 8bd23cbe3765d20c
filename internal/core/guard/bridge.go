package guard

import "net/netip"

// Bridge is one bridge device of the host's network namespace.
type Bridge struct {
	Name  string `json:"name"`
	Index int    `json:"-"`
	Up    bool   `json:"up"`
	Ports Ports  `json:"ports"`

	// The bridge's own flags. A bridged frame is handed to iptables when the
	// sysctl or the bridge's flag says so.
	CallIPTables  bool `json:"nf_call_iptables"`
	CallIP6Tables bool `json:"nf_call_ip6tables"`
	CallARPTables bool `json:"nf_call_arptables"`

	VLANFiltering bool `json:"vlan_filtering"` // it tells VLANs apart

	// Promiscuous says that it takes in every frame, as ip link set … promisc on
	// has it, or promiscMode of the CNI plugin.
	Promiscuous bool `json:"promiscuous"`

	// NoHairpin are the ports of pods that are not in hairpin mode, and InHairpin
	// the indexes of those that are.
	NoHairpin []Port `json:"-"`
	InHairpin []int  `json:"-"`

	// AlonePort is the name of the only port that was looked at; "": all were.
	AlonePort string `json:"-"`

	// Addresses are nil also where they were not looked at.
	Addresses []netip.Prefix `json:"-"`

	// Behind are the network namespaces that its ports lead into, by the ids
	// that they have here.
	Behind []int `json:"-"`
}

// Flags are the flags of b.
func (b *Bridge) Flags() Flags { return Flags{b.CallIPTables, b.CallIP6Tables, b.CallARPTables} }

// Ports counts the ports of a bridge by what is behind them.
type Ports struct {
	Pods    int `json:"pods"`    // a veth whose other end is in another network namespace
	VMs     int `json:"vms"`     // a tap
	Uplinks int `json:"uplinks"` // hardware, a bond, a VLAN, a tunnel
	Others  int `json:"others"`

	Hairpin int `json:"pods_hairpin"` // those of Pods that are in hairpin mode
}

// Port is a port of a bridge.
type Port struct {
	Name  string
	Index int

	// Lost says that it was in hairpin mode at an earlier look.
	Lost bool
}

// Count adds a port. kind is the kernel's word for its driver, "" for
// hardware; away says that its other end is in another network namespace.
func (p *Ports) Count(kind string, away bool) {
	switch kind {
	case "veth":
		if away {
			p.Pods++
		} else {
			p.Others++
		}
	case "tun":
		p.VMs++
	case "", "bond", "team", "vlan", "vxlan", "geneve", "gretap", "ip6gretap", "batadv":
		p.Uplinks++
	default:
		p.Others++
	}
}

// apart reports that no port leads to where other machines can be: what has an
// address of the bridge's network is on this host.
func (p Ports) apart() bool { return p.VMs == 0 && p.Uplinks == 0 }

// Family is a protocol family that br_netfilter hands over.
type Family uint8

// The families.
const (
	IPv4 Family = iota
	IPv6
	ARP
)

// Effective reports whether frames of family f that cross b are handed to
// netfilter, given which of the sysctls are on (br_netfilter_hooks.c: the
// sysctl or the bridge's flag). It supposes that br_netfilter is loaded.
func (b *Bridge) Effective(f Family, sysctl bool) bool {
	return f <= ARP && (sysctl || b.Flags()[f])
}

func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	case ARP:
		return "ARP"
	}
	return "?"
}

// table is the program whose rules see frames of family f.
func (f Family) table() string {
	switch f {
	case IPv6:
		return "ip6tables"
	case ARP:
		return "arptables"
	case IPv4:
	}
	return "iptables"
}

// Key is the sysctl that decides for every bridge.
func (f Family) Key() Key {
	switch f {
	case IPv6:
		return IP6Tables
	case ARP:
		return ARPTables
	case IPv4:
	}
	return IPTables
}
