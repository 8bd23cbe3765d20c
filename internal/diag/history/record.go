package history

import (
	"strconv"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/printable"
)

// entry is one entry of a journal: the first value of each field that a record needs.
type entry struct {
	realtime, boot, host, machine string
	uid, pid, comm, unit, group   string

	message, found, event, about, outcome, subject string
	want, old, have, now                           string
	source, duration, pass, suppressed, unreplied  string
	failure, next, reason, until                   string

	objectPID, objectComm, objectUnit string
	objectUID, objectLogin            string
	exe, cgroup, container, pod       string
	podName, podSpace, containerName  string
	comms, units                      []string // further values of objectComm and objectUnit, at most maxOthers each

	names map[string]string
	at    *string // where the next value goes
}

// slot returns where the value of a field is stored; nil: nowhere. nfguard's own
// fields have their names from internal/core/journal; a test makes sure that they
// agree.
func (e *entry) slot(name []byte) *string {
	switch string(name) {
	case "__REALTIME_TIMESTAMP":
		return &e.realtime
	case "_BOOT_ID":
		return &e.boot
	case "_HOSTNAME":
		return &e.host
	case "_MACHINE_ID":
		return &e.machine
	case "_UID":
		return &e.uid
	case "_PID":
		return &e.pid
	case "_COMM":
		return &e.comm
	case "_SYSTEMD_UNIT":
		return &e.unit
	case "_SYSTEMD_CGROUP":
		return &e.group
	case "MESSAGE":
		return &e.message
	case "NFGUARD_TIME":
		return &e.found
	case "NFGUARD_EVENT":
		return &e.event
	case "NFGUARD_ABOUT":
		return &e.about
	case "NFGUARD_OUTCOME":
		return &e.outcome
	case "NFGUARD_SUBJECT":
		return &e.subject
	case "NFGUARD_WANT":
		return &e.want
	case "OLDVALUE":
		return &e.old
	case "NFGUARD_HAVE":
		return &e.have
	case "NFGUARD_NOW":
		return &e.now
	case "NFGUARD_SOURCE":
		return &e.source
	case "NFGUARD_DURATION_USEC":
		return &e.duration
	case "NFGUARD_PASS":
		return &e.pass
	case "NFGUARD_SUPPRESSED":
		return &e.suppressed
	case "NFGUARD_UNREPLIED":
		return &e.unreplied
	case "NFGUARD_ERROR":
		return &e.failure
	case "NFGUARD_NEXT":
		return &e.next
	case "NFGUARD_REASON":
		return &e.reason
	case "NFGUARD_UNTIL":
		return &e.until
	case "OBJECT_PID":
		return &e.objectPID
	case "OBJECT_COMM":
		return &e.objectComm
	case "NFGUARD_UID":
		return &e.objectUID
	case "NFGUARD_LOGINUID":
		return &e.objectLogin
	case "OBJECT_EXE":
		return &e.exe
	case "OBJECT_SYSTEMD_UNIT":
		return &e.objectUnit
	case "OBJECT_SYSTEMD_CGROUP":
		return &e.cgroup
	case "NFGUARD_CONTAINER_ID":
		return &e.container
	case "NFGUARD_POD_UID":
		return &e.pod
	case "NFGUARD_POD_NAME":
		return &e.podName
	case "NFGUARD_POD_NAMESPACE":
		return &e.podSpace
	case "NFGUARD_CONTAINER_NAME":
		return &e.containerName
	}
	return nil
}

const (
	// maxNames limits how many different values are kept so that records can share
	// them: values that are frequent come early.
	maxNames = 1 << 12

	// maxOthers limits the further values of a field: journald adds one.
	maxOthers = 8
)

func (e *entry) wants(name []byte) bool {
	e.at = e.slot(name)
	return e.at != nil
}

func (e *entry) take(value []byte) { e.set(e.at, value) }

