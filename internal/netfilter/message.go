package netfilter

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/rtnl"
)

// The headers of a message of nfnetlink: struct nlmsghdr, struct nfgenmsg.
const (
	nlHeader = unix.SizeofNlMsghdr
	nfHeader = 4
)

// messageType is the nlmsg_type of a message of nf_tables.
func messageType(message uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | message }

// newRequest returns a message without attributes, and still without length.
func newRequest(message, flags uint16, family byte) []byte {
	b := make([]byte, nlHeader+nfHeader, 96)
	binary.NativeEndian.PutUint16(b[4:], messageType(message))
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	b[nlHeader] = family // nfgen_family; version and res_id are zero
	return b
}

// appendString appends an attribute that is a string with its zero.
func appendString[S string | []byte](b []byte, t uint16, s S) []byte {
	n := unix.SizeofNlAttr + len(s) + 1
	b = binary.NativeEndian.AppendUint16(b, uint16(n))
	b = binary.NativeEndian.AppendUint16(b, t)
	b = append(b, s...)
	return append(b, make([]byte, aligned(n)-n+1)...)
}

// attr returns the value of the first attribute of type t in b, or nil.
func attr(b []byte, t uint16) []byte {
	for is, value := range rtnl.Attrs(b) {
		if is == t {
			return value
		}
	}
	return nil
}

func aligned(n int) int { return (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }
