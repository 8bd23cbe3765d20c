package rtnl

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// Pass and Drop are what a filter returns for a datagram: all of it, or
// nothing.
const (
	Pass = 0xffffffff
	Drop = 0
)

// Extensions of classic BPF that find a netlink attribute, which
// golang.org/x/sys/unix does not name: include/uapi/linux/filter.h.
const (
	findAttr   = 0xfffff000 + 12 // SKF_AD_OFF + SKF_AD_NLATTR: A = offset of attribute X at or after A, or 0
	findNested = 0xfffff000 + 16 // SKF_AD_OFF + SKF_AD_NLATTR_NEST: the same, inside the attribute at A
)

// Stmt is an instruction of classic BPF that does not jump: BPF_STMT of
// linux/filter.h.
func Stmt(code uint16, k uint32) unix.SockFilter {
	return unix.SockFilter{Code: code, K: k}
}

// Equal is an instruction of classic BPF that skips yes instructions if A is
// k and no instructions if it is not: BPF_JUMP of linux/filter.h with BPF_JEQ.
func Equal(k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

// StartsWith is a filter that passes the datagrams that begin with one of
// prefixes, each at most a hundred bytes and none the beginning of another.
func StartsWith(prefixes ...string) []unix.SockFilter {
	const (
		loadByte = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		ret      = unix.BPF_RET | unix.BPF_K
	)
	var filter []unix.SockFilter
	for _, p := range prefixes {
		for i := range len(p) {
			toNext := 2*(len(p)-i) - 1 // the loads and tests of the other bytes, and the return
			filter = append(filter,
				Stmt(loadByte, uint32(i)),
				Equal(uint32(p[i]), 0, uint8(toNext)))
		}
		filter = append(filter, Stmt(ret, Pass))
	}
	return append(filter, Stmt(ret, Drop))
}

// bridgesAnd passes the messages of RTNLGRP_LINK about devices of the kind
// "bridge", and about those that are called one of names. Those of family
// AF_BRIDGE are about ports, and their RTM_DELLINK is not the end of a device:
// with ports an RTM_NEWLINK passes that says of one that it is not in hairpin mode
// (br_port_fill_attrs; an RTM_DELLINK has no IFLA_PROTINFO).
func bridgesAnd(ports bool, names []string) []unix.SockFilter {
	const (
		load     = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		loadByte = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		loadAtX  = unix.BPF_LD | unix.BPF_W | unix.BPF_IND
		setA     = unix.BPF_LD | unix.BPF_IMM
		setX     = unix.BPF_LDX | unix.BPF_IMM
		copyToX  = unix.BPF_MISC | unix.BPF_TAX
		ret      = unix.BPF_RET | unix.BPF_K

		family = unix.SizeofNlMsghdr // ifi_family is the first byte after the header
		attrs  = unix.SizeofNlMsghdr + unix.SizeofIfInfomsg
	)
	kind := words("bridge")
	f := []unix.SockFilter{
		Stmt(loadByte, family),
		Equal(unix.AF_UNSPEC, 1, 0),
		Stmt(ret, Drop),

		Stmt(setA, attrs),
		Stmt(setX, unix.IFLA_LINKINFO),
		Stmt(load, findAttr),
		Equal(0, 9, 0),
		Stmt(setX, unix.IFLA_INFO_KIND),
		Stmt(load, findNested),
		Equal(0, 6, 0),
		Stmt(copyToX, 0),
		Stmt(loadAtX, unix.SizeofRtAttr),
		Equal(kind[0], 0, 3),
		Stmt(loadAtX, unix.SizeofRtAttr+4),
		Equal(kind[1], 0, 1),
		Stmt(ret, Pass),

		Stmt(setA, attrs),
		Stmt(setX, unix.IFLA_IFNAME),
		Stmt(load, findAttr),
		Equal(0, 0, 1),
		Stmt(ret, Drop),
		Stmt(copyToX, 0),
	}
	if ports {
		const loadByteAtX = unix.BPF_LD | unix.BPF_B | unix.BPF_IND
		port := []unix.SockFilter{
			Stmt(setA, attrs),
			Stmt(setX, unix.IFLA_PROTINFO),
			Stmt(load, findAttr),
			Equal(0, 5, 0),
			Stmt(setX, unix.IFLA_BRPORT_MODE),
			Stmt(load, findNested),
			Equal(0, 2, 0),
			Stmt(copyToX, 0),
			Stmt(loadByteAtX, unix.SizeofRtAttr),
			Equal(0, 0, 1),
			Stmt(ret, Pass),
			Stmt(ret, Drop),
		}
		head := []unix.SockFilter{Stmt(loadByte, family), Equal(unix.AF_BRIDGE, 0, uint8(len(port)))}
		f = slices.Concat(head, port, f)
	}
	for _, name := range names {
		name := words(name)
		for i, w := range name {
			f = append(f, Stmt(loadAtX, uint32(unix.SizeofRtAttr+4*i)), Equal(w, 0, uint8(2*(len(name)-1-i)+1)))
		}
		f = append(f, Stmt(ret, Pass))
	}
	return append(f, Stmt(ret, Drop))
}

// words is a string as it stands in an attribute: with its zero, filled up with
// zeros to words of four bytes (__nla_reserve in lib/nlattr.c). To compare the
// words is to compare the strings.
func words(s string) []uint32 {
	b := make([]byte, (len(s)+4)/4*4)
	copy(b, s)
	var list []uint32
	for ; len(b) > 0; b = b[4:] {
		list = append(list, binary.BigEndian.Uint32(b))
	}
	return list
}
