package keep

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

var at = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) time.Time { return at.Add(-d) }

// What is recorded of a correction follows from what was seen, what the kernel
// told, and what had us look.
func TestDriftEvent(t *testing.T) {
	refused := errors.New("operation not permitted")
	key := guard.Setting{Key: guard.IPTables, Value: "1"}
	for _, tt := range []struct {
		name    string
		c       correction
		w       *record.Write
		cause   record.Cause
		want    record.Event
		message string
	}{
		{
			name:    "found at start",
			c:       correction{have: "0", since: before(0), at: at, outcome: record.Corrected},
			cause:   record.CauseStart,
			want:    record.Event{Outcome: record.Corrected, Have: "0", Now: "1", Source: record.CauseStart},
			message: "net.bridge.bridge-nf-call-iptables was 0, set back to 1, as found at start",
		},
		{
			name:    "told before it was stored",
			c:       correction{have: "0", since: before(5 * time.Second), at: at, former: before(time.Second), outcome: record.Corrected},
			w:       &record.Write{Exact: true, At: before(84 * time.Microsecond), Old: "1", New: "0"},
			cause:   record.CauseResync,
			want:    record.Event{Outcome: record.Corrected, Old: "1", Have: "0", Now: "1", Source: record.CauseSysctl, Duration: 84 * time.Microsecond},
			message: "net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 84µs",
		},
		{
			name:    "told, and not when",
			c:       correction{have: "0", since: before(time.Millisecond), at: at, outcome: record.Reverted},
			w:       &record.Write{},
			cause:   record.CauseSysctl,
			want:    record.Event{Outcome: record.Reverted, Have: "0", Now: "1", Source: record.CauseSysctl, Duration: time.Millisecond},
			message: "net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 1ms, and changed again at once",
		},
		{
			name:    "told at the very moment",
			c:       correction{have: "0", since: at, at: at, outcome: record.Corrected},
			w:       &record.Write{},
			cause:   record.CauseSysctl,
			want:    record.Event{Outcome: record.Corrected, Have: "0", Now: "1", Source: record.CauseSysctl, Duration: 1},
			message: "net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 0s",
		},
		{
			name:    "woken by news of something else",
			c:       correction{have: "0", since: at, at: at, former: before(time.Second), outcome: record.Corrected},
			cause:   record.CauseSysctl,
			want:    record.Event{Outcome: record.Corrected, Have: "0", Now: "1", Source: record.CauseResync},
			message: "net.bridge.bridge-nf-call-iptables was 0, set back to 1, after at most 1s (nobody was seen writing it)",
		},
		{
			name:    "the configuration asks for another value",
			c:       correction{have: "0", since: at, at: at, former: before(time.Second), asked: true, outcome: record.Corrected},
			cause:   record.CauseResync,
			want:    record.Event{Outcome: record.Corrected, Have: "0", Now: "1", Source: record.CauseReload},
			message: "net.bridge.bridge-nf-call-iptables was 0, set to 1, as the changed configuration asks",
		},
		{
			name:    "a reload that did not change it",
			c:       correction{have: "0", since: at, at: at, outcome: record.Corrected},
			cause:   record.CauseReload,
			want:    record.Event{Outcome: record.Corrected, Have: "0", Now: "1", Source: record.CauseResync},
			message: "net.bridge.bridge-nf-call-iptables was 0, set back to 1",
		},
		{
			name:    "it can't be set",
			c:       correction{have: "", since: at, at: at, outcome: record.Failed, err: refused},
			cause:   record.CauseAudit,
			want:    record.Event{Outcome: record.Failed, Source: record.CauseAudit, Err: refused},
			message: `net.bridge.bridge-nf-call-iptables is "", wanted 1; could not set it: operation not permitted`,
		},
		{
			name:    "left so",
			c:       correction{have: "0 1", since: at, at: at, outcome: record.Observed},
			cause:   record.CauseAudit,
			want:    record.Event{Outcome: record.Observed, Have: "0 1", Now: "0 1", Source: record.CauseAudit},
			message: `net.bridge.bridge-nf-call-iptables is "0 1", wanted 1; left so in mode observe`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Kind, tt.want.Time, tt.want.Subject, tt.want.Want = record.KindDrift, at, string(guard.IPTables), "1"
			got := driftEvent(key, &tt.c, tt.w, Trigger{Source: tt.cause, Time: at})
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateErrors()); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
			if message := driftMessage(&got, tt.c.bound(tt.w)); message != tt.message {
				t.Errorf("message %q, want %q", message, tt.message)
			}
		})
	}
}

func TestKeptEvent(t *testing.T) {
	who := record.Process{PID: 812, Comm: "tuned"}
	w := record.Write{At: at, Old: "1", New: "0", Outcome: record.Rewritten, Missed: 3}
	want := record.Event{
		Kind: record.KindDrift, Outcome: record.Rewritten, Time: at, Subject: string(guard.IPTables), Want: "1", Old: "1", Have: "0", Now: "1",
		Source: record.CauseSysctl, Writer: who, Suppressed: 3,
		Message: "net.bridge.bridge-nf-call-iptables stays 1: tuned[812] wrote 0, which was rewritten",
	}
	key := guard.Setting{Key: guard.IPTables, Value: "1"}
	got := keptEvent(key, &w, who)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rewritten (-want +got):\n%s", diff)
	}
	if got := count(&got); got != (Totals{Drifts: 4, Corrected: 4}) {
		t.Errorf("it counts as %+v", got)
	}
	w.Outcome = record.Denied
	want.Kind, want.Outcome = record.KindDenied, record.Denied
	want.Message = "net.bridge.bridge-nf-call-iptables stays 1: tuned[812] wrote 0 and was refused"
	got = keptEvent(key, &w, who)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if got := count(&got); got != (Totals{Denied: 4}) {
		t.Errorf("it counts as %+v", got)
	}
}

// Each write accounts for one correction; those that came later wait for theirs.
func TestCause(t *testing.T) {
	write := func(pid int, exact bool, ago time.Duration) record.Write {
		w := record.Write{Writer: record.Process{PID: pid}, Exact: exact}
		if exact {
			w.At = before(ago)
		}
		return w
	}
	vague := record.Write{Vague: true}
	for _, tt := range []struct {
		name  string
		told  []record.Write // of the key
		some  []record.Write // of any
		want  int            // the writer's PID; -1: nobody told
		waits []int
	}{
		{name: "nobody told", want: -1},
		{name: "the last one before it was found", told: []record.Write{write(1, true, 2), write(2, true, 1), write(3, true, -1)}, want: 2, waits: []int{3}},
		{name: "only later ones", told: []record.Write{write(3, true, -1)}, want: -1, waits: []int{3}},
		{name: "one without a time may be of several corrections", told: []record.Write{write(4, false, 0)}, want: 4, waits: []int{4}},
		{name: "some key was written to", some: []record.Write{vague, write(5, false, 0)}, want: 5},
		{name: "this one is known better", told: []record.Write{write(1, true, 1)}, some: []record.Write{write(5, false, 0)}, want: 1},
		{name: "it may have been us", some: []record.Write{vague}, want: -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, got := key{told: tt.told}, -1
			s := sysctls{some: tt.some}
			if w := s.cause(&k, &correction{found: at}); w != nil {
				got = w.Writer.PID
			}
			var waits []int
			for _, w := range k.told {
				waits = append(waits, w.Writer.PID)
			}
			if diff := cmp.Diff(tt.waits, waits); diff != "" || got != tt.want {
				t.Errorf("by %d, want %d; waiting (-want +got):\n%s", got, tt.want, diff)
			}
		})
	}
}
