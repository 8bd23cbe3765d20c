package sysctlhook

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Key is one guarded sysctl.
type Key struct {
	Path string // below /proc/sys: "net/bridge/bridge-nf-call-iptables"
	Want string // the value that is right, as the kernel prints it
}

// kind is how a written text is judged.
type kind uint32

const (
	// text: not in the kernel. Each write is an event, unless its words are
	// those wanted, which [Hook.Read] finds. Vectors and names are text.
	text kind = iota

	// number: by the number that the text begins with, read as the kernel
	// does. What is no number is another value.
	number

	// boolean: as a number of which the kernel keeps only whether it is zero.
	// What is no number is left to the kernel, which answers EINVAL.
	boolean
)

const (
	maxKeys = 64 // sysctls of a hook
	maxPath = 95 // bytes; net/ipv6/conf/INTERFACE/KEY has at most 70
	maxWant = 14 // bytes of a number that a write can be rewritten to
	maxText = 63 // bytes of a value that an event carries
)

// rule is a guarded sysctl as the program finds it by its path.
type rule struct {
	Number  int64  // what is right
	Slot    uint32 // of the path: the event's key, the index of its counter
	Kind    kind
	Lock    uint32 // 1: foreign values may be refused, the namespace is looked at
	TextLen uint32
	Text    [maxWant + 2]byte // what is right, and a newline
}

// rule returns how writes to k are judged. It has no slot yet.
func (k Key) rule() (rule, error) {
	if k.Path == "" || len(k.Path) > maxPath || strings.HasPrefix(k.Path, "/") {
		return rule{}, fmt.Errorf("sysctl %q: want a path below /proc/sys of at most %d bytes", k.Path, maxPath)
	}
	want := strings.TrimSpace(k.Want)
	n, err := strconv.ParseInt(want, 10, 64)
	if err != nil || len(want) > maxWant {
		return rule{Kind: text}, nil //nolint:nilerr // what is no number is text
	}
	r := rule{Number: n, Kind: number}
	// brnf_sysctl_call_tables: "if (write && *(int *)(ctl->data)) *(int *)(ctl->data) = 1"
	// (net/bridge/br_netfilter_hooks.c).
	if strings.HasPrefix(k.Path, "net/bridge/bridge-nf-") {
		r.Kind = boolean
		if n != 0 {
			r.Number = 1
		}
	}
	// The others belong to no network namespace.
	if strings.HasPrefix(k.Path, "net/") {
		r.Lock = 1
	}
	r.TextLen = uint32(copy(r.Text[:], want+"\n")) - 1
	return r, nil
}

// sameWords reports whether two texts of a vector or a name mean the same:
// the kernel separates numbers by tabs, people by blanks.
func sameWords(a, b string) bool { return slices.Equal(strings.Fields(a), strings.Fields(b)) }
