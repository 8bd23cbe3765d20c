package netfilter

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// layout is where the fields are in a struct ipt_entry or ip6t_entry, which
// begins with what it matches: a struct ipt_ip or ip6t_ip6.
type layout struct {
	targetOffset int // u16: where the target begins
	nextOffset   int // u16: where the next entry begins
	size         int // of the struct, behind which matches and target follow
}

var (
	ipv4Entry = layout{targetOffset: 88, nextOffset: 90, size: 112}
	ipv6Entry = layout{targetOffset: 140, nextOffset: 142, size: 168}
)

// A target is a struct xt_entry_target: a size, a name, a revision; the target
// ERROR has a chain's name behind it (struct xt_error_target).
const (
	targetName   = 2
	targetHeader = 32
	errorTarget  = "ERROR"
)

// hasServices reports whether the entries of a table nat have kube-proxy's
// chain, and it holds a rule. A user-defined chain begins
// with an entry whose target is ERROR with the chain's name, and ends with one
// that is no rule but returns; after it the next chain begins. An error means
// that the bytes are no table of the kernel's.
func (l *layout) hasServices(b []byte) (bool, error) {
	head, chain := []byte(errorTarget+"\x00"), []byte(servicesChain+"\x00")
	inside, entries, found := false, 0, false
	err := l.each(b, func(_, _ int, _, t []byte) bool {
		switch {
		case bytes.HasPrefix(t[targetName:], head):
			inside, entries = bytes.HasPrefix(t[targetHeader:], chain), 0
		case inside:
			entries++
			found = entries > 1
		}
		return !found
	})
	return found, err
}

// each calls f with the offset of each entry, that of the next, its matches and
// its target, which has a header at least, until f returns false.
func (l *layout) each(b []byte, f func(at, next int, matches, target []byte) bool) error {
	for at := 0; at < len(b); {
		e := b[at:]
		if len(e) < l.size {
			return fmt.Errorf("entry at %d of %d is cut off", at, len(b))
		}
		target := int(binary.NativeEndian.Uint16(e[l.targetOffset:]))
		next := int(binary.NativeEndian.Uint16(e[l.nextOffset:]))
		if target < l.size || next < target+targetHeader || next > len(e) {
			return fmt.Errorf("entry at %d of %d is malformed", at, len(b))
		}
		if !f(at, at+next, e[l.size:target], e[target:next]) {
			return nil
		}
		at += next
	}
	return nil
}
