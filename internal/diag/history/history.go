// Package history reads what nfguard has recorded: entries of the journal in
// systemd's export format become records, of several hosts in the order of
// time, and records become fights and totals. It keeps no more than it needs
// for that, however long the history is. It opens no journal and prints
// nothing.
package history

import (
	"strconv"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// Record is one event as it stands in a journal.
type Record struct {
	Time    time.Time // when it was found; the beginning of 1970 where that is not told
	Told    time.Time // when the journal took it, later than Time where the journal was away; zero where that is not told
	Host    string    // its name then
	Machine string    // the machine id, by which hosts are told apart
	Boot    string    // the id of the boot

	Event   record.Kind
	About   record.Kind // of a contention: what it is about; "" elsewhere
	Outcome record.Outcome
	Subject string
	Message string

	Want string
	Old  string
	Have string
	Now  string

	Duration   time.Duration // negative: unknown
	Source     string
	Process    record.Process // who did it; of kube_proxy, kube-proxy itself
	Pass       uint64
	Suppressed int
	Error      string
	Next       string

	Teller Teller
}

// Teller is who wrote a record to the journal, as journald itself saw it.
type Teller struct {
	PID    int
	UID    string // "" where the journal does not tell
	Comm   string
	Unit   string
	Cgroup string
}

// Origin is whose record it is, as far as journald can tell. Root's processes in
// containers have uid 0 and any name; which unit and control group they are in
// is not theirs to say.
type Origin string

// The origins.
const (
	ByService Origin = "service" // nfguard.service
	ByHand    Origin = "apply"   // nfguard apply, run by root of the host
	ByOther   Origin = "other"   // anybody else who is root somewhere
)

// Service is nfguard's unit.
const Service = "nfguard.service"

// Origin tells whose the record is. One of nfguard apply is that where a process
// of root's that is called nfguard, in no container, says so: who could forge it
// is root of the host, and needs no record for what he wants.
func (r *Record) Origin() Origin {
	t := &r.Teller
	place := proc.Locate(t.Cgroup)
	switch {
	case t.UID != "0":
	case t.Unit == Service && place.Container == "" && place.Pod == "" && (place.Unit == Service || t.Cgroup == ""):
		return ByService
	case r.Once() && t.Comm == Identifier && t.Unit != "" && place.Unit != "" && place.Container == "" && place.Pod == "":
		return ByHand
	}
	return ByOther
}

// Identifier is the SYSLOG_IDENTIFIER of everything that nfguard writes.
const Identifier = "nfguard"

// foreign says who has written the record where nfguard.service has not; ""
// where it has.
func (r *Record) foreign() string {
	t := &r.Teller
	who := words.Process(t.Comm, t.PID) + " of uid " + t.UID
	if t.Unit != "" {
		who += ", " + t.Unit
	}
	switch r.Origin() {
	case ByService:
		return ""
	case ByHand:
		return "not by " + Service + ": nfguard apply, run by hand by " + who
	case ByOther:
	}
	return "not by " + Service + ": written to the journal by " + who
}

// Changes is how many foreign changes, or attempts at one, of a guarded
// thing the record stands for; 0 where it is about something else, and where
// nobody could look.
func (r *Record) Changes() int {
	switch r.Event { //nolint:exhaustive // the others change nothing that is guarded
	case record.KindContention: // counts its first one, too
		return r.Suppressed
	case record.KindDrift, record.KindDenied, record.KindModule, record.KindDropin, record.KindFlag:
		if r.settled() || r.Have == "" && r.Error != "" {
			return 0
		}
		return 1 + r.Suppressed
	}
	return 0
}

// settled reports whether the record is the end of a complaint: what was not
// as wanted is so again, by somebody else's doing.
func (r *Record) settled() bool {
	return r.Outcome == record.Observed && r.Now != "" && guard.SameValue(r.Now, r.Want)
}

// Failed reports whether nfguard could not put the thing right. What it did and
// what then did not stay has failed where that has no other cause; elsewhere
// somebody else was quick.
func (r *Record) Failed() bool {
	return r.Outcome == record.Failed || r.Outcome == record.Reverted && r.Error != ""
}

// LeftAlone reports whether nfguard would have put the thing right and left
// it, because it only observes. A next step has only what nfguard could not put
// right either.
func (r *Record) LeftAlone() bool {
	switch r.Event { //nolint:exhaustive // the kinds that are put right
	case record.KindDrift, record.KindModule, record.KindDropin, record.KindFlag:
		return r.Outcome == record.Observed && r.Error == "" && r.Next == "" && !r.settled()
	}
	return false
}

// Once reports whether the record is nfguard apply's, which is done after that,
// and so does not show that anybody was on guard.
func (r *Record) Once() bool { return r.Source == "apply" }

// Culprit names who did it in a way that stays the same from one time to the
// next: a service, a program in a container, a program. "" is unknown.
func (r *Record) Culprit() string {
	w := &r.Process
	switch {
	case w.PID == 0:
		return ""
	case w.ContainerName != "" && w.PodName != "": // each start of it has another id
		return words.Comm(w.Comm) + " in container " + w.ContainerName + " of " + r.PodOf()
	case w.PodName != "":
		return words.Comm(w.Comm) + " in pod " + r.PodOf()
	case w.Container != "":
		return words.Comm(w.Comm) + " in container " + words.Container(w.Container)
	case strings.HasSuffix(w.Unit, ".service"):
		return w.Unit
	}
	return words.Comm(w.Comm) // a session's scope has another name each time
}

// PodOf names the pod in which the process is, "namespace/name"; "" is none, or
// one whose name is not known.
func (r *Record) PodOf() string {
	if r.Process.PodName == "" {
		return ""
	}
	return r.Process.PodNamespace + "/" + r.Process.PodName
}

// Who names the process as the records' messages do: tuned[812],
// tuned.service. "" is unknown.
func (r *Record) Who() string { return words.Writer(r.Process) }

// Change says from what to what.
func (r *Record) Change() string {
	switch r.Outcome { //nolint:exhaustive // elsewhere it is what it became
	case record.Denied, record.Rewritten:
		return orDash(r.Now) + ", not " + orDash(r.Have)
	case record.Observed, record.Failed:
		return orDash(r.Have) + ", wanted " + orDash(r.Want)
	}
	return orDash(r.Have) + " → " + orDash(r.Now)
}

// Notes are what is to be known beside what was said of the record: why it
// failed, what to do, and that nfguard did not write it.
func (r *Record) Notes(said string) []string {
	var notes []string
	if r.Error != "" && !strings.Contains(said, r.Error) {
		notes = append(notes, r.Error)
	}
	if r.Next != "" {
		notes = append(notes, r.Next)
	}
	if r.Suppressed > 0 && r.Changes() > r.Suppressed {
		notes = append(notes, "and "+strconv.Itoa(r.Suppressed)+" more")
	}
	if who := r.foreign(); who != "" {
		notes = append(notes, who)
	}
	for i, n := range notes {
		if len(n) > maxNote {
			notes[i] = strings.ToValidUTF8(n[:maxNote], "") + "…"
		}
	}
	return notes
}

// maxNote is how much of a note is shown: an error can be a long story.
const maxNote = 500

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
