package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/rtnl"
	"github.com/nfguard/nfguard/internal/trace"
)

// socket speaks to nfnetlink: see [rtnl.Dial]. A table with an owner lasts as
// long as the socket that made it, which is why this is not google/nftables:
// that sets no flags of tables (v0.3.0, addTable).
type socket int

func openSocket() (socket, error) {
	fd, err := rtnl.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, fmt.Errorf("open nfnetlink: %w", err)
	}
	return socket(fd), nil
}

func (s socket) close() { unix.Close(int(s)) }

// commit sends messages as one transaction: all of it happens, or nothing.
func (s socket) commit(messages ...[]byte) error {
	b := raw(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	for i, m := range messages {
		binary.NativeEndian.PutUint16(m[6:], binary.NativeEndian.Uint16(m[6:])|unix.NLM_F_ACK)
		binary.NativeEndian.PutUint32(m[8:], uint32(i+1))
		b = append(b, m...)
	}
	b = append(b, raw(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)...)
	_, err := s.exchange(b)
	return err
}

// ask returns the payloads, behind the struct nfgenmsg, of the answers to a
// question. A list that changed while it was read is asked for again; when it
// never stops to change, what there is has to do.
func (s socket) ask(question []byte) (answers [][]byte, err error) {
	for range 5 {
		if answers, err = s.exchange(question); !errors.Is(err, errInterrupted) {
			return answers, err
		}
	}
	return answers, nil
}

// errInterrupted says that a list is not of one moment.
var errInterrupted = errors.New("the list changed while it was read")

// exchange sends b and reads all there is to read. The first error counts:
// what follows it in a transaction may be its consequence.
func (s socket) exchange(b []byte) (answers [][]byte, err error) {
	if _, err := unix.Write(int(s), b); err != nil {
		return nil, err
	}
	buffer := make([]byte, 1<<16)
	for {
		n, rerr := rtnl.Answer(int(s), buffer)
		switch {
		case errors.Is(rerr, unix.EAGAIN):
			return answers, err
		case rerr != nil:
			return answers, rerr
		}
		some, told := parseAnswers(buffer[:n])
		answers = append(answers, some...)
		if err == nil {
			err = told
		}
	}
}

// parseAnswers returns the payloads in a datagram, and the first error that it
// tells.
func parseAnswers(b []byte) (answers [][]byte, err error) {
	for len(b) >= nlHeader {
		size := int(binary.NativeEndian.Uint32(b))
		if size < nlHeader || size > len(b) {
			return answers, io.ErrUnexpectedEOF
		}
		in := b[nlHeader:size]
		var told error
		switch kind := binary.NativeEndian.Uint16(b[4:]); {
		case kind == unix.NLMSG_ERROR || kind == unix.NLMSG_DONE: // both begin with an errno, negative or zero
			if len(in) >= 4 {
				if errno := int32(binary.NativeEndian.Uint32(in)); errno < 0 {
					told = unix.Errno(-errno)
				}
			}
		case len(in) >= nfHeader:
			answers = append(answers, bytes.Clone(in[nfHeader:]))
		}
		if binary.NativeEndian.Uint16(b[6:])&unix.NLM_F_DUMP_INTR != 0 {
			told = errInterrupted
		}
		if err == nil {
			err = told
		}
		b = b[min(aligned(size), len(b)):]
	}
	return answers, err
}

// familyWord is nft(8)'s word for a family.
func familyWord(n byte) string {
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
	return fmt.Sprintf("family %d", n)
}

func layerOf(family byte) trace.Layer {
	if family == unix.NFPROTO_BRIDGE {
		return trace.Bridge
	}
	return trace.IP
}
