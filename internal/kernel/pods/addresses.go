package pods

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Addresses are those of the network namespace of a process, without loopback and
// link-local ones; nil where it has ended. They are read from its procfs: nothing enters
// the namespace.
func Addresses(pid int) (list []netip.Addr) {
	read := func(name string) []byte {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		return text
	}
	for _, a := range append(parseTrie(read("fib_trie")), parseInet6(read("if_inet6"))...) {
		if !a.IsLoopback() && !a.IsLinkLocalUnicast() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// parseTrie reads the addresses in /proc/net/fib_trie: a leaf, and below it the routes to
// it (fib_trie_seq_show in net/ipv4/fib_trie.c).
func parseTrie(text []byte) (list []netip.Addr) {
	var leaf netip.Addr
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "|-- "):
			leaf, _ = netip.ParseAddr(line[len("|-- "):])
		case line == "/32 host LOCAL" && leaf.IsValid():
			list = append(list, leaf) // twice where the tables main and local are one
			leaf = netip.Addr{}
		}
	}
	return list
}

// parseInet6 reads the addresses in /proc/net/if_inet6, in hex (if6_seq_show in
// net/ipv6/addrconf.c).
func parseInet6(text []byte) (list []netip.Addr) {
	for line := range strings.Lines(string(text)) {
		first, _, _ := strings.Cut(line, " ")
		b, err := hex.DecodeString(first)
		if a, ok := netip.AddrFromSlice(b); err == nil && ok {
			list = append(list, a)
		}
	}
	return list
}
