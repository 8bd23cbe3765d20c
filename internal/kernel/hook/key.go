package hook

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Key is one guarded sysctl.
type Key struct {
	Path string // below /proc/sys: "net/bridge/bridge-nf-call-iptables"
	Want string // the right value, as the kernel prints it
}

// maxKeys bounds a table whose size comes from another process. No host has as
// many sysctls below /proc/sys/net.
const maxKeys = 1 << 20

// Limits that the program sets, each with room for a zero byte at the end.
const (
	maxPath = 96
	maxWant = len(sysctlRule{}.Text) - 1 // and a newline
	maxText = len(sysctlEvent{}.NewValue)
)

// path is s as the program looks it up.
func path(s string) (key [maxPath]byte) {
	copy(key[:], s)
	return key
}

// rule returns how writes to k are judged. It has no slot yet.
func (k Key) rule() (sysctlRule, error) {
	if k.Path == "" || len(k.Path) >= maxPath || strings.HasPrefix(k.Path, "/") {
		return sysctlRule{}, fmt.Errorf("sysctl %q: want a path below /proc/sys of at most %d bytes", k.Path, maxPath-1)
	}
	r := sysctlRule{Kind: sysctlKindKIND_TEXT}
	if strings.HasPrefix(k.Path, "net/") { // other sysctls belong to no network namespace
		r.Namespaced = 1
	}
	want := strings.TrimSpace(k.Want)
	n, err := strconv.ParseInt(want, 10, 64)
	if err != nil || len(want) >= maxWant {
		return r, nil //nolint:nilerr // not a number, so it is text
	}
	r.Number, r.Kind = n, sysctlKindKIND_NUMBER
	// brnf_sysctl_call_tables: "if (write && *(int *)(ctl->data)) *(int *)(ctl->data) = 1"
	// (net/bridge/br_netfilter_hooks.c).
	if strings.HasPrefix(k.Path, "net/bridge/bridge-nf-") {
		r.Kind = sysctlKindKIND_BOOLEAN
		if n != 0 {
			r.Number = 1
		}
	}
	r.TextLen = uint32(copy(r.Text[:], want+"\n")) - 1
	return r, nil
}

// answered reports whether foreign values of the rule can be refused: the value is
// a single number, and the key belongs to a network namespace.
func answered(r sysctlRule) bool { return r.Namespaced == 1 && r.Kind != sysctlKindKIND_TEXT }

// rules returns the rules of keys, each with its index as its slot.
func rules(keys []Key) ([]sysctlRule, error) {
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("guard %d sysctls: the limit is %d", len(keys), maxKeys)
	}
	list := make([]sysctlRule, len(keys))
	seen := make(map[string]bool, len(keys))
	for i, k := range keys {
		r, err := k.rule()
		if err != nil {
			return nil, err
		}
		if seen[k.Path] {
			return nil, fmt.Errorf("sysctl %q: twice", k.Path)
		}
		seen[k.Path] = true
		r.Slot = uint32(i)
		list[i] = r
	}
	return list, nil
}

// sameWords reports whether two texts of a vector or a name mean the same: the
// kernel separates numbers by tabs, people do so by blanks.
func sameWords(a, b string) bool { return slices.Equal(strings.Fields(a), strings.Fields(b)) }
