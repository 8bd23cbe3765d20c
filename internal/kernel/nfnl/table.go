package nfnl

import "golang.org/x/sys/unix"

// Constants of linux/netfilter/nf_tables.h and linux/netfilter.h that x/sys does not
// have.
const (
	Dormant = 0x1 // NFT_TABLE_F_DORMANT: its chains are attached to no hook
	Owner   = 0x2 // NFT_TABLE_F_OWNER: lasts as long as the connection that created it; since Linux 5.12

	setEval = 0x20 // NFT_SET_EVAL
	accept  = 1    // NF_ACCEPT
)

// Hook is a number of enum nf_inet_hooks; NF_BR_PRE_ROUTING and so on have the
// same numbers.
type Hook uint32

// The hooks of the IP families, and of a bridge.
const (
	Prerouting Hook = iota
	Input
	Forward
	Output
	Postrouting
)

var hooks = [...]string{"prerouting", "input", "forward", "output", "postrouting"}

// String is nft(8)'s word for a hook, or "" for any other number.
func (h Hook) String() string {
	if int64(h) < int64(len(hooks)) {
		return hooks[h]
	}
	return ""
}

// FamilyWord is nft(8)'s word for a family, or "" for a family that has other hooks.
func FamilyWord(n byte) string {
	switch n {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	case unix.NFPROTO_INET:
		return "inet"
	case unix.NFPROTO_BRIDGE:
		return "bridge"
	}
	return ""
}

// Table is a table of nf_tables. Its methods return messages: some get objects, for
// [Conn.Any], [Conn.Get] and [Conn.List]; the others change objects, for
// [Conn.Commit].
type Table struct {
	Family byte // NFPROTO_IPV4 and so on
	Name   string
}

// tableName is the attribute of the table's name in each of the messages:
// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE and
// NFTA_SET_ELEM_LIST_TABLE.
const tableName = unix.NFTA_TABLE_NAME

// message returns a message about the table or, if part is not "", about a part of
// it.
func (t Table) message(kind, flags, partName uint16, part string) Message {
	b := begin(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, t.Family, 108)
	b = Message(Attrs(b).Text(tableName, t.Name))
	if part != "" {
		b = Message(Attrs(b).Text(partName, part))
	}
	return b.end()
}

// Tables asks for the tables of a family, or of all families if it is AF_UNSPEC.
func Tables(family byte) Message { return nft(unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, family, nil) }

// Chains asks for the chains of a family's tables, or of all tables if it is
// AF_UNSPEC. The kernel cannot list the chains of one table only.
func Chains(family byte) Message { return nft(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, family, nil) }

// Get asks for the table.
func (t Table) Get() Message { return t.message(unix.NFT_MSG_GETTABLE, 0, 0, "") }

// Chain asks for a chain.
func (t Table) Chain(name string) Message {
	return t.message(unix.NFT_MSG_GETCHAIN, 0, unix.NFTA_CHAIN_NAME, name)
}

// Rules asks for the rules of a chain.
func (t Table) Rules(chain string) Message {
	return t.message(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, unix.NFTA_RULE_CHAIN, chain)
}

// Elements asks for the elements of a set or map: see [Elements].
func (t Table) Elements(set string) Message {
	return t.message(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, unix.NFTA_SET_ELEM_LIST_SET, set)
}

// Set asks what kind of set or map one is.
func (t Table) Set(name string) Message {
	return t.message(unix.NFT_MSG_GETSET, 0, unix.NFTA_SET_NAME, name)
}

// Element asks for the element of a set or map that has a key, for [Conn.Get].
func (t Table) Element(set string, key []byte) Message {
	m := Attrs(t.message(unix.NFT_MSG_GETSETELEM, 0, unix.NFTA_SET_ELEM_LIST_SET, set)).
		Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, Attrs{}.Nest(unix.NFTA_LIST_ELEM, Attrs{}.
			Nest(unix.NFTA_SET_ELEM_KEY, Attrs{}.Bytes(unix.NFTA_DATA_VALUE, key))))
	return Message(m).end()
}

func (t Table) create(kind, flags uint16, in Attrs) Message {
	return nft(kind, unix.NLM_F_CREATE|flags, t.Family, append(Attrs{}.Text(tableName, t.Name), in...))
}

// Create creates the table, which must not exist yet. flags is [Owner] or zero.
func (t Table) Create(flags uint32) Message {
	var in Attrs
	if flags != 0 {
		in = in.U32(unix.NFTA_TABLE_FLAGS, flags)
	}
	return t.create(unix.NFT_MSG_NEWTABLE, unix.NLM_F_EXCL, in)
}

// Delete removes the table with everything in it.
func (t Table) Delete() Message {
	return t.message(unix.NFT_MSG_DELTABLE, 0, 0, "")
}

// CreateSet creates a set that rules can add elements to. The id distinguishes it
// from other sets of the same transaction; key is the size of a key in bytes.
func (t Table) CreateSet(name string, id uint32, key, size int) Message {
	return t.create(unix.NFT_MSG_NEWSET, unix.NLM_F_EXCL, Attrs{}.
		Text(unix.NFTA_SET_NAME, name).
		U32(unix.NFTA_SET_FLAGS, setEval).
		U32(unix.NFTA_SET_KEY_TYPE, 0).
		U32(unix.NFTA_SET_KEY_LEN, uint32(key)).
		U32(unix.NFTA_SET_ID, id).
		Nest(unix.NFTA_SET_DESC, Attrs{}.U32(unix.NFTA_SET_DESC_SIZE, uint32(size))))
}

// CreateChain creates a base chain with the policy accept.
// kind is "filter" or "nat".
func (t Table) CreateChain(name, kind string, at Hook, priority int32) Message {
	return t.create(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_EXCL, Attrs{}.
		Text(unix.NFTA_CHAIN_NAME, name).
		Nest(unix.NFTA_CHAIN_HOOK, Attrs{}.U32(unix.NFTA_HOOK_HOOKNUM, uint32(at)).U32(unix.NFTA_HOOK_PRIORITY, uint32(priority))).
		U32(unix.NFTA_CHAIN_POLICY, accept).
		Text(unix.NFTA_CHAIN_TYPE, kind))
}

// CreateRule appends a rule to a chain.
func (t Table) CreateRule(chain string, e Exprs) Message {
	return t.create(unix.NFT_MSG_NEWRULE, unix.NLM_F_APPEND, Attrs{}.
		Text(unix.NFTA_RULE_CHAIN, chain).
		Nest(unix.NFTA_RULE_EXPRESSIONS, Attrs(e)))
}

// DeleteRules removes the rules of all chains.
func (t Table) DeleteRules() Message {
	return t.message(unix.NFT_MSG_DELRULE, 0, 0, "")
}
