package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/trace"
)

// namePrefix and the process make the name of the tables.
const namePrefix = "nfguard-trace-"

// Of linux/netfilter/nf_tables.h and linux/netfilter.h, where x/sys has no
// name for it.
const (
	tableOwner = 0x2  // NFT_TABLE_F_OWNER: from Linux 5.12 on
	setEval    = 0x20 // NFT_SET_EVAL

	reg1       = unix.NFT_REG32_00
	addressReg = reg1 // registers of four bytes: the address is in the first one, or the first four
)

// Where our chains are. The first see a packet before anybody else who looks
// at addresses, right after fragments are put together (NF_IP_PRI_CONNTRACK_DEFRAG
// is -400); the last see what became of it (NF_IP_PRI_NAT_SRC is 100); the
// middle is behind conntrack (-200) and before address translation (-100).
const (
	first  = -399
	middle = -150
	last   = 1000
)

// hooks of each layer: enum nf_inet_hooks, and NF_BR_PRE_ROUTING and so on,
// which have the same numbers.
var hooks = [...]string{"prerouting", "input", "forward", "output", "postrouting"}

func hookName(n uint64) string {
	if n < uint64(len(hooks)) {
		return hooks[n]
	}
	return ""
}

const (
	prerouting  = 0
	input       = 1
	forward     = 2
	output      = 3
	postrouting = 4
)

// The sets of a table: who asks, with the port it asks from, and who answers.
// The kernel fills them while it looks at packets, so that the very first reply
// is known for one.
const (
	clients   = "clients"
	endpoints = "endpoints"
)

// marks is the tables that mark the packets of one connection for the kernel's
// trace: they set meta nftrace and decide nothing, each chain ends with accept.
type marks struct {
	s      socket
	name   string
	ip     byte // NFPROTO_IPV4 or NFPROTO_IPV6
	owned  bool // by the socket; not before Linux 5.12
	bridge bool // the table of the bridge's hooks is there, too
}

// mark makes the tables. tracked says that conntrack is at work here, and may
// be asked: to ask for it would switch it on where it is not.
func mark(q trace.Query, tracked bool) (*marks, error) {
	s, err := openSocket()
	if err != nil {
		return nil, err
	}
	m := &marks{s: s, name: namePrefix + strconv.Itoa(os.Getpid()), ip: unix.NFPROTO_IPV4}
	if q.Client.Is6() {
		m.ip = unix.NFPROTO_IPV6
	}
	// The kernel has the same error for a flag that it does not know and for a
	// family that it was built without.
	for _, able := range []struct{ owned, bridge bool }{{true, true}, {false, true}, {true, false}, {false, false}} {
		m.owned, m.bridge = able.owned, able.bridge
		err = s.commit(m.messages(q, tracked)...)
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("make the tables %s: %w", m.name, err)
	}
	return m, nil
}

// close removes the tables. The end of the socket would, too, where they have
// an owner.
func (m *marks) close() error {
	defer m.s.close()
	var messages [][]byte
	if m.bridge {
		messages = append(messages, deleteTable(unix.NFPROTO_BRIDGE, m.name))
	}
	messages = append(messages, deleteTable(m.ip, m.name))
	if err := m.s.commit(messages...); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the tables %s: %w", m.name, err)
	}
	return nil
}

func deleteTable(family byte, name string) []byte {
	return message(unix.NFT_MSG_DELTABLE, 0, family, attrs{}.text(unix.NFTA_TABLE_NAME, name))
}

// sweep removes the tables that tracers left which were killed on a kernel
// without owners of tables. One that runs is another's, and is left.
func sweep() error {
	s, err := openSocket()
	if err != nil {
		return err
	}
	defer s.close()
	var all error
	for _, family := range []byte{unix.NFPROTO_BRIDGE, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		answers, err := s.ask(message(unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, family, nil))
		if err != nil {
			return fmt.Errorf("list the tables of nf_tables: %w", err)
		}
		for _, a := range answers {
			name := unix.ByteSliceToString(find(a, unix.NFTA_TABLE_NAME))
			pid, ours := strings.CutPrefix(name, namePrefix)
			if !ours || number(find(a, unix.NFTA_TABLE_FLAGS))&tableOwner != 0 || runs(pid) {
				continue
			}
			if err := s.commit(deleteTable(family, name)); err != nil {
				all = errors.Join(all, fmt.Errorf("remove the table %s that a killed nfguard trace left: %w", name, err))
			}
		}
	}
	return all
}

