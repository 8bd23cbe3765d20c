package boot

import (
	"strconv"
	"strings"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// settles returns what reads back of a key after text was written to it, and
// false where the kernel refuses text, which leaves the key as it was.
//
// For a number the kernel takes the first word, in C's notation, and ignores
// the others ("1 # why" is 1, "1abc" is refused, "010" is 8); br_netfilter
// makes 1 of all but 0 (as seen of 6.18). Of a key that is no number nothing
// is known: every text but none is taken to be accepted.
func settles(s guard.Setting, text string) (string, bool) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return "", false
	}
	if _, ok := number(s.Value); !ok || len(strings.Fields(s.Value)) > 1 {
		return text, true
	}
	n, ok := number(words[0])
	switch {
	case !ok, s.Key.BridgeNF() && n != int64(int32(n)):
		return "", false
	case s.Key.BridgeNF() && n != 0:
		return "1", true
	}
	return strconv.FormatInt(n, 10), true
}

// number parses a word as the kernel's simple_strtoul with base 0 does.
func number(word string) (int64, bool) {
	digits := strings.ToLower(strings.TrimPrefix(word, "-"))
	if strings.ContainsAny(digits, "_+-") || strings.HasPrefix(digits, "0b") || strings.HasPrefix(digits, "0o") {
		return 0, false // Go's notation only
	}
	n, err := strconv.ParseInt(word, 0, 64)
	return n, err == nil
}

// atLoad returns the value that a key has when nobody sets it, "" where it is
// not known: br_netfilter comes with its calls on and the rest off, in each
// network namespace.
func atLoad(k guard.Key) string {
	switch {
	case k == guard.IPTables, k == guard.IP6Tables, k == guard.ARPTables:
		return "1"
	case k.BridgeNF():
		return "0"
	}
	return ""
}
