package nfnl

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Conn sends requests to nf_tables one at a time: see [rtnl.Dial]. It is for one
// goroutine, on any thread.
//
// Answers show committed state only. The exception is the use counts of tables and
// chains: they already change while the kernel reads a transaction, so a chain that
// one transaction removes and creates again has no users for a while.
type Conn struct {
	fd     int
	buffer []byte
}

// Dial returns a connection for the calling thread's network namespace. An error
// that is unix.EPROTONOSUPPORT says that there is no nfnetlink. A request makes
// the kernel load nf_tables: see [Loaded].
func Dial() (*Conn, error) {
	fd, err := rtnl.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open nfnetlink: %w", err)
	}
	// Errors then say more than a number, since Linux 4.12.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &Conn{fd: fd}, nil
}

// Close ends the connection, and the tables that it owns.
func (c *Conn) Close() { unix.Close(c.fd) }

// Any reports whether there is an object. It reads only the beginning of the answer:
// after a request for a list, the connection can only be closed, and the kernel then
// drops the rest (netlink_dump in net/netlink/af_netlink.c).
// It waits for no writer: the kernel answers under RCU (nf_tables_cb in
// net/netfilter/nf_tables_api.c).
func (c *Conn) Any(question Message) (bool, error) {
	var b [header]byte // the rest of the datagram is dropped
	n, err := c.ask(question, b[:])
	if err != nil {
		return false, err
	}
	if n < len(b) {
		return false, io.ErrUnexpectedEOF
	}
	switch binary.NativeEndian.Uint16(b[4:]) {
	case unix.NLMSG_DONE, unix.NLMSG_ERROR:
		if err := failure(b[:]); err != nil && !errors.Is(err, unix.ENOENT) {
			return false, err
		}
		return false, nil
	}
	return true, nil
}

// Get returns the attributes of one object. An error that is unix.ENOENT says
// that it is not there.
func (c *Conn) Get(question Message) (in []byte, err error) {
	c.allocate()
	n, err := c.ask(question, c.buffer)
	if err != nil {
		return nil, err
	}
	_, _, err = part(c.buffer[:n], func(b []byte) { in = bytes.Clone(b) })
	return in, err
}

// attempts to get a list that did not change while it was read.
const attempts = 10

// ErrChanged says that a list changed while it was read.
var ErrChanged = errors.New("it changed")

// List asks for a list, and calls f with the attributes of each object in it. If
// the list changes meanwhile, List calls again, unless it is nil, and starts over.
// An error that is [ErrChanged] says that the list changed during every attempt;
// f has had all objects of the last one. ctx is checked before each part of the
// answer; after its error, the connection can only be closed.
func (c *Conn) List(ctx context.Context, question Message, again func(), f func(in []byte)) error {
	c.allocate()
	for i := range attempts {
		if i > 0 && again != nil {
			again()
		}
		if err := c.read(ctx, question, f); !errors.Is(err, ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("%w during each of %d attempts", ErrChanged, attempts)
}

// read is one attempt. An answer that has changed is read to its end too: until
// then the kernel accepts no other request. The kernel prepares the next part while
// it delivers one, so no call waits.
func (c *Conn) read(ctx context.Context, question Message, f func(in []byte)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := c.ask(question, c.buffer)
	for stale := false; err == nil; n, err = rtnl.Answer(c.fd, c.buffer) {
		done, changed, err := part(c.buffer[:n], f)
		stale = stale || changed
		switch {
		case err != nil:
			return err
		case done && stale:
			return ErrChanged
		case done:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
	return err
}

// Commit sends messages as one transaction: all of them take effect, or none. It
// returns the first error: later ones may be consequences of it.
func (c *Conn) Commit(messages ...Message) error {
	c.allocate()
	b := batch(unix.NFNL_MSG_BATCH_BEGIN)
	for i, m := range messages {
		binary.NativeEndian.PutUint16(m[6:], binary.NativeEndian.Uint16(m[6:])|unix.NLM_F_ACK)
		binary.NativeEndian.PutUint32(m[8:], uint32(i+1))
		b = append(b, m...)
	}
	n, err := c.ask(append(b, batch(unix.NFNL_MSG_BATCH_END)...), c.buffer)
	var first error
	for ; err == nil; n, err = rtnl.Answer(c.fd, c.buffer) {
		if _, _, err := part(c.buffer[:n], func([]byte) {}); first == nil {
			first = err
		}
	}
	if errors.Is(err, unix.EAGAIN) { // all answers have been read
		return first
	}
	return err
}

// batch begins or ends a transaction of nf_tables.
func batch(kind uint16) Message {
	m := Request(kind, 0, unix.AF_UNSPEC, nil)
	binary.BigEndian.PutUint16(m[unix.SizeofNlMsghdr+2:], unix.NFNL_SUBSYS_NFTABLES) // res_id
	return m
}

// allocate makes a buffer for a whole part of a list: the kernel makes parts as
// large as the reader's buffer allows, up to this size (netlink_dump).
func (c *Conn) allocate() {
	if c.buffer == nil {
		c.buffer = make([]byte, 32<<10)
	}
}

func (c *Conn) ask(question Message, answer []byte) (int, error) {
	if _, err := unix.Write(c.fd, question); err != nil {
		return 0, err
	}
	return rtnl.Answer(c.fd, answer)
}

// part calls f with the attributes of each object in a datagram. It reports
// whether an answer ends there, and whether its objects have changed meanwhile.
func part(b []byte, f func(in []byte)) (done, changed bool, err error) {
	for len(b) > 0 && !done {
		if len(b) < header {
			return false, false, io.ErrUnexpectedEOF
		}
		n := int(binary.NativeEndian.Uint32(b))
		if n < header || n > len(b) {
			return false, false, io.ErrUnexpectedEOF
		}
		changed = changed || binary.NativeEndian.Uint16(b[6:])&unix.NLM_F_DUMP_INTR != 0
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			if err := failure(b[:n]); err != nil {
				return true, changed, err
			}
			done = true
		default:
			f(b[header:n])
		}
		b = b[min(aligned(n), len(b)):]
	}
	return done, changed, nil
}

// failure returns the error in a message NLMSG_ERROR or NLMSG_DONE: an errno, which
// can be zero, and sometimes a sentence, after the header of the request.
func failure(b []byte) error {
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])))
	if errno == 0 {
		return nil
	}
	const capped, said = 0x100, 0x200 // NLM_F_CAPPED, NLM_F_ACK_TLVS
	const behind = header + unix.SizeofNlMsghdr
	if binary.NativeEndian.Uint16(b[6:])&(capped|said) == capped|said && len(b) > behind {
		if text := Text(Find(b[behind:], unix.NLMSGERR_ATTR_MSG)); text != "" {
			return fmt.Errorf("%w: %s", errno, text)
		}
	}
	return errno
}
