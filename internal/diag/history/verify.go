package history

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/chain"
)

// Flaw is something that is wrong with a chain of records.
type Flaw struct {
	Host   string
	Chain  string
	Number uint64    // of the record that it is about; of missing ones, the first
	Time   time.Time // of the record that told of it; zero: unknown
	What   string    // a sentence
}

// Proof is what a verification has found.
type Proof struct {
	Records    int // that are links of a chain
	Unlinked   int // of older versions, or made up
	Chains     []Chain
	Flaws      []Flaw // the first [MaxFlaws]
	FlawsInAll int
}

// Chain is the records of one boot.
type Chain struct {
	Host, ID    string
	First, Last uint64 // numbers, of those that were kept
	From, To    time.Time
}

// MaxFlaws is how many flaws are kept; all are counted.
const MaxFlaws = 1000

// maxChains is how many chains are followed at a time: one of each host and boot.
const maxChains = 10_000

// Verifier follows the chains of records, in the order in which journals have them.
type Verifier struct {
	proof  Proof
	chains map[[2]string]*link
}

// link is the last record of a chain.
type link struct {
	Chain
	last *linked
	seen map[uint64]bool
}

// NewVerifier returns one that has seen nothing.
func NewVerifier() *Verifier { return &Verifier{chains: make(map[[2]string]*link)} }

// Read follows the records of one journal in export format.
func (v *Verifier) Read(r io.Reader) error {
	x := newExport(r)
	for {
		var e linked
		switch err := x.next(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if e.first("_UID") == "0" && e.first("NFGUARD_EVENT") != "" {
			v.add(&e)
		}
	}
}

// Proof is what was found until now.
func (v *Verifier) Proof() Proof {
	p := v.proof
	for _, l := range v.chains {
		p.Chains = append(p.Chains, l.Chain)
	}
	slices.SortFunc(p.Chains, func(a, b Chain) int { return cmp.Or(cmp.Compare(a.Host, b.Host), a.From.Compare(b.From)) })
	return p
}

func (v *Verifier) flaw(e *linked, l *link, n uint64, what string) {
	if v.proof.FlawsInAll++; len(v.proof.Flaws) < MaxFlaws {
		v.proof.Flaws = append(v.proof.Flaws, Flaw{l.Host, l.ID, n, e.time(), what})
	}
}

func (v *Verifier) add(e *linked) {
	id := e.first(chain.ID)
	n, err := strconv.ParseUint(e.first(chain.Sequence), 10, 64)
	if id == "" || err != nil || n == 0 {
		v.proof.Unlinked++
		return
	}
	v.proof.Records++
	key := [2]string{e.first("_MACHINE_ID"), id}
	l := v.chains[key]
	if l == nil {
		if len(v.chains) == maxChains {
			v.proof.Unlinked++
			return
		}
		l = &link{Chain: Chain{Host: e.first("_HOSTNAME"), ID: id, First: n, From: e.time()}, seen: make(map[uint64]bool)}
		v.chains[key] = l
		if n == 1 && e.first(chain.Previous) != "" {
			v.flaw(e, l, n, "record 1 says that one comes before it: it was changed")
		}
		l.follow(e, n)
		return
	}
	switch {
	case l.seen[n]:
		v.flaw(e, l, n, fmt.Sprintf("record %d is there twice", n))
		return
	case n < l.Last:
		v.flaw(e, l, n, fmt.Sprintf("record %d comes after record %d: it is out of order", n, l.Last))
		l.seen[n] = true
		return
	case n == l.Last+2:
		v.flaw(e, l, l.Last+1, fmt.Sprintf("record %d is missing", l.Last+1))
	case n > l.Last+1:
		v.flaw(e, l, l.Last+1, fmt.Sprintf("records %d to %d are missing", l.Last+1, n-1))
	case !l.last.was(e.first(chain.Previous)):
		v.flaw(e, l, l.Last, fmt.Sprintf("record %d is not what record %d says came before it: one of them was changed", l.Last, n))
	}
	l.follow(e, n)
}

// follow goes on to e.
func (l *link) follow(e *linked, n uint64) {
	l.Last, l.To, l.last = n, e.time(), e
	l.seen[n] = true
}

// linked is an entry with all fields that can be nfguard's.
type linked struct {
	fields []chain.Field
	name   string
	cut    bool // a value is longer than is kept
}

// byJournald are the fields of which journald adds a value of its own, to a record that
// names a process which still runs.
var byJournald = []string{"OBJECT_COMM", "OBJECT_EXE", "OBJECT_SYSTEMD_UNIT", "OBJECT_SYSTEMD_CGROUP"}

func (e *linked) wants(name []byte) bool {
	e.name = string(name)
	switch e.name {
	case "MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSCTL", "OLDVALUE", "NEWVALUE", "OURVALUE", "OBJECT_PID",
		"_UID", "_MACHINE_ID", "_HOSTNAME", "__REALTIME_TIMESTAMP":
		return true
	}
	return strings.HasPrefix(e.name, "NFGUARD_") || slices.Contains(byJournald, e.name)
}

func (e *linked) take(value []byte) {
	e.cut = e.cut || len(value) == maxValue
	e.fields = append(e.fields, chain.Field{Name: e.name, Value: string(bytes.Clone(value))})
}

func (e *linked) first(name string) string {
	for _, f := range e.fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func (e *linked) time() time.Time {
	if usec, err := strconv.ParseInt(e.first("__REALTIME_TIMESTAMP"), 10, 64); err == nil && plausible(time.UnixMicro(usec)) {
		return time.UnixMicro(usec).UTC()
	}
	return time.Time{}
}

// was reports whether the record can have had a digest: with any one value, or none, of
// each field of which journald may have added one. Of a record with a value that is
// longer than is kept, nobody can tell.
func (e *linked) was(digest string) bool {
	if e.cut {
		return true
	}
	own := slices.DeleteFunc(e.fields, func(f chain.Field) bool { return strings.HasPrefix(f.Name, "_") })
	chain.Sort(own)
	choices := make([][]int, len(byJournald)) // the fields to take one of; -1: none
	for i, name := range byJournald {
		for at, f := range own {
			if f.Name == name && len(choices[i]) < 3 {
				choices[i] = append(choices[i], at)
			}
		}
		choices[i] = append(choices[i], -1)
	}
	taken := make([]int, len(choices)) // an index of each
	for {
		with := func(at int) bool {
			i := slices.Index(byJournald, own[at].Name)
			return i < 0 || choices[i][taken[i]] == at
		}
		if chain.DigestOf(own, with) == digest {
			return true
		}
		i := 0
		for ; i < len(taken); i++ {
			if taken[i]++; taken[i] < len(choices[i]) {
				break
			}
			taken[i] = 0
		}
		if i == len(taken) {
			return false
		}
	}
}
