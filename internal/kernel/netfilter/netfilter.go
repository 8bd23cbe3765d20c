// Package netfilter finds kube-proxy's rules in the kernel, by their effect and
// not by who wrote them, and the chains that decide on what is forwarded. It
// looks only: it makes no table, loads no module, runs no program, does without
// /run/xtables.lock, and does not judge what it finds. All of it is about the
// network namespace of the calling thread, and needs CAP_NET_ADMIN there.
package netfilter

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/xtables"
)

// Mode is how a kube-proxy implements Services.
type Mode string

// The modes of kube-proxy on Linux, in its own words.
const (
	IPTables Mode = "iptables"
	NFTables Mode = "nftables"
	IPVS     Mode = "ipvs"
)

// Backend is the part of the kernel that holds the rules.
type Backend string

// The backends, in the words of "iptables --version". Rules in both are in
// force beside each other.
const (
	NFT    Backend = "nf_tables"
	Legacy Backend = "legacy"
)

// Rules says that rules of kube-proxy are there. Mode nftables has one backend
// only, and Backend is empty. That of mode ipvs is of the chains beside it; it is
// empty, and so are the families, where there are none and only the device tells.
type Rules struct {
	Mode    Mode
	Backend Backend
	IPv4    bool
	IPv6    bool
}

// String is for people: "iptables mode (nf_tables), IPv4 and IPv6".
func (r Rules) String() string {
	s := string(r.Mode) + " mode"
	if r.Backend != "" {
		s += " (" + string(r.Backend) + ")"
	}
	switch {
	case r.IPv4 && r.IPv6:
		return s + ", IPv4 and IPv6"
	case r.IPv4:
		return s + ", IPv4"
	case r.IPv6:
		return s + ", IPv6"
	}
	return s
}

// What tells a kube-proxy. In the modes iptables and ipvs it is this chain of
// the table nat: KUBE-POSTROUTING and KUBE-MARK-* were also the kubelet's
// before Kubernetes 1.28, and the canaries have no effect. In mode nftables
// the table is its own. The device is there in mode ipvs only.
const (
	natTable      = "nat"
	servicesChain = "KUBE-SERVICES"
	proxyTable    = "kube-proxy"
	ipvsDevice    = "kube-ipvs0"
)

// Look is a way to look that remembers the legacy tables it has read. The zero
// value is ready. It is for one network namespace, and for one goroutine at a
// time; it holds no descriptor.
type Look struct {
	ipv4, ipv6 legacyTable
}

// KubeProxy returns the rules of kube-proxy that are in force, at most one
// entry for each mode and backend, and none without an error where there are
// none. With an error, what is returned is there and the rest is unknown; one
// that is unix.EPERM means that the capability is missing. A chain counts if it
// holds a rule, not for its name: "iptables -F" leaves it empty, and kube-proxy,
// which always has one in it, removes it by --cleanup, as it does the table.
//
// It costs some twenty system calls, however many rules there are, except for
// legacy tables that have changed since the last look: those are copied as a
// whole, in 70 ms and 20 MB for 10,000 Services, and meanwhile the kernel has
// iptables-legacy wait. ctx is looked at between such copies.
func (l *Look) KubeProxy(ctx context.Context) ([]Rules, error) {
	runtime.LockOSThread() // for /proc/thread-self and the sockets' namespace
	defer runtime.UnlockOSThread()

	device, deviceErr := hasIPVSDevice()
	rules, err := nftRules(mode(device))
	legacy := Rules{Mode: mode(device), Backend: Legacy}
	var err4, err6 error
	legacy.IPv4, err4 = l.ipv4.hasServices(ctx, xtables.IPv4)
	legacy.IPv6, err6 = l.ipv6.hasServices(ctx, xtables.IPv6)
	rules = appendSome(rules, legacy)
	if device && !slices.ContainsFunc(rules, func(r Rules) bool { return r.Mode == IPVS }) {
		rules = append(rules, Rules{Mode: IPVS})
	}
	return rules, errors.Join(deviceErr, err, err4, err6)
}

// NFT is [Look.KubeProxy] for the backend nf_tables only, whose changes
// [nfnl.Subscribe] tells.
func (l *Look) NFT() ([]Rules, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	device, deviceErr := hasIPVSDevice()
	rules, err := nftRules(mode(device))
	return rules, errors.Join(deviceErr, err)
}

func mode(ipvs bool) Mode {
	if ipvs {
		return IPVS
	}
	return IPTables
}

// appendSome appends r if it is about a family.
func appendSome(rules []Rules, r Rules) []Rules {
	if r.IPv4 || r.IPv6 {
		return append(rules, r)
	}
	return rules
}

// hasIPVSDevice looks for the device's sysctls, which every device has from
// its beginning (inetdev_init in net/ipv4/devinet.c) and which the kernel
// looks up in the namespace of the calling thread. An ioctl would have the
// kernel run modprobe for a name that is no device (dev_load in
// net/core/dev_ioctl.c), and rtnetlink would wait for its lock.
func hasIPVSDevice() (bool, error) {
	err := unix.Access("/proc/sys/net/ipv4/conf/"+ipvsDevice, unix.F_OK)
	if err != nil && err != unix.ENOENT {
		return false, fmt.Errorf("look for the device %s: %w", ipvsDevice, err)
	}
	return err == nil, nil
}
