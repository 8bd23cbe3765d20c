package drops

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Symbols returns the functions of the kernel that the locations are in. One
// that is not found is left out, as all are where kernel.kptr_restrict hides
// them.
func Symbols(locations map[uint64]bool) (map[uint64]string, error) {
	if len(locations) == 0 {
		return nil, nil
	}
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return symbols(f, locations)
}

// symbols reads lines such as "ffffffff81a3c0d0 T ip_rcv", which are in no order.
func symbols(in io.Reader, locations map[uint64]bool) (map[uint64]string, error) {
	best := make(map[uint64]uint64, len(locations))
	names := make(map[uint64]string, len(locations))
	s := bufio.NewScanner(in)
	for s.Scan() {
		head, rest, _ := strings.Cut(s.Text(), " ")
		kind, name, _ := strings.Cut(rest, " ")
		if kind != "t" && kind != "T" && kind != "w" && kind != "W" {
			continue
		}
		at, err := strconv.ParseUint(head, 16, 64)
		if err != nil || at == 0 {
			continue
		}
		name, _, _ = strings.Cut(name, "\t") // the module's name is behind it
		for l := range locations {
			if at <= l && at >= best[l] {
				best[l], names[l] = at, name
			}
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read the kernel's symbols: %w", err)
	}
	return names, nil
}
