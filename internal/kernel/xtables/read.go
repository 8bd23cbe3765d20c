// Package xtables reads the tables of iptables-legacy, with getsockopt(2), and the
// matches and targets of x_tables, which iptables-nft also uses in its rules. It
// creates and changes nothing. It reads the tables of the calling thread's network
// namespace, and needs CAP_NET_ADMIN there.
package xtables

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Family is an address family of iptables-legacy.
type Family struct {
	name   string
	tables string // file that lists a namespace's tables: xt_proto_init in net/netfilter/x_tables.c
	domain int    // of the socket for getsockopt(2)
	level  int    // of the socket options
	layout layout
}

// The families: see [Of].
var (
	IPv4 = &Family{"IPv4", "/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.SOL_IP, ipv4Entry}
	IPv6 = &Family{"IPv6", "/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6, ipv6Entry}
)

// Of is [IPv6] or [IPv4].
func Of(v6 bool) *Family {
	if v6 {
		return IPv6
	}
	return IPv4
}

// Socket options of linux/netfilter_ipv4/ip_tables.h; those of ip6_tables.h have
// the same numbers. The value of both begins with the name of the table.
const (
	getInfo    = 64 // IPT_SO_GET_INFO: struct ipt_getinfo
	getEntries = 65 // IPT_SO_GET_ENTRIES: struct ipt_get_entries

	nameSize = 32 // XT_TABLE_MAXNAMELEN
)

// Info identifies one version of a table: a struct ipt_getinfo, which is the name,
// where the built-in chains begin and end, the number of entries and their size.
type Info [nameSize + 13*4]byte

// at is the n-th number after the name.
func (i *Info) at(n int) int { return int(binary.NativeEndian.Uint32(i[nameSize+4*n:])) }

func (i *Info) size() int { return i.at(12) }

// entriesOffset is where the entries begin in a struct ipt_get_entries on a 64-bit
// machine. On other machines the kernel answers EINVAL.
const entriesOffset = nameSize + 8

// Tables returns the names of the tables that exist. Never use the options above for
// another name: the kernel would create that table, and load modules for it
// (xt_request_find_table_lock in net/netfilter/x_tables.c).
func (f *Family) Tables() ([]string, error) {
	names, err := os.ReadFile(f.tables)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no ip_tables in this kernel
	}
	return strings.Fields(string(names)), err
}

// attempts to get matching info and entries while another process replaces the
// table.
const attempts = 10

// Read calls use with a table, unless it is still the one that known describes, and
// returns its info. The table has to exist: see [Family.Tables]. use must not keep
// the table.
//
// The whole table is copied, which takes 70 ms and 20 MB for 10,000 Services;
// iptables-legacy has to wait meanwhile. ctx is checked between copies.
func (f *Family) Read(ctx context.Context, table string, known Info, use func(*Table) error) (info Info, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the %s table %s of iptables-legacy: %w", f.name, table, err)
		}
	}()
	fd, err := unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return info, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	for range attempts {
		if err := ctx.Err(); err != nil {
			return info, err
		}
		info = Info{}
		copy(info[:nameSize-1], table)
		if err := getsockopt(fd, f.level, getInfo, info[:]); err != nil {
			return info, os.NewSyscallError("getsockopt", err)
		}
		if info == known {
			return info, nil
		}
		err := f.entries(fd, info, use)
		if errors.Is(err, unix.EAGAIN) { // the table was replaced by one of another size
			continue
		}
		return info, err
	}
	return info, fmt.Errorf("it changed during each of %d attempts", attempts)
}

// entries copies the table's entries into separate memory, which is unmapped as
// soon as use returns.
func (f *Family) entries(fd int, info Info, use func(*Table) error) error {
	b, err := unix.Mmap(-1, 0, entriesOffset+info.size(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	defer unix.Munmap(b) //nolint:errcheck // it is mapped

	copy(b, info[:nameSize])
	binary.NativeEndian.PutUint32(b[nameSize:], uint32(info.size()))
	if err := getsockopt(fd, f.level, getEntries, b); err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	return use(&Table{f, info, b[entriesOffset:]})
}

// getsockopt is getsockopt(2) for any value. The kernel reads and writes it, so it
// must have the size that the kernel expects.
func getsockopt(fd, level, name int, value []byte) error {
	n := uint32(len(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
