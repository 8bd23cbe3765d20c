package rules

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
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
	group, err := rtnl.Join(unix.NETLINK_KOBJECT_UEVENT, kernelGroup, rtnl.StartsWith(loaded), 0)
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