// set keeps the first value of a field.
func (e *entry) set(slot *string, value []byte) {
	if slot == &e.message || slot == &e.found || len(value) > 256 { // these are different each time
		if *slot == "" {
			*slot = string(value)
		}
		return
	}
	text, ok := e.names[string(value)]
	if !ok {
		text = string(value)
		if len(e.names) < maxNames {
			e.names[text] = text
		}
	}
	switch {
	case *slot == "":
		*slot = text
	case slot == &e.objectComm && len(e.comms) < maxOthers:
		e.comms = append(e.comms, text)
	case slot == &e.objectUnit && len(e.units) < maxOthers:
		e.units = append(e.units, text)
	}
}

// reset empties e for the next entry.
func (e *entry) reset() {
	*e = entry{comms: e.comms[:0], units: e.units[:0], names: e.names}
}

// record fills r from the entry. A value that should be a number and is not is left
// out, like one that is missing.
func (e *entry) record(r *Record) {
	*r = Record{
		Host: e.host, Machine: e.machine, Boot: e.boot,
		Event: record.Kind(e.event), About: record.Kind(e.about), Outcome: record.Outcome(e.outcome), Subject: e.subject, Message: e.message,
		Want: e.want, Old: e.old, Have: e.have, Now: e.now,
		Duration: -1, Source: e.source, Error: e.failure, Next: e.next, Reason: e.reason, Until: e.until, UID: e.objectUID, LoginUID: e.objectLogin,
		Teller: Teller{PID: number(e.pid), UID: e.uid, Comm: e.comm, Unit: e.unit, Cgroup: e.group},
	}
	r.Time = time.Unix(0, 0).UTC()
	if usec, err := strconv.ParseInt(e.realtime, 10, 64); err == nil && plausible(time.UnixMicro(usec)) {
		r.Told = time.UnixMicro(usec).UTC()
		r.Time = r.Told
	}
	if found, err := time.Parse(time.RFC3339Nano, e.found); err == nil && plausible(found) {
		r.Time = found.UTC()
	}
	if usec, err := strconv.ParseInt(e.duration, 10, 64); err == nil && usec >= 0 && usec < int64(maxDuration/time.Microsecond) {
		r.Duration = time.Duration(usec) * time.Microsecond
	}
	r.Pass, _ = strconv.ParseUint(e.pass, 10, 64)
	r.Suppressed = number(e.suppressed)
	r.Unreplied = number(e.unreplied)
	r.Process = record.Process{
		PID: number(e.objectPID), Exe: e.exe, Cgroup: e.cgroup, Container: e.container, Pod: e.pod,
		PodName: e.podName, PodNamespace: e.podSpace, ContainerName: e.containerName,
	}
	if pid := r.Process.PID; pid > 0 {
		r.Process.Comm = pick(e.objectComm, e.comms, e.message, "", "["+strconv.Itoa(pid)+"]")
		r.Process.Unit = pick(e.objectUnit, e.units, e.message, ", ", ")")
	}
}

// plausible reports whether a host can have had the time. The difference between two
// plausible times fits into a [time.Duration].
func plausible(t time.Time) bool { return t.Unix() >= 0 && t.Unix() < maxTime }

// maxTime is in the year 2242, in seconds since 1970.
const maxTime = 1 << 33

// maxDuration is longer than any host runs.
const maxDuration = 100 * 365 * 24 * time.Hour

// pick chooses among the values of a field. If the writer was still running, journald
// added its own value to nfguard's. A journal file keeps the values of a field in the
// order of their first use in the file (systemd 252, journal_file_append_entry), so
// the first one is not always nfguard's. The message contains nfguard's.
func pick(first string, others []string, message, before, after string) string {
	said := func(v string) bool { return strings.Contains(message, before+printable.Text(v)+after) }
	if len(others) == 0 || said(first) {
		return first
	}
	for _, v := range others {
		if said(v) {
			return v
		}
	}
	return first
}

// number reads a number of plausible size; 0 if there is none.
func number(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}
