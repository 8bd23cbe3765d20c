// Package nfnl speaks nfnetlink, and of it mostly nf_tables: it makes messages
// and reads them, asks, lists, commits, and hears of what others have committed.
// It knows no user's tables, and does not know why anybody asks. All of it is
// about the network namespace of the calling thread, and needs CAP_NET_ADMIN
// there.
package nfnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// header is what a message begins with: struct nlmsghdr, struct nfgenmsg.
const header = unix.SizeofNlMsghdr + 4

// Message is one of nfnetlink, with its header.
type Message []byte

// Request returns a message to the kernel. kind has the number of the subsystem
// in its upper byte.
func Request(kind, flags uint16, family byte, in Attrs) Message {
	return begin(kind, flags, family, len(in)).end(in...)
}

// begin returns a message that has room for attributes.
func begin(kind, flags uint16, family byte, room int) Message {
	b := make(Message, header, header+room)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	b[unix.SizeofNlMsghdr] = family
	return b
}

// end appends the last attributes.
func (b Message) end(in ...byte) Message {
	b = append(b, in...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// nft is [Request] for one of nf_tables.
func nft(kind, flags uint16, family byte, in Attrs) Message {
	return Request(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, family, in)
}

// Parse takes a message that the kernel has sent apart. What is too short for
// one has the kind 0, which no message has.
func Parse(b []byte) (kind uint16, family byte, in []byte) {
	if len(b) < header {
		return 0, 0, nil
	}
	return binary.NativeEndian.Uint16(b[4:]), b[unix.SizeofNlMsghdr], b[header:]
}

// Attrs is a list of netlink attributes that is being written. Numbers are in
// network byte order, as nfnetlink has them.
type Attrs []byte

// Bytes appends an attribute.
func (b Attrs) Bytes(t uint16, v []byte) Attrs { return appendAttr(b, t, v, unix.SizeofNlAttr+len(v)) }

// Text appends a string with its zero.
func (b Attrs) Text(t uint16, s string) Attrs { return appendAttr(b, t, s, unix.SizeofNlAttr+len(s)+1) }

// appendAttr appends an attribute of n bytes, and zeros behind v.
func appendAttr[V string | []byte](b Attrs, t uint16, v V, n int) Attrs {
	b = binary.NativeEndian.AppendUint16(b, uint16(n))
	b = binary.NativeEndian.AppendUint16(b, t)
	b = append(b, v...)
	return append(b, make([]byte, aligned(n)-unix.SizeofNlAttr-len(v))...)
}

// U8 appends a byte.
func (b Attrs) U8(t uint16, v uint8) Attrs { return b.Bytes(t, []byte{v}) }

// U32 appends a number.
func (b Attrs) U32(t uint16, v uint32) Attrs {
	return b.Bytes(t, binary.BigEndian.AppendUint32(nil, v))
}

// Nest appends a list inside the list.
func (b Attrs) Nest(t uint16, in Attrs) Attrs { return b.Bytes(t|unix.NLA_F_NESTED, in) }

// Find returns the value of the attribute at a path of types, or nil: each is
// the first of its type, in the one before.
func Find(b []byte, path ...uint16) []byte {
	for _, want := range path {
		var found []byte
		for t, v := range rtnl.Attrs(b) {
			if t == want {
				found = v
				break
			}
		}
		b = found
	}
	return b
}

// Number is the value of an attribute in network byte order, and zero for one
// that is not there.
func Number(b []byte) uint64 {
	var n uint64
	for _, c := range b[:min(len(b), 8)] {
		n = n<<8 | uint64(c)
	}
	return n
}

// Text is the value of an attribute that is a string, without its zero.
func Text(b []byte) string { return unix.ByteSliceToString(b) }

func aligned(n int) int { return (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }
