package history

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nfguard/nfguard/internal/core/record"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// drift is a change that was put right, so many seconds after noon.
func drift(sec int, subject string) Record {
	return Record{
		Time: noon.Add(time.Duration(sec) * time.Second), Host: "guard", Machine: "mach", Boot: "b00t", Event: record.KindDrift,
		Outcome: record.Corrected, Subject: subject, Want: "1", Have: "0", Now: "1", Duration: time.Millisecond, Source: "sysctl",
		Process: record.Process{PID: 812, Comm: "tuned", Unit: "tuned.service"}, Teller: Teller{UID: "0", Comm: Identifier, Unit: Service},
	}
}

// fightRecord is a record of a fight that was noticed at since.
func fightRecord(sec, since int, subject, source string, o record.Outcome, changes int) Record {
	r := drift(sec, subject)
	r.Event, r.Outcome, r.Source, r.Suppressed = record.KindContention, o, source, changes
	if source == "timer" {
		r.Duration = time.Duration(sec-since) * time.Second
	}
	return r
}

func guardRecord(sec int, kind record.Kind) Record {
	r := drift(sec, "nfguard")
	r.Event, r.Outcome, r.Process, r.Want, r.Now = kind, record.Observed, record.Process{}, "", ""
	r.Message = string(kind) + " it"
	return r
}

// story folds the records and prints each line.
func story(records []Record) string {
	var b strings.Builder
	f := NewFolder(func(l *Line) {
		fmt.Fprintf(&b, "%v %s", l.Record.Time.Sub(noon), l.Record.Subject)
		if g := l.Fight; g != nil {
			fmt.Fprintf(&b, ": fight %s, %d changes in %d records, %v to %v, by %s", g.State, g.Changes, g.Records, g.Began.Sub(noon), g.Ended.Sub(noon), g.By)
		}
		b.WriteByte('\n')
	})
	for i := range records {
		f.Add(&records[i])
	}
	f.Close()
	return b.String()
}

