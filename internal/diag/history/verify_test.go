package history

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/core/chain"
	"github.com/nfguard/nfguard/internal/core/journal"
	"github.com/nfguard/nfguard/internal/core/record"
)

// entryOf is a record as journalctl exports it, with what journald adds.
func entryOf(fields []chain.Field, machine, boot string, second int, added ...chain.Field) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "__REALTIME_TIMESTAMP=%d\n_UID=0\n_MACHINE_ID=%s\n_HOSTNAME=%s\n_BOOT_ID=%s\n", 1795405977000000+int64(second)*1e6, machine, machine, boot)
	for _, f := range append(slices.Clip(added), fields...) {
		fmt.Fprintf(&b, "%s=%s\n", f.Name, f.Value)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// recorded are n records of two hosts with two boots each, in the order of a merged
// journal.
func recorded(n int) (entries [][]byte) {
	ends := make(map[string]chain.Link)
	for i := range n {
		machine, boot := fmt.Sprintf("worker-%d", i%2), fmt.Sprintf("boot-%d", 2*i/n)
		e := record.Event{
			Kind: record.KindDrift, Outcome: record.Corrected, Time: time.Unix(int64(i), 0), Subject: "net.bridge.bridge-nf-call-iptables",
			Message: fmt.Sprintf("drift %d", i), Want: "1", Have: "0", Now: "1", Duration: time.Millisecond,
		}
		var added []chain.Field
		if i%3 == 0 { // a writer that still runs: journald adds what it finds
			e.Writer = record.Process{PID: 812, Comm: "tuned", Exe: "/usr/bin/python3", Unit: "tuned.service"}
			added = []chain.Field{{Name: "OBJECT_COMM", Value: "python3"}, {Name: "OBJECT_SYSTEMD_CGROUP", Value: "/system.slice/tuned.service"}, {Name: "OBJECT_UID", Value: "0"}}
		}
		var fields []chain.Field
		for _, f := range journal.Fields(e) {
			fields = append(fields, chain.Field(f))
		}
		fields, ends[machine+boot] = ends[machine+boot].Next(fields)
		entries = append(entries, entryOf(fields, machine, boot, i, added...))
	}
	return entries
}

func verified(t *testing.T, entries [][]byte) Proof {
	t.Helper()
	v := NewVerifier()
	if err := v.Read(bytes.NewReader(bytes.Join(entries, nil))); err != nil {
		t.Fatal(err)
	}
	return v.Proof()
}

// TestVerify tells of each of 1,000 manipulations of records between the first and the
// last of a boot, and of none in a record that is whole.
func TestVerify(t *testing.T) {
	const n = 200
	whole := recorded(n)
	if p := verified(t, whole); p.Records != n || p.FlawsInAll != 0 || len(p.Chains) != 4 || p.Unlinked != 0 {
		t.Fatalf("a record that is whole: %d flaws in %d records of %d chains: %+v", p.FlawsInAll, p.Records, len(p.Chains), p.Flaws)
	}
	if p := verified(t, whole[n/8:]); p.FlawsInAll != 0 {
		t.Fatalf("the first are not kept any more, which is no flaw: %+v", p.Flaws)
	}
	random := rand.New(rand.NewPCG(1, 2))
	inner := func() int { // neither the first nor the last two of any chain
		for {
			if i := random.IntN(n); i >= 2 && i < n-4 && (i < n/2-4 || i >= n/2+2) {
				return i
			}
		}
	}
	edits := []struct{ old, new string }{
		{"MESSAGE=drift", "MESSAGE=nothing"},
		{"NFGUARD_WANT=1", "NFGUARD_WANT=0"},
		{"NFGUARD_OUTCOME=corrected", "NFGUARD_OUTCOME=observed"},
		{"SYSCTL=/proc/sys/net/bridge/", "SYSCTL=/proc/sys/net/bridges/"},
		{"NFGUARD_TIME=1970", "NFGUARD_TIME=1971"},
		{"PRIORITY=4", "PRIORITY=7"},
		{"NFGUARD_DURATION_USEC=1000", "NFGUARD_DURATION_USEC=1"},
		{"NFGUARD_SEQUENCE=", "NFGUARD_SEQUENCE=9"},
		{"NFGUARD_CHAIN=", "NFGUARD_CHAIN=X"},
		{"NFGUARD_EVENT=drift\n", ""},
		{"_UID=0", "_UID=1000"},
		{"NEWVALUE=0", "NEWVALUE=1"},
	}
	kinds := make(map[string]int)
	for i := range 1000 {
		entries := slices.Clone(whole)
		at, kind := inner(), []string{"removed", "edited", "doubled", "reordered"}[i%4]
		switch kind {
		case "removed":
			entries = slices.Delete(entries, at, at+1+random.IntN(2))
		case "edited":
			edit := edits[random.IntN(len(edits))]
			if at%3 == 0 && i%8 == 1 { // of the writer, of whom journald has told, too
				edit.old, edit.new = "OBJECT_COMM=tuned", "OBJECT_COMM=other"
			}
			entries[at] = bytes.Replace(whole[at], []byte(edit.old), []byte(edit.new), 1)
			if bytes.Equal(entries[at], whole[at]) {
				t.Fatalf("%v changes nothing in\n%s", edit, whole[at])
			}
		case "doubled":
			entries = slices.Insert(entries, inner(), entries[at])
		case "reordered":
			other := at
			for other == at || other%2 != at%2 || (other < n/2) != (at < n/2) { // of the same chain
				other = inner()
			}
			entries[at], entries[other] = entries[other], entries[at]
		}
		if p := verified(t, entries); p.FlawsInAll == 0 {
			t.Errorf("nothing is said of record %d, which was %s", at, kind)
		}
		kinds[kind]++
	}
	t.Logf("%v", kinds)
}

// TestVerifySays: which record it is about, and what happened to it.
func TestVerifySays(t *testing.T) {
	whole := recorded(40) // worker-0 has the even ones, its first boot 1 to 10
	for _, tt := range []struct {
		name string
		do   func(e [][]byte) [][]byte
		want []string
	}{
		{"one is missing", func(e [][]byte) [][]byte { return slices.Delete(e, 4, 5) }, []string{"record 3 is missing"}},
		{"four are missing", func(e [][]byte) [][]byte { return slices.Delete(e, 4, 8) }, []string{"records 3 to 4 are missing", "records 3 to 4 are missing"}},
		{"one was changed", func(e [][]byte) [][]byte {
			e[4] = bytes.Replace(e[4], []byte("drift 4"), []byte("drift 5"), 1)
			return e
		}, []string{"record 3 is not what record 4 says came before it: one of them was changed"}},
		{"one is there twice", func(e [][]byte) [][]byte { return slices.Insert(e, 8, e[4]) }, []string{"record 3 is there twice"}},
		{"two are out of order", func(e [][]byte) [][]byte {
			e[4], e[6] = e[6], e[4]
			return e
		}, []string{"record 3 comes after record 4: it is out of order", "record 3 is missing"}},
		{"of an older version", func(e [][]byte) [][]byte {
			return append(e, entryOf([]chain.Field{{Name: "NFGUARD_EVENT", Value: "drift"}}, "worker-0", "boot-1", 90))
		}, nil},
	} {
		var got []string
		p := verified(t, tt.do(slices.Clone(whole)))
		for _, f := range p.Flaws {
			got = append(got, f.What)
		}
		slices.Sort(got)
		if !slices.Equal(got, tt.want) || (p.Unlinked == 1) != strings.HasPrefix(tt.name, "of an") {
			t.Errorf("%s: %q, %d without a number; want %q", tt.name, got, p.Unlinked, tt.want)
		}
	}
}
