package nfnl

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// Commit is a committed transaction of nf_tables: somebody has changed tables,
// chains or rules. The thread that did so may have ended since.
type Commit struct {
	PID  int    // of the thread, in the initial PID namespace; in a program with one thread, the PID of the process
	Comm string // its name
}

// Subscription receives the transactions of nf_tables in one network namespace. It
// is for one goroutine.
type Subscription struct {
	group *rtnl.Group
}

// Subscribe joins the multicast group of nf_tables in the calling thread's network
// namespace. If nf_tables is a module that is not loaded, the kernel loads it: see
// [Loaded]. An error that is unix.EPERM means that CAP_NET_ADMIN is missing.
//
// A transaction brings one datagram, however large it is: a filter in the kernel
// drops the others, which hold all the changes. The kernel still has to write them
// as soon as the group has a member, at the writer's cost: 4 µs for each rule.
func Subscribe() (*Subscription, error) {
	group, err := rtnl.Join(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES, commitsOnly(), 0)
	if err != nil {
		return nil, err
	}
	return &Subscription{group: group}, nil
}

// Next waits for a transaction. Its errors, and what they leave usable, are
// those of [rtnl.Group.Receive].
func (s *Subscription) Next(ctx context.Context) (Commit, error) {
	var b [256]byte // 56 are used
	n, err := s.group.Receive(ctx, b[:])
	if err != nil {
		return Commit{}, err
	}
	return parseCommit(b[:n]), nil
}

// Renew drops all unread news, including that some was lost. Call it in the network
// namespace of the first subscription. A look after Renew sees the effect of all
// that was dropped. After an error, the subscription can only be closed.
func (s *Subscription) Renew() error {
	next, err := Subscribe()
	if err != nil {
		return err
	}
	s.group.Close()
	*s = *next
	return nil
}

// Close ends the subscription.
func (s *Subscription) Close() error { return s.group.Close() }

// commitsOnly lets through only datagrams that begin with NFT_MSG_NEWGEN. The
// kernel sends one at the end of a transaction, after those about its parts and
// never together with them: nf_tables_gen_notify in net/netfilter/nf_tables_api.c
// has its own buffer, since 3.18, while nft_commit_notify shares buffers between
// the parts, since 5.10.
func commitsOnly() []unix.SockFilter {
	// The message is in host byte order; the filter loads it in network byte order.
	newgen := binary.NativeEndian.AppendUint16(nil, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN)
	return []unix.SockFilter{
		rtnl.Stmt(unix.BPF_LD|unix.BPF_H|unix.BPF_ABS, 4), // nlmsg_type
		rtnl.Equal(uint32(binary.BigEndian.Uint16(newgen)), 0, 1),
		rtnl.Stmt(unix.BPF_RET|unix.BPF_K, rtnl.Pass),
		rtnl.Stmt(unix.BPF_RET|unix.BPF_K, rtnl.Drop),
	}
}

// parseCommit reads a message NFT_MSG_NEWGEN. Attributes that are missing, as before
// Linux 4.14, stay zero.
func parseCommit(b []byte) Commit {
	_, _, in := Parse(b)
	pid := Find(in, unix.NFTA_GEN_PROC_PID)
	if len(pid) != 4 {
		pid = nil
	}
	return Commit{PID: int(Number(pid)), Comm: Text(Find(in, unix.NFTA_GEN_PROC_NAME))}
}

// Loaded reports whether nf_tables is in the kernel. A request to nf_tables itself,
// or joining its group, would make the kernel load it (nfnetlink_rcv_msg and
// nfnetlink_bind in net/netfilter/nfnetlink.c), so this looks in files instead.
func Loaded() bool { return Has("nf_tables") }

// Has is [Loaded] for any module of nfnetlink.
func Has(module string) bool { return has("/", module) }

// has looks in the tree at root. A loaded module has a directory in sysfs. One that
// is built in and takes no parameters has none; then modprobe's index lists it as
// built in. Without an index, modprobe finds nothing to load either, so a request is
// safe.
func has(root, module string) bool {
	exists := func(path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	}
	if exists(filepath.Join("sys/module", module)) || !exists("proc/modules") { // a kernel without modules
		return true
	}
	release, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/osrelease"))
	if err != nil {
		return false
	}
	index, err := os.ReadFile(filepath.Join(root, "lib/modules", strings.TrimSpace(string(release)), "modules.builtin"))
	return err != nil || bytes.Contains(index, []byte("/"+module+".ko\n"))
}
