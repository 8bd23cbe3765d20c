package history

import (
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/journal"
	"github.com/nfguard/nfguard/internal/core/record"
)

// trusted are the fields that journald adds.
const trusted = "__REALTIME_TIMESTAMP=1795405977698463\n_BOOT_ID=b00t\n_HOSTNAME=guard\n_MACHINE_ID=mach\n" +
	"_PID=399\n_COMM=nfguard\n_SYSTEMD_UNIT=nfguard.service\n"

// written returns e as a journal entry.
func written(e record.Event) string {
	s := trusted + "_UID=0\n"
	for _, f := range journal.Fields(e) {
		s += binaryField(f.Name, f.Value)
	}
	return s + "\n"
}

func all(t *testing.T, in string) ([]Record, *Reader) {
	t.Helper()
	r := NewReader(strings.NewReader(in))
	var out []Record
	for {
		var rec Record
		if err := r.Next(&rec); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return out, r
		}
		out = append(out, rec)
	}
}

// TestReadsWhatIsWritten: every field that internal/core/journal writes is read back.
func TestReadsWhatIsWritten(t *testing.T) {
	e := record.Event{
		Kind: record.KindDrift, About: record.KindDenied, Outcome: record.Reverted, Time: time.Date(2026, 11, 23, 3, 52, 57, 692_625_782, time.UTC),
		Subject: string(guard.IPTables), Message: "a sentence (written by tuned[812], tuned.service)",
		Want: "1", Old: "2", Have: "0", Now: "3", Duration: 84 * time.Microsecond, Source: "sysctl", Pass: 7, Suppressed: 3, Unreplied: 5, UnrepliedPods: 2,
		Err: errors.New("a\nlong story"), Next: "stop it",
		UID: "0", LoginUID: "1000", Reason: "a new plugin", Until: time.Date(2026, 11, 23, 4, 22, 57, 0, time.UTC),
		Writer: record.Process{
			PID: 812, Comm: "tuned", Exe: "/usr/bin/python3.11", Unit: "tuned.service", Cgroup: "/system.slice/tuned.service", Container: "c0", Pod: "p0",
			PodNamespace: "kube-system", PodName: "setup-x7", ContainerName: "sysctl",
		},
	}
	notKept := []string{"Bridge", "New"} // they are for the metrics
	v := reflect.ValueOf(e)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && !slices.Contains(notKept, name) {
			t.Fatalf("the event says nothing of %s", name)
		}
	}
	want := Record{
		Time: e.Time, Told: time.UnixMicro(1795405977698463).UTC(), Host: "guard", Machine: "mach", Boot: "b00t",
		Event: e.Kind, About: e.About, Outcome: e.Outcome, Subject: e.Subject, Message: e.Message,
		Want: e.Want, Old: e.Old, Have: e.Have, Now: e.Now, Duration: e.Duration, Source: string(e.Source),
		Process: e.Writer, Pass: e.Pass, Suppressed: e.Suppressed, Unreplied: e.Unreplied, Error: "a\nlong story", Next: e.Next,
		UID: "0", LoginUID: "1000", Reason: e.Reason, Until: "2026-11-23T04:22:57Z",
		Teller: Teller{PID: 399, UID: "0", Comm: "nfguard", Unit: "nfguard.service"},
	}
	got, _ := all(t, written(e)+written(record.Event{Kind: record.KindStop, Duration: -1}))
	if diff := cmp.Diff([]Record{want, {
		Time: want.Told, Told: want.Told, Host: "guard", Machine: "mach", Boot: "b00t", Event: record.KindStop, Duration: -1, Teller: want.Teller,
	}}, got); diff != "" {
		t.Error(diff)
	}
	for i, w := 0, reflect.ValueOf(e.Writer); i < w.NumField(); i++ {
		if w.Field(i).IsZero() {
			t.Fatalf("the writer says nothing of %s", w.Type().Field(i).Name)
		}
	}
	if got[0].Who() != "tuned[812], pod kube-system/setup-x7, container sysctl" || got[0].Culprit() != "tuned in container sysctl of kube-system/setup-x7" {
		t.Errorf("who: %q, culprit: %q", got[0].Who(), got[0].Culprit())
	}
}

// TestKinds: every kind that has a MESSAGE_ID in internal/core/journal is known here.
func TestKinds(t *testing.T) {
	for _, k := range Kinds() {
		found := false
		for _, f := range journal.Fields(record.Event{Kind: k}) {
			found = found || f.Name == journal.FieldMessageID
		}
		if !found {
			t.Errorf("%s has no MESSAGE_ID", k)
		}
	}
	if Identifier != journal.Identifier {
		t.Errorf("want %s, got %s", journal.Identifier, Identifier)
	}
}

func TestReader(t *testing.T) {
	const event = "NFGUARD_EVENT=drift\n"
	tests := []struct {
		name    string
		in      string
		want    int
		ignored string
	}{
		{name: "a line of the log is no record", in: trusted + "_UID=0\nMESSAGE=x\n\n"},
		{name: "root's", in: trusted + "_UID=0\n" + event + "\n", want: 1},
		{
			name: "a user's, and root's", in: trusted + "_UID=1000\n" + event + "\n" + trusted + "_UID=0\n" + event + "\n", want: 1,
			ignored: "1 entry that claims to be nfguard's is left out: not written by root; the last one by nfguard[399] with uid 1000 on guard",
		},
		{
			name: "two of nobody", in: trusted + event + "\n" + trusted + event + "\n",
			ignored: "2 entries that claim to be nfguard's are left out: not written by root; the last one by an unknown process on guard",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, r := all(t, tt.in)
			ignored := r.Ignored()
			if len(got) != tt.want || ignored.Sentence() != tt.ignored {
				t.Errorf("want %d records, %q\ngot  %d records, %q", tt.want, tt.ignored, len(got), ignored.Sentence())
			}
		})
	}
}

