package journal

import (
	"strconv"
	"time"

	sd "github.com/coreos/go-systemd/v22/journal"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/printable"
)

// Field is one field of a journal entry.
type Field struct{ Name, Value string }

// The fields of an entry. Once released a name is never dropped, renamed or
// given another meaning.
const (
	FieldMessage    = "MESSAGE"
	FieldMessageID  = "MESSAGE_ID"
	FieldPriority   = "PRIORITY"
	FieldIdentifier = "SYSLOG_IDENTIFIER" // always [Identifier]

	FieldTime          = "NFGUARD_TIME" // when it was found: RFC 3339, UTC; the journal's own time is when it was told
	FieldEvent         = "NFGUARD_EVENT"
	FieldAbout         = "NFGUARD_ABOUT" // of a contention: the kind of the events that it stands for
	FieldOutcome       = "NFGUARD_OUTCOME"
	FieldSubject       = "NFGUARD_SUBJECT"
	FieldWant          = "NFGUARD_WANT"
	FieldHave          = "NFGUARD_HAVE"
	FieldNow           = "NFGUARD_NOW"
	FieldSource        = "NFGUARD_SOURCE"
	FieldDuration      = "NFGUARD_DURATION_USEC"
	FieldPass          = "NFGUARD_PASS"
	FieldSuppressed    = "NFGUARD_SUPPRESSED"
	FieldUnreplied     = "NFGUARD_UNREPLIED"      // connections that had no reply, when this was written
	FieldUnrepliedPods = "NFGUARD_UNREPLIED_PODS" // that began them
	FieldError         = "NFGUARD_ERROR"
	FieldNext          = "NFGUARD_NEXT"
	FieldReason        = "NFGUARD_REASON" // of a pause: what was given as the reason
	FieldUntil         = "NFGUARD_UNTIL"  // of a pause: when it ends, as NFGUARD_TIME

	// The fields that systemd-networkd's sysctl monitor writes (systemd 257,
	// networkd-sysctl.c), with its meaning: the file below /proc/sys, what
	// stood before the foreign write (a BPF program alone sees that), what the
	// foreign process wrote, and what we hold it to be.
	FieldSysctl   = "SYSCTL"
	FieldOldValue = "OLDVALUE"
	FieldNewValue = "NEWVALUE"
	FieldOurValue = "OURVALUE"

	// Who did it, as far as the kernel told us. From a sender that is root,
	// journald looks OBJECT_PID up itself and, if that process still runs,
	// adds what it finds, OBJECT_CMDLINE and second values of ours included.
	// Which of two comes first is for the journal file to say (systemd 252: the
	// one that was in the file first); MESSAGE has ours. We send no command line.
	FieldObjectPID    = "OBJECT_PID"
	FieldObjectComm   = "OBJECT_COMM"
	FieldObjectExe    = "OBJECT_EXE"
	FieldObjectUnit   = "OBJECT_SYSTEMD_UNIT"
	FieldObjectCgroup = "OBJECT_SYSTEMD_CGROUP"

	// The users of the process that asked for a pause. Not OBJECT_UID, of which journald
	// would add a value of its own.
	FieldUID      = "NFGUARD_UID"
	FieldLoginUID = "NFGUARD_LOGINUID"

	// Where it runs in a container, as its control group tells.
	FieldContainer = "NFGUARD_CONTAINER_ID"
	FieldPod       = "NFGUARD_POD_UID"

	// What they are called, as the node's own directories of logs tell.
	FieldPodName       = "NFGUARD_POD_NAME"
	FieldPodNamespace  = "NFGUARD_POD_NAMESPACE"
	FieldContainerName = "NFGUARD_CONTAINER_NAME"
)

// Identifier is the SYSLOG_IDENTIFIER of everything that nfguard writes.
const Identifier = "nfguard"

// eventLost is the one event that the guard knows nothing of: records that
// the journal did not take.
const eventLost record.Kind = "lost"

// messageID returns the MESSAGE_ID of a kind, under which the catalog
// explains it. The ids are random and never reused.
func messageID(k record.Kind) string {
	switch k {
	case record.KindDrift:
		return "4f513955a72e451957e0c1036a86391a"
	case record.KindDenied:
		return "acd3d0349800469d9993980e827d38b1"
	case record.KindModule:
		return "084b86254c874ee4948d839395ecc745"
	case record.KindDropin:
		return "f9b38123c31d4b229683c1370be0fdb6"
	case record.KindBridge:
		return "fcac3f1caf1240ec2a7b10d3cc4c2bf2"
	case record.KindFlag:
		return "c789aeb281c34f4e8b8979d0794bf3bd"
	case record.KindKubeProxy:
		return "572e0c700cae41faa0d3f2748c119659"
	case record.KindNextBoot:
		return "d4730e044a2e4f1ea99840a67485b537"
	case record.KindContention:
		return "11fa906760844c18d7ff5166a72ae710"
	case record.KindConfig:
		return "0811cf9dbc3e4dc24a7d269530b905f9"
	case record.KindSource:
		return "a43fbbc787fc4ed011527e0d06b93104"
	case record.KindLook:
		return "bb186b40650af3ed67363a6bdefc7edb"
	case record.KindPause:
		return "eda2fd0608c44a308c3eef30179f3476"
	case record.KindStart:
		return "b77e5ef5c3424be5ce04327c232a65f4"
	case record.KindStop:
		return "8b25fd28a8004dc45e0d1b32f2fb0723"
	case eventLost:
		return "0e388f2de013482643a4c7c1febb371d"
	}
	return ""
}

