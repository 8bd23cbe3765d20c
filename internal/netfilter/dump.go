package netfilter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// dumper reads whole answers of nf_tables, one after the other.
type dumper struct {
	nftSocket
	buffer []byte
}

// dumpSize is the most that the kernel puts into one part of an answer, which
// it does for who can take it (netlink_dump in net/netlink/af_netlink.c).
const dumpSize = 32 << 10

func openDumper() (*dumper, error) {
	s, err := openNFT()
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(int(s), true); err != nil {
		s.close()
		return nil, err
	}
	return &dumper{s, make([]byte, dumpSize)}, nil
}

// errChanged says that an answer is void: its objects have changed meanwhile.
var errChanged = errors.New("it changed meanwhile")

// whole asks, and calls f with the attributes of each object in the answer. A
// void one is asked for again, after a call of again.
func (d *dumper) whole(ctx context.Context, request []byte, again func(), f func(attributes []byte)) error {
	binary.NativeEndian.PutUint32(request, uint32(len(request))) // nlmsg_len
	for range attempts {
		err := d.read(ctx, request, f)
		if !errors.Is(err, errChanged) {
			return err
		}
		again()
	}
	return fmt.Errorf("it changed during each of %d attempts", attempts)
}

// read is one attempt. A void answer is read to its end, too: the kernel takes
// no other question before. It makes the next part while it hands one over, so
// no call waits.
func (d *dumper) read(ctx context.Context, request []byte, f func(attributes []byte)) error {
	if _, err := unix.Write(int(d.nftSocket), request); err != nil {
		return err
	}
	for void := false; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Read(int(d.nftSocket), d.buffer)
		if err != nil {
			return err
		}
		done, changed, err := part(d.buffer[:n], f)
		void = void || changed
		switch {
		case err != nil:
			return err
		case done && void:
			return errChanged
		case done:
			return nil
		}
	}
}

// part calls f with the attributes of each object in a part of an answer. It
// reports whether it was the last part, and whether the answer is void.
func part(b []byte, f func(attributes []byte)) (done, changed bool, err error) {
	for len(b) > 0 && !done {
		if len(b) < nlHeader+nfHeader {
			return false, false, io.ErrUnexpectedEOF
		}
		n := int(binary.NativeEndian.Uint32(b))
		if n < nlHeader+nfHeader || n > len(b) {
			return false, false, io.ErrUnexpectedEOF
		}
		changed = changed || binary.NativeEndian.Uint16(b[6:])&unix.NLM_F_DUMP_INTR != 0
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			if code := int32(binary.NativeEndian.Uint32(b[nlHeader:])); code != 0 {
				return true, changed, unix.Errno(-code)
			}
			done = true
		default:
			f(b[nlHeader+nfHeader : n])
		}
		b = b[min(aligned(n), len(b)):]
	}
	return done, changed, nil
}
