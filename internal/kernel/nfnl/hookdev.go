package nfnl

import (
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// HookDevices are the devices of a base chain's hook, of which at is the attribute
// NFTA_CHAIN_HOOK: some for an ingress or egress, none for others. One can end with
// a star, as those of Linux 6.15 on can.
func HookDevices(at []byte) (names []string) {
	const (
		devices = 4 // NFTA_HOOK_DEVS, a list of the following
		name    = 1 // NFTA_DEVICE_NAME
		prefix  = 2 // NFTA_DEVICE_PREFIX
	)
	for t, v := range rtnl.Attrs(Find(at, devices)) {
		switch t {
		case name:
			names = append(names, Text(v))
		case prefix:
			names = append(names, Text(v)+"*")
		}
	}
	if one := Find(at, unix.NFTA_HOOK_DEV); one != nil && len(names) == 0 {
		names = append(names, Text(one))
	}
	return names
}
