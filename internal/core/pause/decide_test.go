package pause

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/instance"
)

// at is a clock, two hours after the boot.
func at(after time.Duration) Clock {
	return Clock{Boot: "b00t", Since: 2*time.Hour + after, Wall: time.Date(2026, 11, 30, 12, 0, 0, 0, time.Local).Add(after)}
}

// asks is a request of two hours after the boot, for half an hour, with a change.
func asks(change func(*Request)) *Request {
	r := &Request{
		Schema: 1, Verb: Pause, Boot: "b00t", Asked: (2 * time.Hour).Microseconds(), For: (30 * time.Minute).Microseconds(),
		Reason: "a new CNI plugin", Process: instance.Process{PID: 812},
		By: Asker{PID: 812, Comm: "nfguard", Unit: "session-3.scope", UID: "0", LoginUID: "1000", Seen: true},
	}
	change(r)
	return r
}

func same(*Request) {}

// inForce is a pause by asks(same), that has been extended once.
func inForce() *State { return &State{Request: *asks(same), Began: 100 * time.Minute} }

func TestDecide(t *testing.T) {
	other := func(r *Request) { r.Asked += time.Minute.Microseconds(); r.Process.PID = 813 }
	const by = "nfguard[812], session-3.scope (uid 0, login uid 1000)"
	tests := []struct {
		name     string
		was      *State
		asked    Asked
		observes bool
		first    bool
		locks    bool
		now      Clock

		want  Change
		after *State
		say   string
	}{
		{name: "nothing is asked for", now: at(0), want: Stays},
		{
			name: "a pause", asked: Asked{Request: asks(same)}, now: at(time.Second), want: Begins,
			after: &State{Request: *asks(same), Began: 2 * time.Hour},
			say:   "paused for 30m, until 12:30:00: nothing is corrected until then; asked for by " + by + ": a new CNI plugin",
		},
		{
			name: "a pause in mode lock", asked: Asked{Request: asks(same)}, locks: true, now: at(time.Second), want: Begins,
			after: &State{Request: *asks(same), Began: 2 * time.Hour},
			say:   "paused for 30m, until 12:30:00: nothing is corrected until then, and writers are let through; asked for by " + by + ": a new CNI plugin",
		},
		{
			name: "until tomorrow", asked: Asked{Request: asks(func(r *Request) { r.For = (13 * time.Hour).Microseconds() })}, now: at(time.Second), want: Begins,
			after: &State{Request: *asks(func(r *Request) { r.For = (13 * time.Hour).Microseconds() }), Began: 2 * time.Hour},
			say:   "paused for 13h, until 2026-12-01 01:00:00: nothing is corrected until then; asked for by " + by + ": a new CNI plugin",
		},
		{
			name: "one that only the request names", asked: Asked{Request: asks(func(r *Request) { r.By = Asker{PID: 7, Comm: "x"} })}, now: at(0), want: Begins,
			after: &State{Request: *asks(func(r *Request) { r.By = Asker{PID: 7, Comm: "x"} }), Began: 2 * time.Hour},
			say:   "paused for 30m, until 12:30:00: nothing is corrected until then; asked for by x[7] (by its own word): a new CNI plugin",
		},
		{
			name: "one that nobody names", asked: Asked{Request: asks(func(r *Request) { r.By = Asker{} })}, now: at(0), want: Begins,
			after: &State{Request: *asks(func(r *Request) { r.By = Asker{} }), Began: 2 * time.Hour},
			say:   "paused for 30m, until 12:30:00: nothing is corrected until then; asked for by somebody who was not seen: a new CNI plugin",
		},
		{name: "the same again", was: inForce(), asked: Asked{Request: asks(same)}, now: at(time.Minute), want: Stays, after: inForce()},
		{
			name: "the wall clock is set back by a day", was: inForce(), asked: Asked{Request: asks(same)},
			now: Clock{Boot: "b00t", Since: 2*time.Hour + time.Minute, Wall: at(0).Wall.Add(-24 * time.Hour)}, want: Stays, after: inForce(),
		},
		{
			name: "the wall clock is set forward by a day", was: inForce(), asked: Asked{Request: asks(same)},
			now: Clock{Boot: "b00t", Since: 2*time.Hour + time.Minute, Wall: at(0).Wall.Add(24 * time.Hour)}, want: Stays, after: inForce(),
		},
		{
			name: "another one", was: inForce(), asked: Asked{Request: asks(other)}, now: at(2 * time.Minute), want: Moves,
			after: &State{Request: *asks(other), Began: 100 * time.Minute},
			say:   "the pause was changed: it ends at 12:31:00, not at 12:30:00; asked for by " + by + ": a new CNI plugin",
		},
		{
			name: "the daemon was started again", asked: Asked{Request: asks(same)}, first: true, now: at(time.Minute), want: Continues,
			after: &State{Request: *asks(same), Began: 2 * time.Hour},
			say:   "still paused after a start, until 12:30:00: nothing is corrected until then; asked for by " + by + ": a new CNI plugin",
		},
		{
			name: "the same, of an extended one, and now in mode observe", first: true, observes: true,
			asked: Asked{Request: asks(func(r *Request) { r.Since = time.Hour.Microseconds() })}, now: at(time.Minute), want: Continues,
			after: &State{Request: *asks(func(r *Request) { r.Since = time.Hour.Microseconds() }), Began: time.Hour},
			say:   "still paused after a start, until 12:30:00: nothing is corrected until then; asked for by " + by + ": a new CNI plugin",
		},
		{name: "its time was over before the start", asked: Asked{Request: asks(same)}, first: true, now: at(time.Hour), want: Stays},
		{
			name: "its time is over", was: inForce(), asked: Asked{Request: asks(same)}, now: at(30 * time.Minute), want: Ends,
			say: "the pause has ended after 50m0s: its time was over",
		},
		{
			name: "resume", was: inForce(), asked: Asked{Request: asks(func(r *Request) { r.Verb = Resume })}, now: at(time.Minute), want: Ends,
			say: `the pause has ended after 21m0s: "nfguard resume" was asked for by ` + by,
		},
		{name: "resume without a pause", asked: Asked{Request: asks(func(r *Request) { r.Verb = Resume })}, now: at(time.Minute), want: Stays},
		{
			name: "the file is removed", was: inForce(), now: at(time.Minute), want: Ends,
			say: "the pause has ended after 21m0s: its file was removed",
		},
		{name: "of another boot", asked: Asked{Request: asks(func(r *Request) { r.Boot = "another" })}, first: true, now: at(time.Minute), want: Stays},
		{
			name: "of another boot, in a pause", was: inForce(), asked: Asked{Request: asks(func(r *Request) { r.Boot = "another" })}, now: at(time.Minute), want: Ends,
			say: "the pause has ended after 21m0s: its file is of another boot",
		},
		{
			name: "in mode observe", asked: Asked{Request: asks(same)}, observes: true, now: at(0), want: Refused,
			say: "a pause that " + by + " asked for was refused: in mode observe nothing is corrected anyway",
		},
		{
			name: "no request", asked: Asked{Err: errors.New("it is no request of nfguard")}, now: at(0), want: Refused,
			say: "a pause was refused: it is no request of nfguard",
		},
		{
			name: "no request, in a pause", was: inForce(), asked: Asked{Err: errors.New("it is no request of nfguard")}, now: at(0), want: Refused,
			say: "a pause was refused: it is no request of nfguard; the one before has ended with it, after 20m0s",
		},
		{
			name: "too long", asked: Asked{Request: asks(func(r *Request) { r.For = (25 * time.Hour).Microseconds() })}, now: at(0), want: Refused,
			say: "a pause that " + by + " asked for was refused: it takes more than 24h",
		},
		{
			name: "of a later version", asked: Asked{Request: asks(func(r *Request) { r.Schema = 2 })}, now: at(0), want: Refused,
			say: "a pause was refused: it has schema 2, and this version knows 1",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := Decide(tt.was, tt.asked, tt.observes, tt.first, tt.now)
			if d.Change != tt.want {
				t.Errorf("change: want %d, got %d", tt.want, d.Change)
			}
			if diff := cmp.Diff(tt.after, d.Now); diff != "" {
				t.Errorf("in force after it: %s", diff)
			}
			if got := d.Sentence(tt.locks, tt.now); got != tt.say {
				t.Errorf("want %q\ngot  %q", tt.say, got)
			}
		})
	}
}

