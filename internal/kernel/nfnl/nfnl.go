// Package nfnl speaks nfnetlink, mostly to nf_tables. It writes and reads messages,
// gets objects and lists, commits transactions, and subscribes to the transactions
// of others. It knows nothing about particular tables or rules; those are its
// callers' concern. It works in the network namespace of the calling thread, and
// needs CAP_NET_ADMIN there.
package nfnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// header is the size of a message's headers: struct nlmsghdr, struct nfgenmsg.
const header = unix.SizeofNlMsghdr + 4

// Message is an nfnetlink message with its header.
type Message []byte

// Request returns a message to the kernel. The upper byte of kind is the number of
// the subsystem.
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

// nft is [Request] for a message to nf_tables.
func nft(kind, flags uint16, family byte, in Attrs) Message {
	return Request(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, family, in)
}

// Parse splits a message from the kernel into its parts. If b is too short for a
// message, the kind is 0, which no message has.
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

// Text appends a string with its zero byte.
func (b Attrs) Text(t uint16, s string) Attrs { return appendAttr(b, t, s, unix.SizeofNlAttr+len(s)+1) }

// appendAttr appends an attribute of n bytes: v, filled up with zero bytes.
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

// Find returns the value of the attribute at a path of nested types, or nil. At each
// level, the first attribute of the type counts.
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

// Number is the value of an attribute in network byte order, and zero if there is
// no attribute.
func Number(b []byte) uint64 {
	var n uint64
	for _, c := range b[:min(len(b), 8)] {
		n = n<<8 | uint64(c)
	}
	return n
}

// Text is the value of an attribute that is a string, without its zero byte.
func Text(b []byte) string { return unix.ByteSliceToString(b) }

func aligned(n int) int { return (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }
