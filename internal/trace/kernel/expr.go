package kernel

import "golang.org/x/sys/unix"

// field is a part of a packet's headers.
type field struct {
	base   uint32 // NFT_PAYLOAD_*_HEADER
	offset uint32
	length uint32
}

var (
	sourcePort      = field{unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2}
	destinationPort = field{unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2}
	echoID          = field{unix.NFT_PAYLOAD_TRANSPORT_HEADER, 4, 2} // of both the request and the reply
)

// reg1 is the first of the registers of four bytes. What is longer takes the
// ones that follow, too.
const reg1 = unix.NFT_REG32_00

// The direction of conntrack that a value is of: IP_CT_DIR_ORIGINAL, or none.
const (
	original    = 0
	noDirection = -1
)

// exprs is the expressions of a rule that is being written. One that does not
// hold ends the rule.
type exprs attrs

func (e exprs) add(name string, in attrs) exprs {
	return exprs(attrs(e).nest(unix.NFTA_LIST_ELEM, attrs{}.text(unix.NFTA_EXPR_NAME, name).nest(unix.NFTA_EXPR_DATA, in)))
}

// load reads a field of the packet into a register.
func (e exprs) load(f field, register uint32) exprs {
	return e.add("payload", attrs{}.
		u32(unix.NFTA_PAYLOAD_DREG, register).
		u32(unix.NFTA_PAYLOAD_BASE, f.base).
		u32(unix.NFTA_PAYLOAD_OFFSET, f.offset).
		u32(unix.NFTA_PAYLOAD_LEN, f.length))
}

func (e exprs) meta(key uint32) exprs {
	return e.add("meta", attrs{}.u32(unix.NFTA_META_DREG, reg1).u32(unix.NFTA_META_KEY, key))
}

// ct reads what conntrack knows of the packet's connection.
func (e exprs) ct(key uint32, direction int) exprs {
	in := attrs{}.u32(unix.NFTA_CT_DREG, reg1).u32(unix.NFTA_CT_KEY, key)
	if direction != noDirection {
		in = in.u8(unix.NFTA_CT_DIRECTION, uint8(direction))
	}
	return e.add("ct", in)
}

func (e exprs) compareRegister(v []byte) exprs { return e.cmp(unix.NFT_CMP_EQ, v) }

func (e exprs) compare(f field, v []byte) exprs { return e.load(f, reg1).cmp(unix.NFT_CMP_EQ, v) }
func (e exprs) differ(f field, v []byte) exprs  { return e.load(f, reg1).cmp(unix.NFT_CMP_NEQ, v) }

func (e exprs) cmp(operation uint32, v []byte) exprs {
	return e.add("cmp", attrs{}.
		u32(unix.NFTA_CMP_SREG, reg1).
		u32(unix.NFTA_CMP_OP, operation).
		nest(unix.NFTA_CMP_DATA, attrs{}.bytes(unix.NFTA_DATA_VALUE, v)))
}

// pair puts an address and a port side by side, as they are in our sets.
func (e exprs) pair(address, port field) exprs {
	return e.load(address, reg1).load(port, reg1+address.length/4)
}

// known holds if the pair is in the set.
func (e exprs) known(set string, address, port field) exprs {
	return e.pair(address, port).add("lookup", attrs{}.
		text(unix.NFTA_LOOKUP_SET, set).
		u32(unix.NFTA_LOOKUP_SREG, reg1))
}

// learn puts the pair into the set.
func (e exprs) learn(set string, address, port field) exprs {
	const add = 0 // NFT_DYNSET_OP_ADD
	return e.pair(address, port).add("dynset", attrs{}.
		text(unix.NFTA_DYNSET_SET_NAME, set).
		u32(unix.NFTA_DYNSET_OP, add).
		u32(unix.NFTA_DYNSET_SREG_KEY, reg1))
}

// trace has the kernel tell of the packet from here on.
func (e exprs) trace() exprs {
	return e.add("immediate", attrs{}.
		u32(unix.NFTA_IMMEDIATE_DREG, reg1).
		nest(unix.NFTA_IMMEDIATE_DATA, attrs{}.bytes(unix.NFTA_DATA_VALUE, []byte{1}))).
		add("meta", attrs{}.u32(unix.NFTA_META_KEY, unix.NFT_META_NFTRACE).u32(unix.NFTA_META_SREG, reg1))
}