func runs(pid string) bool {
	n, err := strconv.Atoi(pid)
	return err == nil && n > 0 && unix.Kill(n, 0) != unix.ESRCH
}

// messages is the transaction that makes the tables.
func (m *marks) messages(q trace.Query, tracked bool) [][]byte {
	b := &builder{name: m.name, query: q, owned: m.owned}
	if m.bridge {
		b.table(unix.NFPROTO_BRIDGE)
		b.chain("prerouting", prerouting, first)
		b.seen("prerouting")
		b.chain("input", input, first)
		b.chain("forward", forward, first)
		b.learn("forward")
		b.chain("output", output, first)
		b.learn("output")
		b.seen("output") // the node's own, which it may send to a pod directly
		b.chain("postrouting", postrouting, first)
	}

	b.table(m.ip)
	for _, c := range []struct {
		name string
		hook uint32
	}{{"prerouting", prerouting}, {"output", output}} {
		b.chain(c.name, c.hook, first)
		b.seen(c.name)
		if tracked {
			b.chain(c.name+"-tracked", c.hook, middle)
			b.ofConnection(c.name + "-tracked")
		}
		b.chain(c.name+"-end", c.hook, last)
	}
	b.chain("input", input, first)
	b.chain("input-end", input, last) // a reply to the node itself is translated there
	b.chain("forward", forward, first)
	b.chain("postrouting", postrouting, first)
	b.chain("postrouting-end", postrouting, last)
	if tracked {
		b.learnTracked("postrouting-end")
	} else {
		b.learn("postrouting-end")
	}
	return b.messages
}

// builder collects the messages for one table after the other.
type builder struct {
	name     string
	query    trace.Query
	owned    bool
	family   byte // of the table that is being made
	setID    uint32
	messages [][]byte
}

func (b *builder) add(kind uint16, in attrs) {
	b.messages = append(b.messages, message(kind, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b.family, in))
}

func (b *builder) table(family byte) {
	b.family = family
	in := attrs{}.text(unix.NFTA_TABLE_NAME, b.name)
	if b.owned {
		in = in.u32(unix.NFTA_TABLE_FLAGS, tableOwner)
	}
	b.add(unix.NFT_MSG_NEWTABLE, in)
	for _, set := range []string{clients, endpoints} {
		b.setID++
		b.add(unix.NFT_MSG_NEWSET, attrs{}.
			text(unix.NFTA_SET_TABLE, b.name).
			text(unix.NFTA_SET_NAME, set).
			u32(unix.NFTA_SET_FLAGS, setEval).
			u32(unix.NFTA_SET_KEY_TYPE, 0).
			u32(unix.NFTA_SET_KEY_LEN, uint32(len(b.query.Client.AsSlice())+4)).
			u32(unix.NFTA_SET_ID, b.setID).
			nest(unix.NFTA_SET_DESC, attrs{}.u32(unix.NFTA_SET_DESC_SIZE, setSize)))
	}
}

// setSize bounds what the kernel learns: a trace is over long before.
const setSize = 4096

func (b *builder) chain(name string, hook uint32, priority int32) {
	b.add(unix.NFT_MSG_NEWCHAIN, attrs{}.
		text(unix.NFTA_CHAIN_TABLE, b.name).
		text(unix.NFTA_CHAIN_NAME, name).
		nest(unix.NFTA_CHAIN_HOOK, attrs{}.u32(unix.NFTA_HOOK_HOOKNUM, hook).u32(unix.NFTA_HOOK_PRIORITY, uint32(priority))).
		u32(unix.NFTA_CHAIN_POLICY, 1). // NF_ACCEPT
		text(unix.NFTA_CHAIN_TYPE, "filter"))
}