// TestCheck: whatever a request asks for, a pause has an end and a reason.
func TestCheck(t *testing.T) {
	const most = 1<<63 - 1
	tests := []struct {
		name   string
		change func(*Request)
		want   string
	}{
		{"half an hour", same, ""},
		{"a second", func(r *Request) { r.For = 1e6 }, ""},
		{"a day", func(r *Request) { r.For = Longest.Microseconds() }, ""},
		{"resume needs neither", func(r *Request) { r.Verb, r.For, r.Reason = Resume, 0, "" }, ""},
		{"a moment", func(r *Request) { r.For = 999_999 }, "it takes less than 1s"},
		{"more than a day", func(r *Request) { r.For = Longest.Microseconds() + 1 }, "it takes more than 24h"},
		{"for ever", func(r *Request) { r.For = most }, "it takes more than 24h"},
		{"no end", func(r *Request) { r.For = 0 }, "it has no end"},
		{"backwards", func(r *Request) { r.For = -1 }, "it has no end"},
		{"backwards for ever", func(r *Request) { r.For = -most - 1 }, "it has no end"},
		{"no reason", func(r *Request) { r.Reason = " \u00a0" }, "it has no reason"},
		{"a reason of two lines", func(r *Request) { r.Reason = "a\nb" }, "its reason has characters that can't be printed"},
		{"a reason that steers a terminal", func(r *Request) { r.Reason = "a\x1b[2J" }, "its reason has characters that can't be printed"},
		{"a reason that is turned around", func(r *Request) { r.Reason = "a\u202eb" }, "its reason has characters that can't be printed"},
		{"a reason that is no text", func(r *Request) { r.Reason = "a\xff" }, "its reason has characters that can't be printed"},
		{"a story", func(r *Request) { r.Reason = string(make([]byte, 201)) + "x" }, "its reason has 202 bytes; there is room for 200"},
		{"another verb", func(r *Request) { r.Verb = "stop" }, `it asks for "stop", and can ask for pause or resume`},
		{"of tomorrow", func(r *Request) { r.Asked = (26 * time.Hour).Microseconds() }, "it was asked for in the future"},
		{"of never", func(r *Request) { r.Asked = 0 }, "it was asked for in the future"},
		{"of the end of time", func(r *Request) { r.Asked = most }, "it was asked for in the future"},
		{"of before the boot", func(r *Request) { r.Since = -1 }, "it began after it was asked for"},
		{"begun later", func(r *Request) { r.Since = r.Asked + 1 }, "it began after it was asked for"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := asks(tt.change).Check(at(0)); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("want %q, got %q", tt.want, got)
			}
		})
	}
}
