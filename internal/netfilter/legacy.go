package netfilter

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// family is one of the two that iptables-legacy has code for.
type family struct {
	name   string
	tables string // lists the tables of a namespace: xt_proto_init in net/netfilter/x_tables.c
	domain int    // of a socket that takes the options
	level  int    // of the options
	layout layout
}

var (
	ipv4Family = family{"IPv4", "/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.SOL_IP, ipv4Entry}
	ipv6Family = family{"IPv6", "/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6, ipv6Entry}
)

// Options of linux/netfilter_ipv4/ip_tables.h, and of ip6_tables.h with the
// same numbers. Both begin with the name of the table.
const (
	getInfo    = 64 // IPT_SO_GET_INFO: struct ipt_getinfo
	getEntries = 65 // IPT_SO_GET_ENTRIES: struct ipt_get_entries

	nameSize = 32 // XT_TABLE_MAXNAMELEN
)

// tableInfo is a struct ipt_getinfo: the name, where the built-in chains begin
// and end, the number of the entries and their size.
type tableInfo [nameSize + 13*4]byte

func (i *tableInfo) size() int { return int(binary.NativeEndian.Uint32(i[len(i)-4:])) }

// entriesOffset is where the entries begin in a struct ipt_get_entries, on a
// 64-bit machine. On others the kernel refuses with EINVAL.
const entriesOffset = nameSize + 8

// legacyTable is what the last look at a table nat found. The same tableInfo
// is taken for the same table: kube-proxy adds and removes whole chains, and
// only a chain renamed to one as long goes unnoticed.
type legacyTable struct {
	info     tableInfo
	services bool
}

// HasLegacy reports whether iptables-legacy has a table nat, of either family,
// with or without rules. Changes in it are told to nobody.
func HasLegacy() bool {
	v4, _ := ipv4Family.hasNAT()
	v6, _ := ipv6Family.hasNAT()
	return v4 || v6
}

// hasNAT reports whether the table nat exists. The options below must not be
// asked about one that does not: the kernel then makes it, and loads modules
// for it (xt_request_find_table_lock in net/netfilter/x_tables.c).
func (f *family) hasNAT() (bool, error) {
	names, err := os.ReadFile(f.tables)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // no ip_tables in this kernel
	}
	return bytes.Contains(append([]byte("\n"), names...), []byte("\n"+natTable+"\n")), err
}

// attempts to get information and entries that fit together, while another
// process replaces the table.
const attempts = 10

// hasServices reports whether the chain of kube-proxy holds a rule.
func (t *legacyTable) hasServices(ctx context.Context, f *family) (bool, error) {
	exists, err := f.hasNAT()
	if exists && err == nil {
		t.info, err = f.entries(ctx, t.info, func(b []byte) (err error) {
			t.services, err = f.layout.hasServices(b)
			return err
		})
	}
	if !exists || err != nil {
		*t = legacyTable{}
	}
	return t.services, err
}

// entries has use read the entries of the table nat, unless the table is the
// one that known tells, and returns what tells it. The table has to be there.
func (f *family) entries(ctx context.Context, known tableInfo, use func([]byte) error) (info tableInfo, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the %s table nat of iptables-legacy: %w", f.name, err)
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
		info = tableInfo([]byte(natTable + string(make([]byte, len(tableInfo{})-len(natTable)))))
		if err := getsockopt(fd, f.level, getInfo, info[:]); err != nil {
			return info, os.NewSyscallError("getsockopt", err)
		}
		if info == known {
			return info, nil
		}
		err := readEntries(fd, f, info.size(), use)
		if errors.Is(err, unix.EAGAIN) { // replaced by one of another size
			continue
		}
		return info, err
	}
	return info, fmt.Errorf("it changed during each of %d attempts", attempts)
}

// readEntries copies the table's entries, of so many bytes, into memory of
// its own, which goes back to the kernel at once: 10,000 Services make 20 MB.
func readEntries(fd int, f *family, size int, use func([]byte) error) error {
	b, err := unix.Mmap(-1, 0, entriesOffset+size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	defer unix.Munmap(b) //nolint:errcheck // it is mapped

	copy(b, natTable)
	binary.NativeEndian.PutUint32(b[nameSize:], uint32(size))
	if err := getsockopt(fd, f.level, getEntries, b); err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	return use(b[entriesOffset:])
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
