package nfnl

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Of linux/netfilter/ipset/ip_set.h, which x/sys does not have.
const (
	// SetName is the attribute of a set's name in an answer to [SetByIndex].
	SetName = 2 // IPSET_ATTR_SETNAME

	setProtocol = 1  // IPSET_ATTR_PROTOCOL
	setData     = 7  // IPSET_ATTR_DATA
	setLine     = 9  // IPSET_ATTR_LINENO
	setIndex    = 11 // IPSET_ATTR_INDEX

	setVersion    = 6
	setVersion7   = 7  // which knows the question for a name
	testElement   = 11 // IPSET_CMD_TEST
	getNameByItem = 15 // IPSET_CMD_GET_BYINDEX
	noSuchElement = unix.Errno(4103)
)

// ErrNotInSet is the answer to [TestInSet] for what is not in it.
var ErrNotInSet = errors.New("not in the set")

// SetByIndex asks ip_set for the name of a set that a rule of iptables asks for,
// by [Conn.Get]: see [SetName].
func SetByIndex(index uint16) Message {
	return Request(unix.NFNL_SUBSYS_IPSET<<8|getNameByItem, 0, unix.AF_UNSPEC,
		Attrs{}.U8(setProtocol, setVersion7).Bytes(setIndex|unix.NLA_F_NET_BYTEORDER, binary.BigEndian.AppendUint16(nil, index)))
}

// TestInSet asks ip_set whether an address is in a set, by [Conn.Commanded].
func TestInSet(name string, address []byte) Message {
	const ip, v4, v6 = 1, 1, 2 // IPSET_ATTR_IP, IPSET_ATTR_IPADDR_IPV4, IPSET_ATTR_IPADDR_IPV6
	family, kind := byte(unix.AF_INET), uint16(v4)
	if len(address) == 16 {
		family, kind = unix.AF_INET6, v6
	}
	return Request(unix.NFNL_SUBSYS_IPSET<<8|testElement, unix.NLM_F_ACK, family, Attrs{}.
		U8(setProtocol, setVersion).Text(SetName, name).
		Nest(setData, Attrs{}.Nest(ip, Attrs{}.Bytes(kind|unix.NLA_F_NET_BYTEORDER, address)).
			Bytes(setLine|unix.NLA_F_NET_BYTEORDER, make([]byte, 4))))
}

// Commanded sends a message that is answered by yes or no.
func (c *Conn) Commanded(m Message) error {
	c.allocate()
	n, err := c.ask(m, c.buffer)
	if err != nil {
		return err
	}
	_, _, err = part(c.buffer[:n], func([]byte) {})
	if errors.Is(err, noSuchElement) {
		return ErrNotInSet
	}
	return err
}

// Numbers are those that an attribute has in each element of a list.
func Numbers(list []byte, attr uint16) (all []int) {
	for _, e := range rtnl.Attrs(list) {
		all = append(all, int(Number(Find(e, attr))))
	}
	return all
}
