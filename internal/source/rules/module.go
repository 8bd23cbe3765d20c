package rules

import (
	"context"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/rtnl"
)

// loaded is how the uevent begins that tells of nf_tables.
const loaded = "add@/module/nf_tables\x00"

// awaitModule waits for the uevent of nf_tables where that is not in the
// kernel yet, and calls subscribed when it has begun to; waited says so. It
// returns ctx's error as soon as ctx ends. Where uevents were lost, it looks.
func awaitModule(ctx context.Context, subscribed func()) (waited bool, err error) {
	if nfnl.Loaded() {
		return false, nil
	}
	const kernelGroup = 1 // the other, 2, is udevd's copies
	group, err := rtnl.Join(unix.NETLINK_KOBJECT_UEVENT, kernelGroup, startsWith(loaded), 0)
	if err != nil {
		return false, err
	}
	defer group.Close()

	subscribed()
	var b [4096]byte
	for !nfnl.Loaded() { // also if it was loaded just before
		if _, err := group.Receive(ctx, b[:]); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return true, err
		}
	}
	return true, nil
}

// startsWith is a filter that passes the datagrams that begin with prefix, of
// which it compares whole pairs of bytes.
func startsWith(prefix string) []unix.SockFilter {
	const ret = unix.BPF_RET | unix.BPF_K
	var filter []unix.SockFilter
	for i := 0; i+2 <= len(prefix); i += 2 {
		filter = append(filter,
			rtnl.Stmt(unix.BPF_LD|unix.BPF_H|unix.BPF_ABS, uint32(i)),
			rtnl.Equal(uint32(binary.BigEndian.Uint16([]byte(prefix[i:]))), 1, 0),
			rtnl.Stmt(ret, rtnl.Drop))
	}
	return append(filter, rtnl.Stmt(ret, rtnl.Pass))
}
