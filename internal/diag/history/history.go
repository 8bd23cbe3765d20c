// Package history reads what nfguard has recorded. It turns journal entries in
// systemd's export format into records, sorted by time across hosts, and records into
// fights and totals. The memory that it needs does not grow with the history. It
// opens no journal and prints nothing.
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

// Record is one event in a journal.
type Record struct {
	Time    time.Time // when it was found; the beginning of 1970 if unknown
	Told    time.Time // when the journal received it, which is later than Time if the journal was not available; zero if unknown
	Host    string    // its name at that time
	Machine string    // the machine id, which distinguishes hosts
	Boot    string    // the id of the boot

	Event   record.Kind
	About   record.Kind // in a contention: the kind of change; otherwise ""
	Outcome record.Outcome
	Subject string
	Message string

	Want string
	Old  string
	Have string
	Now  string

	Duration   time.Duration // negative: unknown
	Source     string
	Process    record.Process // who did it; in a record of kind kube_proxy, kube-proxy itself
	Pass       uint64
	Suppressed int
	Unreplied  int // connections through Services that had no reply because of it
	Error      string
	Next       string
	Reason     string // of a pause
	Until      string // of a pause: when it ends, RFC 3339; as it stands in the journal

	// The users of Process, in a record of a pause.
	UID, LoginUID string

	Teller Teller
}

// Teller is who wrote a record to the journal, according to journald.
type Teller struct {
	PID    int
	UID    string // "" if the journal does not say
	Comm   string
	Unit   string
	Cgroup string
}

// Origin is who wrote a record, as far as journald can tell. A process of root in a
// container has uid 0 and can choose its name, but not its unit or control group.
type Origin string

// The origins.
const (
	ByService Origin = "service" // nfguard.service
	ByHand    Origin = "apply"   // nfguard apply, run by root of the host
	ByOther   Origin = "other"   // anybody else who is root somewhere
)

// Service is nfguard's unit.
const Service = "nfguard.service"

// Origin says who wrote the record. A record counts as nfguard apply's if it says so
// and a process called nfguard wrote it, as root and in no container. Only root of
// the host can forge that, and root has no need to.
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

// foreign says who wrote the record, if it was not nfguard.service; otherwise it
// is "".
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

// Changes is how many foreign changes of a guarded thing, or attempts, the record
// stands for; 0 if it is about something else, or if nfguard could not look.
func (r *Record) Changes() int {
	switch r.Event { //nolint:exhaustive // the other kinds are not about a change
	case record.KindContention: // its count includes the first change
		return r.Suppressed
	case record.KindDrift, record.KindDenied, record.KindModule, record.KindDropin, record.KindFlag:
		if r.settled() || r.Have == "" && r.Error != "" || r.endsPause() {
			return 0
		}
		return 1 + r.Suppressed
	}
	return 0
}

// settled reports whether the record says that something is as wanted again, without
// nfguard's doing.
func (r *Record) settled() bool {
	return r.Outcome == record.Observed && r.Now != "" && guard.SameValue(r.Now, r.Want)
}

// endsPause reports whether the record says that something is put right which a pause
// had left so: that has a record of its own.
func (r *Record) endsPause() bool {
	return r.Source == string(record.CausePause) && (r.Outcome == record.Corrected || r.Outcome == record.Reverted && r.Error == "")
}

// Failed reports whether nfguard could not put the thing right. A correction that did
// not last has failed if the record gives an error; otherwise somebody else changed
// the thing again at once.
func (r *Record) Failed() bool {
	return r.Outcome == record.Failed || r.Outcome == record.Reverted && r.Error != ""
}

// LeftAlone reports whether nfguard left the thing wrong only because it observes.
// A record with a next step is about something that nfguard could not have put right
// in mode enforce either.
func (r *Record) LeftAlone() bool {
	switch r.Event { //nolint:exhaustive // the kinds that are put right
	case record.KindDrift, record.KindModule, record.KindDropin, record.KindFlag:
		return r.Outcome == record.Observed && r.Error == "" && r.Next == "" && !r.settled()
	}
	return false
}

// Once reports whether the record is nfguard apply's. That runs once, so the record
// does not show that the host was guarded.
func (r *Record) Once() bool { return r.Source == "apply" }

// Culprit names who did it, in a way that is the same each time: a service, a program
// in a container, or a program. "" is unknown.
func (r *Record) Culprit() string {
	w := &r.Process
	switch {
	case w.PID == 0:
		return ""
	case w.ContainerName != "" && w.PodName != "": // the container's id is different at each start
		return words.Comm(w.Comm) + " in container " + w.ContainerName + " of " + r.PodOf()
	case w.PodName != "":
		return words.Comm(w.Comm) + " in pod " + r.PodOf()
	case w.Container != "":
		return words.Comm(w.Comm) + " in container " + words.Container(w.Container)
	case strings.HasSuffix(w.Unit, ".service"):
		return w.Unit
	}
	return words.Comm(w.Comm) // the scope of a session has a new name each time
}

// PodOf names the pod of the process, "namespace/name"; it is "" if there is none, or
// if its name is not known.
func (r *Record) PodOf() string {
	if r.Process.PodName == "" {
		return ""
	}
	return r.Process.PodNamespace + "/" + r.Process.PodName
}

// Who names the process as in the messages of records: "tuned[812], tuned.service".
// "" is unknown.
func (r *Record) Who() string { return words.Writer(r.Process) }

// Change says what changed to what.
func (r *Record) Change() string {
	switch r.Outcome { //nolint:exhaustive // otherwise the new value is shown
	case record.Denied, record.Rewritten:
		return orDash(r.Now) + ", not " + orDash(r.Have)
	case record.Observed, record.Paused, record.Failed:
		return orDash(r.Have) + ", wanted " + orDash(r.Want)
	}
	return orDash(r.Have) + " → " + orDash(r.Now)
}

// Notes are what to know about the record besides said: why it failed, what to do,
// and whether somebody other than nfguard wrote it.
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
	if n := r.Unreplied; n > 0 && !strings.Contains(said, "had no reply") {
		notes = append(notes, "connections through Services that had no reply: "+strconv.Itoa(n))
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

// maxNote is how much of a note is shown: an error can be very long.
const maxNote = 500

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