// TestSecondValues: values that journald added to our fields are not taken for ours,
// whatever their order.
func TestSecondValues(t *testing.T) {
	const message = "MESSAGE=it was 0, set back to 1 after 84µs (written by tuned[812], tuned.service)\n"
	tests := []struct {
		name, fields, want string
	}{
		{"ours first", "OBJECT_COMM=tuned\nOBJECT_COMM=python3\nOBJECT_SYSTEMD_UNIT=tuned.service\nOBJECT_SYSTEMD_UNIT=init.scope\n", "tuned[812], tuned.service"},
		{"ours last", "OBJECT_COMM=python3\nOBJECT_COMM=sh\nOBJECT_COMM=tuned\nOBJECT_SYSTEMD_UNIT=init.scope\nOBJECT_SYSTEMD_UNIT=tuned.service\n", "tuned[812], tuned.service"},
		{"neither is in the message", "OBJECT_COMM=a\nOBJECT_COMM=b\n", "a[812]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := all(t, trusted+"_UID=0\nNFGUARD_EVENT=drift\nOBJECT_PID=812\n"+message+tt.fields+"\n")
			if got[0].Who() != tt.want {
				t.Errorf("want %q, got %q", tt.want, got[0].Who())
			}
		})
	}
}

// TestManyNames: only so many names of an entry are kept.
func TestManyNames(t *testing.T) {
	r := NewReader(strings.NewReader("_UID=0\nNFGUARD_EVENT=drift\n" + strings.Repeat("OBJECT_COMM=a\nOBJECT_SYSTEMD_UNIT=b\n", 1000) + "\n"))
	var rec Record
	if err := r.Next(&rec); err != nil || len(r.entry.comms) != maxOthers || len(r.entry.units) != maxOthers {
		t.Errorf("%d and %d names are kept, %v", len(r.entry.comms), len(r.entry.units), err)
	}
}

// TestNonsense: a value that is not a number, or that no host can have, is ignored.
func TestNonsense(t *testing.T) {
	got, _ := all(t, "__REALTIME_TIMESTAMP=x\n_UID=0\n_PID=-1\nNFGUARD_EVENT=drift\nNFGUARD_TIME=yesterday\nNFGUARD_DURATION_USEC=9223372036854775807\n"+
		"NFGUARD_PASS=x\nNFGUARD_SUPPRESSED=-5\nOBJECT_PID=99999999999\nOBJECT_COMM=x\n\n")
	want := []Record{{Time: time.Unix(0, 0).UTC(), Event: record.KindDrift, Duration: -1, Teller: Teller{UID: "0"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestTimes: an impossible time counts as unknown, because the difference of any two
// times must fit into a duration.
func TestTimes(t *testing.T) {
	told := time.UnixMicro(1795405977698463).UTC()
	tests := []struct {
		name, realtime, found string
		want                  time.Time
	}{
		{"found, and told later", "1795405977698463", "2026-11-23T03:52:57Z", time.Date(2026, 11, 23, 3, 52, 57, 0, time.UTC)},
		{"without a clock", "5000000", "1970-01-01T00:00:04Z", time.Unix(4, 0).UTC()},
		{"found in the year 1", "1795405977698463", "0001-01-01T00:00:01Z", told},
		{"found in the year 9999", "1795405977698463", "9999-12-31T23:59:59-23:00", told},
		{"told too late", "9223372036854775807", "", time.Unix(0, 0).UTC()},
		{"told before 1970", "-1", "", time.Unix(0, 0).UTC()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := all(t, "__REALTIME_TIMESTAMP="+tt.realtime+"\n_UID=0\nNFGUARD_EVENT=drift\nNFGUARD_TIME="+tt.found+"\n\n")
			if !got[0].Time.Equal(tt.want) {
				t.Errorf("want %v, got %v", tt.want, got[0].Time)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	at := func(sec string) string {
		return "__REALTIME_TIMESTAMP=" + sec + "000000\n_UID=0\nNFGUARD_EVENT=drift\nNFGUARD_SUBJECT=" + sec + "\n\n"
	}
	read := func(inputs ...string) (order []string, err error) {
		var journals []Journal
		for i, in := range inputs {
			journals = append(journals, Journal{Name: string(rune('a' + i)), Reader: NewReader(strings.NewReader(in))})
		}
		m := Merge(journals...)
		for {
			var r Record
			if err := m.Next(&r); err != nil {
				return order, err
			}
			order = append(order, r.Subject)
		}
	}
	tests := []struct {
		name   string
		inputs []string
		want   []string
		err    string
	}{
		{name: "none", err: "EOF"},
		{name: "one is empty", inputs: []string{"", at("1")}, want: []string{"1"}, err: "EOF"},
		{name: "in turns", inputs: []string{at("1") + at("4"), at("2") + at("3") + at("5")}, want: []string{"1", "2", "3", "4", "5"}, err: "EOF"},
		{
			name: "a damaged one does not stop the others", inputs: []string{at("1") + "x\n", at("2") + at("3")}, want: []string{"1", "2", "3"},
			err: `read a: entry 2, byte 75: this is no journal export: a line begins with "x"`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(tt.inputs...)
			if diff := cmp.Diff(tt.want, got); diff != "" || err.Error() != tt.err {
				t.Errorf("%swant %s\ngot  %v", diff, tt.err, err)
			}
		})
	}
}