// seen marks what belongs to the connection by its addresses.
func (b *builder) seen(chain string) {
	q := b.query
	b.each(chain, func(e exprs) exprs { // the request, as the client sends it
		e = e.compare(b.source(), addressOf(q.Client)).compare(b.destination(), addressOf(q.Server))
		if q.Port != 0 {
			e = e.compare(destinationPort, portOf(q.Port))
		}
		return e.trace().learn(clients, b.source(), sourcePort)
	})
	b.each(chain, func(e exprs) exprs { // the reply of the server itself
		e = e.compare(b.source(), addressOf(q.Server)).compare(b.destination(), addressOf(q.Client))
		if q.Port != 0 {
			e = e.compare(sourcePort, portOf(q.Port))
		}
		return e.known(clients, b.destination(), destinationPort).trace()
	})
	b.each(chain, func(e exprs) exprs { // the reply of who the server was translated to
		return e.known(endpoints, b.source(), sourcePort).known(clients, b.destination(), destinationPort).trace()
	})
	b.each(chain, func(e exprs) exprs { // what the client makes of that one: a reset
		return e.known(clients, b.source(), sourcePort).known(endpoints, b.destination(), destinationPort).trace()
	})
}

// learn takes who the server was translated to from a request on its further
// way.
func (b *builder) learn(chain string) {
	b.each(chain, func(e exprs) exprs {
		return e.compare(b.source(), addressOf(b.query.Client)).
			differ(b.destination(), addressOf(b.query.Server)).
			known(clients, b.source(), sourcePort).
			learn(endpoints, b.destination(), destinationPort)
	})
}

// ofConnection marks what conntrack has for a part of the connection, the
// replies too, whatever their addresses are here.
func (b *builder) ofConnection(chain string) {
	b.each(chain, func(e exprs) exprs { return b.original(e).trace() })
}

// learnTracked takes both ends as the last translation left them, also the
// client's own address where it was masqueraded.
func (b *builder) learnTracked(chain string) {
	b.each(chain, func(e exprs) exprs {
		e = b.original(e).ct(unix.NFT_CT_DIRECTION, noDirection).compareRegister([]byte{0})
		return e.learn(clients, b.source(), sourcePort).learn(endpoints, b.destination(), destinationPort)
	})
}

// original is what conntrack has for the first packet of the connection.
func (b *builder) original(e exprs) exprs {
	q := b.query
	e = e.ct(unix.NFT_CT_SRC, original).compareRegister(addressOf(q.Client)).
		ct(unix.NFT_CT_DST, original).compareRegister(addressOf(q.Server))
	if q.Port != 0 {
		e = e.ct(unix.NFT_CT_PROTO_DST, original).compareRegister(portOf(q.Port))
	}
	return e
}

// each adds a rule for each protocol that is asked for. It begins with what
// has to be known before anything else of a packet is looked at.
func (b *builder) each(chain string, rule func(exprs) exprs) {
	for _, p := range []trace.Protocol{trace.TCP, trace.UDP} {
		if b.query.Protocol != 0 && b.query.Protocol != p {
			continue
		}
		var e exprs
		if b.family == unix.NFPROTO_BRIDGE {
			protocol := uint16(unix.ETH_P_IP)
			if b.query.Client.Is6() {
				protocol = unix.ETH_P_IPV6
			}
			e = e.meta(unix.NFT_META_PROTOCOL).compareRegister(portOf(protocol))
		}
		e = e.meta(unix.NFT_META_L4PROTO).compareRegister([]byte{byte(p)})
		b.add(unix.NFT_MSG_NEWRULE, attrs{}.
			text(unix.NFTA_RULE_TABLE, b.name).
			text(unix.NFTA_RULE_CHAIN, chain).
			nest(unix.NFTA_RULE_EXPRESSIONS, attrs(rule(e))))
		// Rules are appended, and equal ones are allowed.
		last := b.messages[len(b.messages)-1]
		binary.NativeEndian.PutUint16(last[6:], unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	}
}

func (b *builder) source() field {
	if b.query.Client.Is6() {
		return field{unix.NFT_PAYLOAD_NETWORK_HEADER, 8, 16}
	}
	return field{unix.NFT_PAYLOAD_NETWORK_HEADER, 12, 4}
}

func (b *builder) destination() field {
	if b.query.Client.Is6() {
		return field{unix.NFT_PAYLOAD_NETWORK_HEADER, 24, 16}
	}
	return field{unix.NFT_PAYLOAD_NETWORK_HEADER, 16, 4}
}

func addressOf(a netip.Addr) []byte { return a.AsSlice() }
func portOf(n uint16) []byte        { return binary.BigEndian.AppendUint16(nil, n) }