// priority is "err" where the host is not as wanted now or a record is
// gone, "warning" where the host was not as wanted, and below that what is
// only good to know.
func priority(e record.Event) sd.Priority {
	if e.Outcome == record.Failed || e.Outcome == record.Reverted {
		if e.Kind == record.KindSource || e.Kind == record.KindLook {
			return sd.PriWarning // the sysctls are still looked after
		}
		return sd.PriErr
	}
	switch e.Kind {
	case record.KindDrift, record.KindDenied, record.KindModule, record.KindDropin, record.KindNextBoot, record.KindContention, record.KindPause, eventLost:
		return sd.PriWarning
	case record.KindFlag:
		return sd.PriNotice // every bridge that is new is without its flags
	case record.KindKubeProxy:
		if e.Outcome == record.Corrected { // the node was not ready for it
			return sd.PriWarning
		}
		return sd.PriNotice
	case record.KindConfig, record.KindSource, record.KindLook, record.KindStart, record.KindStop:
		return sd.PriNotice
	case record.KindBridge:
		return sd.PriInfo
	}
	return sd.PriNotice
}

// Fields returns the journal entry for e: MESSAGE first, then always in the
// same order, without the fields that e says nothing about. What is shown, also
// by the message catalog, is printable: journalctl prints "[88B blob data]" in
// place of a message with a control character in it, or leaves sequences out.
// What a process calls itself stands as it is in OBJECT_*.
func Fields(e record.Event) []Field {
	fs := make(fields, 0, 34) // all that there are
	fs.add(FieldMessage, printable.Text(e.Message))
	fs.add(FieldMessageID, messageID(e.Kind))
	fs.common(priority(e), e.Time)
	fs.add(FieldEvent, string(e.Kind))
	fs.add(FieldAbout, string(e.About))
	fs.add(FieldOutcome, string(e.Outcome))
	fs.add(FieldSubject, printable.Name(e.Subject))
	fs.add(FieldWant, e.Want)
	fs.add(FieldHave, e.Have)
	fs.add(FieldNow, e.Now)
	fs.add(FieldSource, string(e.Source))
	if e.Duration > 0 || e.Outcome == record.Rewritten {
		fs.add(FieldDuration, strconv.FormatInt(e.Duration.Microseconds(), 10))
	}
	fs.count(FieldPass, e.Pass)
	fs.count(FieldSuppressed, uint64(max(e.Suppressed, 0)))
	fs.count(FieldUnreplied, uint64(max(e.Unreplied, 0)))
	fs.count(FieldUnrepliedPods, uint64(max(e.UnrepliedPods, 0)))
	if e.Err != nil {
		fs.add(FieldError, e.Err.Error())
	}
	fs.add(FieldNext, e.Next)
	fs.add(FieldReason, e.Reason)
	if !e.Until.IsZero() {
		fs.add(FieldUntil, e.Until.UTC().Format(time.RFC3339Nano))
	}
	if e.Kind == record.KindDrift || e.Kind == record.KindDenied ||
		e.Kind == record.KindContention && (e.About == "" || e.About == record.KindDrift || e.About == record.KindDenied) {
		fs.add(FieldSysctl, "/proc/sys/"+guard.Key(e.Subject).Path())
		fs.add(FieldOldValue, e.Old)
		fs.add(FieldNewValue, e.Have)
		fs.add(FieldOurValue, e.Want)
	}
	fs.add(FieldUID, e.UID)
	fs.add(FieldLoginUID, e.LoginUID)
	if e.Writer.PID > 0 {
		fs.count(FieldObjectPID, uint64(e.Writer.PID))
		fs.add(FieldObjectComm, e.Writer.Comm)
		fs.add(FieldObjectExe, e.Writer.Exe)
		fs.add(FieldObjectUnit, e.Writer.Unit)
		fs.add(FieldObjectCgroup, e.Writer.Cgroup)
		fs.add(FieldContainer, e.Writer.Container)
		fs.add(FieldPod, e.Writer.Pod)
		fs.add(FieldPodName, e.Writer.PodName)
		fs.add(FieldPodNamespace, e.Writer.PodNamespace)
		fs.add(FieldContainerName, e.Writer.ContainerName)
	}
	return fs
}

type fields []Field

func (fs *fields) add(name, value string) {
	if value != "" {
		*fs = append(*fs, Field{name, value})
	}
}

func (fs *fields) count(name string, n uint64) {
	if n > 0 {
		fs.add(name, strconv.FormatUint(n, 10))
	}
}

// common adds what events and log lines share.
func (fs *fields) common(p sd.Priority, found time.Time) {
	fs.add(FieldPriority, strconv.Itoa(int(p)))
	fs.add(FieldIdentifier, Identifier)
	if !found.IsZero() {
		fs.add(FieldTime, found.UTC().Format(time.RFC3339Nano))
	}
}
