package kernel

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

// attrs is a list of netlink attributes that is being written. Numbers are in
// network byte order, as nf_tables has them.
type attrs []byte

func (b attrs) bytes(t uint16, v []byte) attrs {
	n := unix.SizeofNlAttr + len(v)
	b = binary.NativeEndian.AppendUint16(b, uint16(n))
	b = binary.NativeEndian.AppendUint16(b, t)
	b = append(b, v...)
	return append(b, make([]byte, aligned(n)-n)...)
}

func (b attrs) u8(t uint16, v uint8) attrs { return b.bytes(t, []byte{v}) }
func (b attrs) u32(t uint16, v uint32) attrs {
	return b.bytes(t, binary.BigEndian.AppendUint32(nil, v))
}

// text appends a string with its zero.
func (b attrs) text(t uint16, s string) attrs { return b.bytes(t, append([]byte(s), 0)) }
func (b attrs) nest(t uint16, in attrs) attrs { return b.bytes(t|unix.NLA_F_NESTED, in) }

// message returns a message of nf_tables; its sequence number is zero.
func message(kind, flags uint16, family byte, in attrs) []byte {
	return raw(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, family, 0, in)
}

func raw(kind, flags uint16, family byte, resource uint16, in attrs) []byte {
	b := make([]byte, nlHeader+nfHeader, nlHeader+nfHeader+len(in))
	binary.NativeEndian.PutUint32(b, uint32(cap(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	b[nlHeader] = family
	binary.BigEndian.PutUint16(b[nlHeader+2:], resource)
	return append(b, in...)
}

// find returns the value of the attribute at a path of types, or nil.
func find(b []byte, path ...uint16) []byte {
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

// number is the value of an attribute in network byte order, and zero for one
// that is not there.
func number(b []byte) uint64 {
	var n uint64
	for _, c := range b[:min(len(b), 8)] {
		n = n<<8 | uint64(c)
	}
	return n
}

func aligned(n int) int { return (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }
