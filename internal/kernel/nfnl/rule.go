package nfnl

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Expr is an expression of a rule, as read from the kernel. Each method is for
// expressions of one name, and returns nothing for others.
type Expr struct {
	Name []byte // without its zero byte
	Data []byte // its attributes

	loaded []load // by the expressions before it
}

// load is a value that an immediate has put into a register.
type load struct {
	register uint64
	value    []byte
}

// Expressions returns the expressions of a rule, in order.
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

// Verdict is the verdict of an immediate: see [Verdict].
func (e *Expr) Verdict() []byte {
	if string(e.Name) != "immediate" {
		return nil
	}
	return e.Find(unix.NFTA_IMMEDIATE_DATA, unix.NFTA_DATA_VERDICT)
}

// Map is the name of the map that a lookup takes a value from; "" for a lookup in a
// set, which has no values.
func (e *Expr) Map() string {
	if string(e.Name) != "lookup" || e.Find(unix.NFTA_LOOKUP_DREG) == nil {
		return ""
	}
	return Text(e.Find(unix.NFTA_LOOKUP_SET))
}

// Translation is the address and port that a nat translates to. The address is zero
// if it comes from a map, the port if none is given.
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

// Target returns a target of x_tables: its name, its revision and its data, in the
// layout of linux/netfilter.
func (e *Expr) Target() (name string, revision uint8, info []byte) {
	if string(e.Name) != "target" {
		return "", 0, nil
	}
	return Text(e.Find(unix.NFTA_TARGET_NAME)), uint8(Number(e.Find(unix.NFTA_TARGET_REV))), e.Find(unix.NFTA_TARGET_INFO)
}

// Match is one of x_tables', as [Expr.Target].
func (e *Expr) Match() (name string, revision uint8, info []byte) {
	if string(e.Name) != "match" {
		return "", 0, nil
	}
	return Text(e.Find(unix.NFTA_MATCH_NAME)), uint8(Number(e.Find(unix.NFTA_MATCH_REV))), e.Find(unix.NFTA_MATCH_INFO)
}

// Comment is the comment of a rule. nft(8) stores it in the rule's user data, as a
// list of type, length and value, in which type 0 is the comment (libnftnl's
// udata.h). iptables-nft stores it as a match, a struct xt_comment_info.
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

// Verdict reads the verdict of a rule or of a map's element: NF_DROP and so on, or
// NFT_JUMP and so on with the chain to go to. ok is false if b is no verdict; the
// code alone does not say so, since zero is NF_DROP.
func Verdict(b []byte) (code int32, chain string, ok bool) {
	c := Find(b, unix.NFTA_VERDICT_CODE)
	return int32(Number(c)), Text(Find(b, unix.NFTA_VERDICT_CHAIN)), c != nil
}

// Element is an element of a set or map.
type Element struct {
	Key     []byte
	Value   []byte // in a map
	Verdict []byte // in a verdict map: see [Verdict]
	End     bool   // of an interval: the first key that is not in it any more
	KeyEnd  []byte // the last one, where the keys are of several parts

	CatchAll bool // it is what nothing else in the set is
}

// Elements returns the elements in one part of a list.
func Elements(in []byte) iter.Seq[Element] {
	return func(yield func(Element) bool) {
		for _, e := range rtnl.Attrs(Find(in, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			data := Find(e, unix.NFTA_SET_ELEM_DATA)
			const end, catchAll, keyEnd = 1, 2, 10 // NFT_SET_ELEM_INTERVAL_END, NFT_SET_ELEM_CATCHALL, NFTA_SET_ELEM_KEY_END
			flags := Number(Find(e, unix.NFTA_SET_ELEM_FLAGS))
			if !yield(Element{
				End: flags&end != 0, CatchAll: flags&catchAll != 0,
				Key: Find(e, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE), KeyEnd: Find(e, keyEnd, unix.NFTA_DATA_VALUE),
				Value: Find(data, unix.NFTA_DATA_VALUE), Verdict: Find(data, unix.NFTA_DATA_VERDICT),
			}) {
				return
			}
		}
	}
}
