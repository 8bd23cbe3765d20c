package rtnl

import (
	"encoding/binary"
	"iter"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// link is what nfguard reads of a message about a device.
type link struct {
	index, master int
	flags, change uint32
	name, kind    string
	mac           net.HardwareAddr
	away          bool // linked to a device of another namespace,
	netnsID       int  // which has this id here,
	peer          int  // and this index there

	// of a bridge only: the flags nf_call_*, and vlan_filtering
	iptables, ip6tables, arptables, vlans bool

	hairpin bool // of a bridge's port only
}

// parseLink reads a struct ifinfomsg and the attributes after it. What is not
// there, or malformed, stays zero. The library's own parser knows neither the
// nf_call flags nor a last attribute without padding, at which it panics.
func parseLink(b []byte) link {
	if len(b) < unix.SizeofIfInfomsg {
		return link{}
	}
	l := link{
		index:  int(binary.NativeEndian.Uint32(b[4:])),
		flags:  binary.NativeEndian.Uint32(b[8:]),
		change: binary.NativeEndian.Uint32(b[12:]),
	}
	for t, v := range Attrs(b[unix.SizeofIfInfomsg:]) {
		switch t {
		case unix.IFLA_IFNAME:
			l.name = unix.ByteSliceToString(v)
		case unix.IFLA_MASTER:
			if len(v) == 4 {
				l.master = int(binary.NativeEndian.Uint32(v))
			}
		case unix.IFLA_LINK:
			if len(v) == 4 {
				l.peer = int(binary.NativeEndian.Uint32(v))
			}
		case unix.IFLA_LINK_NETNSID:
			l.away = true
			if len(v) == 4 {
				l.netnsID = int(int32(binary.NativeEndian.Uint32(v)))
			}
		case unix.IFLA_ADDRESS:
			l.mac = v
		case unix.IFLA_LINKINFO:
			l.parseInfo(v)
		case unix.IFLA_PROTINFO: // of a message of family AF_BRIDGE, about a port
			if b[0] == unix.AF_BRIDGE {
				l.parsePort(v)
			}
		}
	}
	return l
}

func (l *link) parseInfo(b []byte) {
	var data, portKind, port []byte
	for t, v := range Attrs(b) {
		switch t {
		case unix.IFLA_INFO_KIND:
			l.kind = unix.ByteSliceToString(v)
		case unix.IFLA_INFO_DATA:
			data = v
		case unix.IFLA_INFO_SLAVE_KIND:
			portKind = v
		case unix.IFLA_INFO_SLAVE_DATA:
			port = v
		}
	}
	if unix.ByteSliceToString(portKind) == "bridge" {
		l.parsePort(port)
	}
	if l.kind != "bridge" { // the numbers mean something else for each kind
		return
	}
	for t, v := range Attrs(data) {
		on := len(v) == 1 && v[0] != 0
		switch t {
		case unix.IFLA_BR_NF_CALL_IPTABLES:
			l.iptables = on
		case unix.IFLA_BR_NF_CALL_IP6TABLES:
			l.ip6tables = on
		case unix.IFLA_BR_NF_CALL_ARPTABLES:
			l.arptables = on
		case unix.IFLA_BR_VLAN_FILTERING:
			l.vlans = on
		}
	}
}

func (l *link) parsePort(b []byte) {
	for t, v := range Attrs(b) {
		if t == unix.IFLA_BRPORT_MODE {
			l.hairpin = len(v) == 1 && v[0] != 0
		}
	}
}

// Attrs yields the type and the value of each netlink attribute in b, up to
// the first malformed one.
func Attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofRtAttr || n > len(b) {
				return
			}
			t := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(t, b[unix.SizeofRtAttr:n]) {
				return
			}
			aligned := (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1)
			b = b[min(aligned, len(b)):]
		}
	}
}

// parseAddress reads a struct ifaddrmsg and the attributes after it. What is
// malformed is no address.
func parseAddress(b []byte) (index int, p netip.Prefix, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return 0, netip.Prefix{}, false
	}
	var addr netip.Addr
	for t, v := range Attrs(b[unix.SizeofIfAddrmsg:]) {
		// IFA_ADDRESS is the other end of a point-to-point link, and IFA_LOCAL,
		// where there is one, ours.
		if t == unix.IFA_LOCAL || t == unix.IFA_ADDRESS && !addr.IsValid() {
			addr, _ = netip.AddrFromSlice(v)
		}
	}
	p = netip.PrefixFrom(addr, int(b[1]))
	return int(binary.NativeEndian.Uint32(b[4:])), p, p.IsValid()
}
