package history

import (
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
)

// TestPause: what was left so in a pause counts as observed, once, and not for mode
// observe; that it is put right at the end of the pause is no other change, unless that
// fails.
func TestPause(t *testing.T) {
	left := drift(0, "a")
	left.Outcome, left.Now, left.Duration = record.Paused, "0", -1
	ended := drift(3600, "a")
	ended.Source, ended.Process, ended.Duration = string(record.CausePause), record.Process{}, time.Hour
	failed := ended
	failed.Outcome, failed.Error, failed.Now = record.Failed, "no", "0"
	pause := drift(0, "nfguard")
	pause.Event, pause.Outcome, pause.Want, pause.Have, pause.Now = record.KindPause, record.Paused, "", "", "paused"
	for _, tt := range []struct {
		name    string
		records []Record
		want    Sum
	}{
		{"a pause", []Record{pause}, Sum{Longest: -1}},
		{"left so, and put right", []Record{pause, left, ended}, Sum{Changes: 1, Observed: 1, Longest: -1, Last: left.Time}},
		{"left so, and it cannot be set", []Record{left, failed}, Sum{Changes: 2, Observed: 1, Failed: 1, Longest: time.Hour, Last: failed.Time}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tally := NewTally(time.UTC)
			for i := range tt.records {
				tally.Add(&tt.records[i])
			}
			got := tally.Totals()
			if got.Sum != tt.want || got.LeftAlone != 0 {
				t.Errorf("want %+v, got %+v; %d left alone", tt.want, got.Sum, got.LeftAlone)
			}
		})
	}
	if got := left.Change(); got != "0, wanted 1" {
		t.Errorf("change: %s", got)
	}
}
