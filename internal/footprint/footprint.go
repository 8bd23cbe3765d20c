// Package footprint gives memory back to the system.
package footprint

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Trim gives back what only the start of the program has needed: the heap
// that is free, and the mapped pages of the program's file that are never
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
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		start, length, ok := constant(lines.Text(), program)
		if !ok {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, start, length, advice); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return lines.Err()
}

// constant reads a line of /proc/PID/maps (proc_pid_maps(5)), and reports
// whether it is a mapping of program that cannot be written to: pages of one
// that can be are its own once they were, and would be lost.
func constant(line, program string) (start, length uintptr, ok bool) {
	f := strings.Fields(line) // start-end perms offset dev inode path
	if len(f) < 6 || len(f[1]) != 4 || f[1][1] != '-' || !strings.HasSuffix(line, " "+program) {
		return 0, 0, false
	}
	from, to, _ := strings.Cut(f[0], "-")
	a, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return 0, 0, false
	}
	b, err := strconv.ParseUint(to, 16, 64)
	if err != nil || b <= a {
		return 0, 0, false
	}
	return uintptr(a), uintptr(b - a), true
}
