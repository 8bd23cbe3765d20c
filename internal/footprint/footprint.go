// Package footprint gives memory back to the system.
package footprint

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Trim gives back what only the start of the program has needed: the heap
// that is free, and the mapped pages of the program's file that were never
// written to, its code and constants. Those that are used again are mapped
// again, a dozen at a time, from the page cache, at less than a microsecond a
// page (MADV_DONTNEED in madvise(2), filemap_map_pages in mm/filemap.c). Nothing is
// lost if it fails.
func Trim() error {
	debug.FreeOSMemory()
	return advise(unix.MADV_DONTNEED)
}

// advise gives the kernel advice on the constant pages of the program.
func advise(advice uintptr) error {
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer maps.Close()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	list, err := constants(maps, program)
	if err != nil {
		return err
	}
	for _, m := range list {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.length, advice); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return nil
}

// mapping is a range of addresses.
type mapping struct{ start, length uintptr }

// constants reads /proc/PID/smaps (proc_pid_smaps(5)), and returns the mappings
// of program that hold nothing but what stands in its file. Of one that can be
// written to, or could be once, a page can be the process's own, and would be
// lost: where the program is built as PIE, the linker's data are read-only only
// after it has put the addresses into them (PT_GNU_RELRO).
func constants(smaps io.Reader, program string) ([]mapping, error) {
	var list []mapping
	var last mapping
	wanted := false
	for lines := bufio.NewScanner(smaps); ; {
		if !lines.Scan() {
			return list, lines.Err()
		}
		switch f := strings.Fields(lines.Text()); {
		case len(f) < 2:
		case !strings.HasSuffix(f[0], ":"): // start-end perms offset dev inode path
			last, wanted = readOnly(f)
			wanted = wanted && strings.HasSuffix(lines.Text(), " "+program)
		case f[0] == "Anonymous:" && wanted && f[1] == "0":
			list = append(list, last)
		}
	}
}

// readOnly reads the first line of a mapping, and reports whether it is of a
// file and can't be written to.
func readOnly(f []string) (m mapping, ok bool) {
	if len(f) < 6 || len(f[1]) != 4 || f[1][1] != '-' {
		return m, false
	}
	from, to, _ := strings.Cut(f[0], "-")
	a, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return m, false
	}
	b, err := strconv.ParseUint(to, 16, 64)
	if err != nil || b <= a {
		return m, false
	}
	return mapping{uintptr(a), uintptr(b - a)}, true
}
