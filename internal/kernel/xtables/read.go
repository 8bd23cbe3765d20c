// Package xtables reads the tables of iptables-legacy, by getsockopt(2), and
// what x_tables' parts of a rule say, which iptables-nft has, too. It makes and
// changes nothing. Tables are those of the calling thread's network namespace,
// and need CAP_NET_ADMIN there.
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

// Family is one of the two that iptables-legacy has code for.
type Family struct {
	name   string
	tables string // lists the tables of a namespace: xt_proto_init in net/netfilter/x_tables.c
	domain int    // of a socket that takes the options
	level  int    // of the options
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

// Options of linux/netfilter_ipv4/ip_tables.h, and of ip6_tables.h with the
// same numbers. Both begin with the name of the table.
const (
	getInfo    = 64 // IPT_SO_GET_INFO: struct ipt_getinfo
	getEntries = 65 // IPT_SO_GET_ENTRIES: struct ipt_get_entries

	nameSize = 32 // XT_TABLE_MAXNAMELEN
)

// Info tells a table from another: a struct ipt_getinfo, which is the name,
// where the built-in chains begin and end, the number of the entries and their
// size.
type Info [nameSize + 13*4]byte

// at is the number at a place behind the name.
func (i *Info) at(n int) int { return int(binary.NativeEndian.Uint32(i[nameSize+4*n:])) }

func (i *Info) size() int { return i.at(12) }

// entriesOffset is where the entries begin in a struct ipt_get_entries, on a
// 64-bit machine. On others the kernel refuses with EINVAL.
const entriesOffset = nameSize + 8

// Tables returns the names of the tables that exist. The options above must not
// be asked about one that does not: the kernel then makes it, and loads modules
// for it (xt_request_find_table_lock in net/netfilter/x_tables.c).
func (f *Family) Tables() ([]string, error) {
	names, err := os.ReadFile(f.tables)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no ip_tables in this kernel
	}
	return strings.Fields(string(names)), err
}

// attempts to get information and entries that fit together, while another
// process replaces the table.
const attempts = 10

// Read has use read a table, unless it is the one that known tells, and returns
// what tells it. The table has to be there: see [Family.Tables]. What use is
// given is gone when it returns.
//
// The table is copied as a whole, in 70 ms and 20 MB for 10,000 Services, and
// meanwhile the kernel has iptables-legacy wait. ctx is looked at between such
// copies.
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
		if errors.Is(err, unix.EAGAIN) { // replaced by one of another size
			continue
		}
		return info, err
	}
	return info, fmt.Errorf("it changed during each of %d attempts", attempts)
}

// entries copies the table's entries into memory of its own, which goes back
// to the kernel at once.
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

// getsockopt is getsockopt(2) with a value of any kind, which is read and
// written and has to have the kernel's size.
func getsockopt(fd, level, name int, value []byte) error {
	n := uint32(len(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
