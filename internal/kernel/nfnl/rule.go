package nfnl

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Expr is an expression of a rule that the kernel has told. Its methods are for
// those of one name each, and give nothing for others.
type Expr struct {
	Name []byte // without its zero
	Data []byte // its attributes

	loaded []load // by the expressions before it
}

// load is a value that an immediate has put into a register.
type load struct {
	register uint64
	value    []byte
}

// Expressions are those of a rule, in order.
func Expressions(rule []byte) iter.Seq[Expr] {
	return func(yield func(Expr) bool) {
		var values []load
		for _, b := range rtnl.Attrs(Find(rule, unix.NFTA_RULE_EXPRESSIONS)) {
			e := Expr{Name: Find(b, unix.NFTA_EXPR_NAME), Data: Find(b, unix.NFTA_EXPR_DATA), loaded: values}
			if n := len(e.Name); n > 0 {
				e.Name = e.Name[:n-1]
			}
			if !yield(e) {
				return
			}
			if v := e.Find(unix.NFTA_IMMEDIATE_DATA, unix.NFTA_DATA_VALUE); v != nil && string(e.Name) == "immediate" {
				values = append(values, load{Number(e.Find(unix.NFTA_IMMEDIATE_DREG)), v})
			}
		}
	}
}

// register is the value that was loaded last into a register, or nil.
func (e *Expr) register(attr uint16) []byte {
	b := e.Find(attr)
	for _, l := range slices.Backward(e.loaded) {
		if len(b) > 0 && l.register == Number(b) {
			return l.value
		}
	}
	return nil
}

// Find is [Find] in the expression's attributes.
func (e *Expr) Find(path ...uint16) []byte { return Find(e.Data, path...) }

// Verdict is that of an immediate: see [Verdict].
func (e *Expr) Verdict() []byte {
	if string(e.Name) != "immediate" {
		return nil
	}
	return e.Find(unix.NFTA_IMMEDIATE_DATA, unix.NFTA_DATA_VERDICT)
}

// Map is the name of the map that a lookup takes a value from. A set has none
// to take.
func (e *Expr) Map() string {
	if string(e.Name) != "lookup" || e.Find(unix.NFTA_LOOKUP_DREG) == nil {
		return ""
	}
	return Text(e.Find(unix.NFTA_LOOKUP_SET))
}

// Translation is what a nat translates to: the address is zero where a map has
// it, and the port where none is given.
func (e *Expr) Translation() (to netip.Addr, port uint16) {
	if string(e.Name) != "nat" {
		return netip.Addr{}, 0
	}
	to, _ = netip.AddrFromSlice(e.register(unix.NFTA_NAT_REG_ADDR_MIN))
	if b := e.register(unix.NFTA_NAT_REG_PROTO_MIN); len(b) >= 2 {
		port = binary.BigEndian.Uint16(b)
	}
	return to, port
}

// Target is one of x_tables', by its name, its revision and what it is told, in
// the layout of linux/netfilter.
func (e *Expr) Target() (name string, revision uint8, info []byte) {
	if string(e.Name) != "target" {
		return "", 0, nil
	}
	return Text(e.Find(unix.NFTA_TARGET_NAME)), uint8(Number(e.Find(unix.NFTA_TARGET_REV))), e.Find(unix.NFTA_TARGET_INFO)
}

// Comment is the comment of a rule: the one that nft(8) stores with it, a type, a
// length and a value each, of which type 0 is the comment (libnftnl's udata.h);
// or the match of iptables-nft, a struct xt_comment_info.
func Comment(rule []byte) string {
	for e := range Expressions(rule) {
		if string(e.Name) == "match" && Text(e.Find(unix.NFTA_MATCH_NAME)) == "comment" {
			return Text(e.Find(unix.NFTA_MATCH_INFO))
		}
	}
	for b := Find(rule, unix.NFTA_RULE_USERDATA); len(b) >= 2; {
		n := int(b[1])
		if len(b) < 2+n {
			break
		}
		if b[0] == 0 {
			return Text(b[2 : 2+n])
		}
		b = b[2+n:]
	}
	return ""
}

// Verdict reads what a rule, or an element of a map, decides: NF_DROP and so on,
// NFT_JUMP and so on, and the chain to go on in. It is false for what is none,
// which zero is not: that is to drop.
func Verdict(b []byte) (code int32, chain string, ok bool) {
	c := Find(b, unix.NFTA_VERDICT_CODE)
	return int32(Number(c)), Text(Find(b, unix.NFTA_VERDICT_CHAIN)), c != nil
}

// Element is one of a set or map.
type Element struct {
	Key     []byte
	Value   []byte // of a map
	Verdict []byte // of a map of verdicts: see [Verdict]
}

// Elements are those that are told in one part of a list.
func Elements(in []byte) iter.Seq[Element] {
	return func(yield func(Element) bool) {
		for _, e := range rtnl.Attrs(Find(in, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			data := Find(e, unix.NFTA_SET_ELEM_DATA)
			if !yield(Element{
				Key:   Find(e, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE),
				Value: Find(data, unix.NFTA_DATA_VALUE), Verdict: Find(data, unix.NFTA_DATA_VERDICT),
			}) {
				return
			}
		}
	}
}