func TestFolder(t *testing.T) {
	whole := []Record{
		drift(0, "a"), drift(100, "a"), drift(101, "b"), drift(102, "a"), drift(103, "a"),
		fightRecord(104, 104, "a", "sysctl", record.Held, 1),
		drift(110, "b"),
		fightRecord(164, 104, "a", "timer", record.Held, 400),
		fightRecord(240, 104, "a", "timer", record.Observed, 7),
		drift(500, "a"),
	}
	whole[8].Duration = 66 * time.Second // the last change was 70 seconds before
	silence := fightRecord(162, 102, "a", "timer", record.Observed, 0)
	silence.Duration = -1 // unknown
	set := fightRecord(2400, 0, "a", "timer", record.Observed, 8)
	set.Duration = 30 * time.Second
	otherHost := drift(103, "a")
	otherHost.Machine, otherHost.Host = "other", "other"
	failed := drift(120, "a")
	failed.Outcome = record.Failed
	tests := []struct {
		name    string
		records []Record
		want    string
	}{
		{name: "nothing"},
		{name: "no fight", records: []Record{drift(0, "a"), drift(1, "a")}, want: "0s a\n1s a\n"},
		{
			name: "a fight with what led to it, between others", records: whole,
			want: "0s a\n1m41s b\n1m50s b\n4m0s a: fight over, 411 changes in 6 records, 1m40s to 2m50s, by tuned.service\n8m20s a\n",
		},
		{
			name: "it goes on", records: whole[4:8],
			want: "1m50s b\n2m44s a: fight on, 402 changes in 3 records, 1m43s to 2m44s, by tuned.service\n",
		},
		{
			name: "its beginning was not read", records: whole[7:9],
			want: "4m0s a: fight over, 407 changes in 2 records, 1m44s to 2m50s, by tuned.service\n",
		},
		{
			name: "nobody goes on with it", records: []Record{
				drift(100, "a"), fightRecord(102, 102, "a", "sysctl", record.Held, 1), silence,
			},
			want: "2m42s a: fight over, 2 changes in 3 records, 1m40s to 1m42s, by tuned.service\n",
		},
		{
			name: "the clock is set forward within it", records: []Record{
				whole[5], fightRecord(1e9, 1e9-60, "a", "timer", record.Held, 400),
			},
			want: "277777h46m40s a: fight on, 401 changes in 2 records, 1m44s to 2m44s, by tuned.service\n",
		},
		{
			name: "the clock is set back within it, and before", records: []Record{
				drift(9000, "a"), drift(0, "a"), drift(3000, "a"), fightRecord(3030, 3030, "a", "sysctl", record.Held, 1), set,
			},
			want: "2h30m0s a\n0s a\n40m0s a: fight over, 10 changes in 3 records, 50m0s to 51m0s, by tuned.service\n",
		},
		{
			name: "nfguard stops before its end", records: append(whole[5:6:6], guardRecord(130, record.KindStop), drift(131, "a")),
			want: "1m44s a: fight left open, 1 changes in 1 records, 1m44s to 1m44s, by tuned.service\n2m10s nfguard\n2m11s a\n",
		},
		{
			name: "nfguard stops in two fights",
			records: []Record{
				fightRecord(3, 3, "b", "sysctl", record.Held, 1), fightRecord(3, 3, "a", "sysctl", record.Held, 1),
				fightRecord(2, 2, "c", "sysctl", record.Held, 1), guardRecord(4, record.KindStop),
			},
			want: "2s c: fight left open, 1 changes in 1 records, 2s to 2s, by tuned.service\n" +
				"3s a: fight left open, 1 changes in 1 records, 3s to 3s, by tuned.service\n" +
				"3s b: fight left open, 1 changes in 1 records, 3s to 3s, by tuned.service\n4s nfguard\n",
		},
		{
			name: "another begins before its end", records: append(whole[5:6:6], fightRecord(300, 300, "a", "sysctl", record.Held, 1)),
			want: "1m44s a: fight left open, 1 changes in 1 records, 1m44s to 1m44s, by tuned.service\n" +
				"5m0s a: fight on, 1 changes in 1 records, 5m0s to 5m0s, by tuned.service\n",
		},
		{
			name: "another host's and a failure stand alone", records: []Record{otherHost, whole[5], failed},
			want: "1m43s a\n2m0s a\n1m44s a: fight on, 1 changes in 1 records, 1m44s to 1m44s, by tuned.service\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, story(tt.records)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestFolderHoldsLittle: a flood without a fight is not kept.
func TestFolderHoldsLittle(t *testing.T) {
	lines := 0
	f := NewFolder(func(*Line) { lines++ })
	r := drift(0, "a")
	for range 10 * maxHeld {
		f.Add(&r)
		if len(f.held) > 2*maxHeld {
			t.Fatalf("%d records are held", len(f.held))
		}
	}
	f.Close()
	if lines != 10*maxHeld {
		t.Errorf("want %d lines, got %d", 10*maxHeld, lines)
	}
}

func TestTally(t *testing.T) {
	session := drift(10, "b")
	session.Process = record.Process{PID: 7, Comm: "sysctl", Unit: "session-3.scope"}
	session.Suppressed = 2
	found := drift(20, "b")
	found.Process, found.Source, found.Duration = record.Process{}, "start", -1
	asked := found
	asked.Source, asked.Time = "reload", found.Time.Add(time.Second)
	observed := drift(86400, "a")
	observed.Outcome, observed.Now = record.Observed, "0"
	settled := observed
	settled.Now = "1"
	blocked := observed
	blocked.Event, blocked.Subject, blocked.Error = record.KindModule, "br_netfilter", "it is not there"
	blocked.Process, blocked.Source = record.Process{}, "reload" // the reload only caused the look
	absent := observed                                           // enforce could not put it right either
	absent.Subject, absent.Have, absent.Now, absent.Next = "d", "absent", "absent", "check the spelling"
	unseen := drift(86450, "a")
	unseen.Outcome, unseen.Have, unseen.Now, unseen.Error = record.Failed, "", "", "open: permission denied"
	several := settled
	several.Subject, several.Want, several.Now = "net.ipv4.tcp_rmem", "1 2 3", "1\t2\t3"
	denied := drift(86500, "c")
	denied.Event, denied.Outcome, denied.Duration = record.KindDenied, record.Denied, -1
	failed := drift(86600, "a")
	failed.Outcome = record.Failed
	reverted := drift(86605, "a")
	reverted.Outcome = record.Reverted
	notKept := drift(86606, "/etc/sysctl.d/99-zz-nfguard.conf")
	notKept.Event, notKept.Outcome, notKept.Error, notKept.Process = record.KindDropin, record.Reverted, "it did not stay", record.Process{}
	against := func(r Record) Record { r.About = record.KindDenied; return r }
	applied := drift(86900, "b")
	applied.Source, applied.Process, applied.Duration = "apply", record.Process{}, -1
	rebooted := guardRecord(86700, record.KindStart)
	rebooted.Boot = "b00t2"

	tally := NewTally(time.UTC)
	for _, r := range []Record{
		guardRecord(0, record.KindStart), drift(1, "a"), session, found, asked, observed, settled, blocked,
		absent, unseen, several,
		denied, against(fightRecord(86510, 86510, "c", "sysctl", record.Held, 1)), against(fightRecord(86570, 86510, "c", "timer", record.Observed, 50)),
		failed, reverted, notKept, fightRecord(86610, 86610, "a", "sysctl", record.Held, 1),
		rebooted, guardRecord(86800, record.KindStop), applied,
	} {
		tally.Add(&r)
	}
	day := func(sec int) time.Time { return noon.Add(time.Duration(sec) * time.Second) }
	ms := time.Millisecond
	want := Totals{
		From: noon, To: day(86900), Records: 21,
		Sum: Sum{Changes: 66, Corrected: 9, Kept: 52, Failed: 2, Observed: 3, Fights: 2, Longest: ms, Last: day(86900)},
		Keys: []Sum{
			{Name: "c", Changes: 52, Kept: 52, Fights: 1, Longest: -1, Last: day(86570)},
			{Name: "b", Changes: 6, Corrected: 6, Longest: ms, Last: day(86900)},
			{Name: "a", Changes: 5, Corrected: 3, Failed: 1, Observed: 1, Fights: 1, Longest: ms, Last: day(86610)},
			{Name: "/etc/sysctl.d/99-zz-nfguard.conf", Changes: 1, Failed: 1, Longest: -1, Last: day(86606)},
			{Name: "br_netfilter", Changes: 1, Observed: 1, Longest: -1, Last: day(86400)},
			{Name: "d", Changes: 1, Observed: 1, Longest: ms, Last: day(86400)},
		},
		Culprits: []Sum{
			{Name: "tuned.service", Changes: 58, Corrected: 3, Kept: 52, Failed: 1, Observed: 2, Fights: 2, Longest: ms, Last: day(86610)},
			{Name: Unseen, Changes: 3, Corrected: 1, Failed: 1, Observed: 1, Longest: -1, Last: day(86900)},
			{Name: "sysctl", Changes: 3, Corrected: 3, Longest: ms, Last: day(10)},
			{Name: Asked, Changes: 1, Corrected: 1, Longest: -1, Last: day(21)},
			{Name: AtStart, Changes: 1, Corrected: 1, Longest: -1, Last: day(20)},
		},
		Days: []Sum{
			{Name: "2026-11-23", Changes: 6, Corrected: 6, Longest: ms, Last: day(21)},
			{Name: "2026-11-24", Changes: 60, Corrected: 3, Kept: 52, Failed: 2, Observed: 3, Fights: 2, Longest: ms, Last: day(86900)},
		},
		Hosts:     []Host{{Name: "guard", Machine: "mach", Records: 21, Changes: 66, Boots: 2, From: noon, To: day(86900), Start: "start it"}},
		LeftAlone: 1, Left: []string{"tuned.service"},
	}
	if diff := cmp.Diff(want, tally.Totals()); diff != "" {
		t.Error(diff)
	}
}

// TestTallyIsBounded: names that occur only once do not fill the memory.
func TestTallyIsBounded(t *testing.T) {
	tally := NewTally(time.UTC)
	for i := range 2 * maxNamed {
		r := drift(i*86400, fmt.Sprint("key", i))
		r.Process.Comm, r.Process.Unit, r.Host = fmt.Sprint("comm", i), "", fmt.Sprint("host", i)
		tally.Add(&r)
	}
	got := tally.Totals()
	for name, list := range map[string][]Sum{"keys": got.Keys, "culprits": got.Culprits, "days": got.Days} {
		i := len(list) - 1
		if name != "days" {
			i = 0
		}
		if len(list) != maxNamed+1 || list[0].Name != Others && list[i].Name != Others {
			t.Errorf("%s: %d, the first is %+v", name, len(list), list[0])
		}
	}
	if len(got.Hosts) != maxNamed+1 || got.Changes != 2*maxNamed {
		t.Errorf("%d hosts, %d changes", len(got.Hosts), got.Changes)
	}
}
