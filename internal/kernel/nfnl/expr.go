package nfnl

import "golang.org/x/sys/unix"

// Field is a part of a packet's headers.
type Field struct {
	Base   uint32 // NFT_PAYLOAD_*_HEADER
	Offset uint32
	Length uint32
}

// Source and Destination are the addresses in the header of IPv4 or IPv6.
func Source(v6 bool) Field {
	if v6 {
		return Field{unix.NFT_PAYLOAD_NETWORK_HEADER, 8, 16}
	}
	return Field{unix.NFT_PAYLOAD_NETWORK_HEADER, 12, 4}
}

// Destination is the destination address: see [Source].
func Destination(v6 bool) Field {
	f := Source(v6)
	f.Offset += f.Length
	return f
}

// The ports of TCP and UDP, and the id of an ICMP echo, which its reply repeats.
var (
	SourcePort      = Field{unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2}
	DestinationPort = Field{unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2}
	EchoID          = Field{unix.NFT_PAYLOAD_TRANSPORT_HEADER, 4, 2}
)

// reg1 is the first of the four-byte registers. Longer values also take the
// registers that follow.
const reg1 = unix.NFT_REG32_00

// The direction of a connection that a conntrack value belongs to:
// IP_CT_DIR_ORIGINAL, or none.
const (
	Original     = 0
	AnyDirection = -1
)

// Exprs are the expressions of a rule that is being written. The rule ends at the
// first one that does not match.
type Exprs Attrs

// Add appends an expression by its name and its attributes.
func (e Exprs) Add(name string, in Attrs) Exprs {
	return Exprs(Attrs(e).Nest(unix.NFTA_LIST_ELEM, Attrs{}.Text(unix.NFTA_EXPR_NAME, name).Nest(unix.NFTA_EXPR_DATA, in)))
}

// load reads a field of the packet into a register.
func (e Exprs) load(f Field, register uint32) Exprs {
	return e.Add("payload", Attrs{}.
		U32(unix.NFTA_PAYLOAD_DREG, register).
		U32(unix.NFTA_PAYLOAD_BASE, f.Base).
		U32(unix.NFTA_PAYLOAD_OFFSET, f.Offset).
		U32(unix.NFTA_PAYLOAD_LEN, f.Length))
}

func (e Exprs) cmp(operation uint32, v []byte) Exprs {
	return e.Add("cmp", Attrs{}.
		U32(unix.NFTA_CMP_SREG, reg1).
		U32(unix.NFTA_CMP_OP, operation).
		Nest(unix.NFTA_CMP_DATA, Attrs{}.Bytes(unix.NFTA_DATA_VALUE, v)))
}

// set puts a value into the register.
func (e Exprs) set(v []byte) Exprs {
	return e.Add("immediate", Attrs{}.
		U32(unix.NFTA_IMMEDIATE_DREG, reg1).
		Nest(unix.NFTA_IMMEDIATE_DATA, Attrs{}.Bytes(unix.NFTA_DATA_VALUE, v)))
}

// Equal matches if the field has the value.
func (e Exprs) Equal(f Field, v []byte) Exprs { return e.load(f, reg1).cmp(unix.NFT_CMP_EQ, v) }

// Differ matches if the field has another value.
func (e Exprs) Differ(f Field, v []byte) Exprs { return e.load(f, reg1).cmp(unix.NFT_CMP_NEQ, v) }

// Meta matches if the packet's metadata (NFT_META_*) is v.
func (e Exprs) Meta(key uint32, v []byte) Exprs {
	return e.Add("meta", Attrs{}.U32(unix.NFTA_META_DREG, reg1).U32(unix.NFTA_META_KEY, key)).cmp(unix.NFT_CMP_EQ, v)
}

// Conntrack matches if conntrack's value for the packet's connection (NFT_CT_*)
// is v.
func (e Exprs) Conntrack(key uint32, direction int, v []byte) Exprs {
	in := Attrs{}.U32(unix.NFTA_CT_DREG, reg1).U32(unix.NFTA_CT_KEY, key)
	if direction != AnyDirection {
		in = in.U8(unix.NFTA_CT_DIRECTION, uint8(direction))
	}
	return e.Add("ct", in).cmp(unix.NFT_CMP_EQ, v)
}

// pair loads an address and a port next to each other, as they are in a set.
func (e Exprs) pair(address, port Field) Exprs {
	return e.load(address, reg1).load(port, reg1+address.Length/4)
}

// Known matches if the pair of address and port is in the set.
func (e Exprs) Known(set string, address, port Field) Exprs {
	return e.pair(address, port).Add("lookup", Attrs{}.
		Text(unix.NFTA_LOOKUP_SET, set).
		U32(unix.NFTA_LOOKUP_SREG, reg1))
}

// Learn adds the pair to the set.
func (e Exprs) Learn(set string, address, port Field) Exprs {
	const add = 0 // NFT_DYNSET_OP_ADD
	return e.pair(address, port).Add("dynset", Attrs{}.
		Text(unix.NFTA_DYNSET_SET_NAME, set).
		U32(unix.NFTA_DYNSET_OP, add).
		U32(unix.NFTA_DYNSET_SREG_KEY, reg1))
}

// Trace has the kernel trace the packet from here on.
func (e Exprs) Trace() Exprs {
	return e.set([]byte{1}).
		Add("meta", Attrs{}.U32(unix.NFTA_META_KEY, unix.NFT_META_NFTRACE).U32(unix.NFTA_META_SREG, reg1))
}

// DNAT translates the destination address to an address of the family.
func (e Exprs) DNAT(family byte, to []byte) Exprs {
	return e.set(to).Add("nat", Attrs{}.
		U32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT).
		U32(unix.NFTA_NAT_FAMILY, uint32(family)).
		U32(unix.NFTA_NAT_REG_ADDR_MIN, reg1))
}

// Masquerade translates the source address to one of the device that the packet
// leaves by.
func (e Exprs) Masquerade() Exprs { return e.Add("masq", nil) }

// Drop ends the packet.
func (e Exprs) Drop() Exprs {
	const drop = 0 // NF_DROP
	return e.Add("immediate", Attrs{}.
		U32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT).
		Nest(unix.NFTA_IMMEDIATE_DATA, Attrs{}.Nest(unix.NFTA_DATA_VERDICT, Attrs{}.U32(unix.NFTA_VERDICT_CODE, drop))))
}
