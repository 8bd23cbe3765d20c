package dns

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// noError is the rcode of an answer to a name that there is.
const (
	noError  = "NOERROR"
	nxDomain = "NXDOMAIN"
	servFail = "SERVFAIL"
	refusal  = "REFUSED" // of a server, where [Refused] is of its host
)

// tally is what came of the same question, asked several times.
type tally struct {
	Asked   int
	Replied int                    // from the address that was asked
	Results map[string]int         // by rcode where it replied, by outcome where not
	Sources []netip.AddrPort       // others that replied
	by      map[netip.AddrPort]int // how often each of them did
	times   []time.Duration        // of the replies, sorted
	why     map[Outcome]string     // the error of the last ask that ended so
}

func (t *tally) add(a Ask) {
	t.Asked++
	if a.Detail != "" {
		t.why[a.Outcome] = a.Detail
	}
	if a.Usec > 0 {
		t.times = append(t.times, time.Duration(a.Usec)*time.Microsecond)
	}
	if a.Outcome == Answered {
		t.Replied++
		t.Results[a.Rcode]++
		return
	}
	t.Results[string(a.Outcome)]++
	if a.Outcome == WrongSource {
		if t.by[a.Source] == 0 {
			t.Sources = append(t.Sources, a.Source)
		}
		t.by[a.Source]++
	}
}

// count is how many asks ended in one of outcomes.
func (t *tally) count(outcomes ...Outcome) int {
	n := 0
	for _, o := range outcomes {
		n += t.Results[string(o)]
	}
	return n
}

// silent is how many asks brought nothing from anybody.
func (t *tally) silent() int { return t.count(Timeout, Refused, Unreachable) }

// dead reports whether nothing came of any ask.
func (t *tally) dead() bool { return t.Asked > 0 && t.silent() == t.Asked }

// rcode returns the one that most of the replies have, the better one of two,
// or "" without any reply.
func (t *tally) rcode() string {
	best, most := "", 0
	for _, r := range slices.Sorted(maps.Keys(t.Results)) {
		switch Outcome(r) {
		case Answered, WrongSource, Timeout, Refused, Unreachable, Malformed, Truncated, Unsent:
			continue
		}
		if n := t.Results[r]; n > most {
			best, most = r, n
		}
	}
	return best
}

// median is how long half of the replies took at most, or 0 without any.
func (t *tally) median() time.Duration {
	if len(t.times) == 0 {
		return 0
	}
	return t.times[len(t.times)/2]
}

// fastest is the least that a reply took, or 0 without any.
func (t *tally) fastest() time.Duration {
	if len(t.times) == 0 {
		return 0
	}
	return t.times[0]
}

// Outcome tells the results in words, the commonest first: "7 NOERROR, 3 wrong
// source (10.200.2.32:53)", or "NOERROR" alone where all are alike.
func (r *Row) Outcome() string {
	kinds := slices.SortedFunc(maps.Keys(r.Results), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Results[b], r.Results[a]), cmp.Compare(a, b))
	})
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = strings.ReplaceAll(k, "_", " ")
		if len(kinds) > 1 {
			words[i] = strconv.Itoa(r.Results[k]) + " " + words[i]
		}
		if Outcome(k) == WrongSource {
			words[i] += " (" + strings.Join(r.Sources, ", ") + ")"
		}
	}
	return strings.Join(words, ", ")
}
