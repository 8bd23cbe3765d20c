// Package record has the types of the record: what happened, to what, by whom,
// and what the kernel told of it ([Write]). It knows nothing of who finds that
// out, or where it is kept.
package record

import "time"

// Kind says what an event is about; the journal keeps it in
// NFGUARD_EVENT, each kind with a MESSAGE_ID of its own.
type Kind string

// The kinds of events. Once released a kind is never renamed.
const (
	KindDrift      Kind = "drift"       // a guarded sysctl had another value
	KindDenied     Kind = "denied"      // a foreign value was kept from being stored
	KindModule     Kind = "module"      // br_netfilter was missing, or was unloaded
	KindDropin     Kind = "dropin"      // a drop-in of ours was missing or changed
	KindBridge     Kind = "bridge"      // a bridge appeared or was removed, or is worth a note
	KindFlag       Kind = "bridge_flag" // a bridge that is kept did not have its own flags
	KindKubeProxy  Kind = "kube_proxy"  // kube-proxy, or its rules, appeared or disappeared
	KindNextBoot   Kind = "next_boot"   // a file of others will undo the setting at the next boot, or no longer will
	KindContention Kind = "contention"  // a key is reversed again and again
	KindConfig     Kind = "config"      // the configuration was reloaded, or refused
	KindSource     Kind = "source"      // a source of news was lost, or is back
	KindLook       Kind = "look"        // no look at everything has ended for too long, or one has again
	KindPause      Kind = "pause"       // correcting was paused, or goes on, or a pause was refused
	KindStart      Kind = "start"       // the daemon reached its first full look
	KindStop       Kind = "stop"        // the daemon was told to stop
)

// Outcome says what came of an event; the journal keeps it in
// NFGUARD_OUTCOME.
type Outcome string

// The outcomes. Once released an outcome is never renamed.
const (
	Corrected Outcome = "corrected" // put right by us
	Observed  Outcome = "observed"  // seen, and nothing was to be done about it
	Failed    Outcome = "failed"    // we tried, or were kept from trying
	Reverted  Outcome = "reverted"  // put right by us and wrong again on the next look
	Held      Outcome = "held"      // one of many in a fight, which goes on
	Denied    Outcome = "denied"    // the writer was refused, and its value never stored
	Rewritten Outcome = "rewritten" // the writer was told that it succeeded, and our value was stored
	Paused    Outcome = "paused"    // seen, and left so because nfguard is paused
)

// Cause is what had us look; the journal keeps it in NFGUARD_SOURCE. It is one
// of these, or the name of another source of news: "exec", "rules", …
type Cause string

// The causes.
const (
	CauseStart  Cause = "start"  // nfguard started
	CauseReload Cause = "reload" // the configuration was read again
	CauseResync Cause = "resync" // the sysctls are looked at every now and then
	CauseAudit  Cause = "audit"  // everything is
	CauseTimer  Cause = "timer"  // it was time to record it
	CauseApply  Cause = "apply"  // somebody ran nfguard apply
	CauseSignal Cause = "signal" // nfguard was told to stop
	CauseSysctl Cause = "sysctl" // the kernel told of a write to a sysctl
	CauseLink   Cause = "link"   // the kernel told of a bridge
	CausePause  Cause = "pause"  // a pause has begun or ended
)

// Process is one that changed a sysctl, as far as the kernel could
// still tell when it was asked. A PID of zero means that nobody knows.
type Process struct {
	PID    int
	Comm   string
	Exe    string
	Unit   string // systemd unit, "" outside of one
	Cgroup string

	Container string // container id, "" outside of one
	Pod       string // uid of the pod

	// What they are called, as far as this node tells: names, and no evidence.
	PodNamespace  string
	PodName       string
	ContainerName string
}

// Event is one entry of the audit record.
type Event struct {
	Kind    Kind
	Outcome Outcome
	Time    time.Time // when it was found
	Subject string    // a sysctl key, a module, a path, a bridge or a port of one
	Message string    // one sentence for people

	Bridge string // of a port: its bridge
	New    bool   // a thing that is new was made as wanted: that is no drift

	Want string // what the policy asks for
	Old  string // what stood before the foreign write, where the kernel told; "" otherwise
	Have string // what was found, or was to be written
	Now  string // what is there after the pass

	// Duration is how long the foreign state stood, from the moment that news
	// of it woke us. Zero: unknown, or of what was Rewritten none at all.
	Duration time.Duration

	Source Cause
	Writer Process
	Pass   uint64 // which pass found it, counted from 1

	// Unreplied connections through Services, and the pods that began them: what had no
	// reply because it bypassed netfilter, when the record was written. 0: none, or not
	// looked at.
	Unreplied, UnrepliedPods int

	Suppressed int    // how many corrections without a record of their own this one stands for
	Err        error  // why it failed
	About      Kind   // of a contention: the kind of what is fought over; "" is a sysctl
	Next       string // what to do about it, a sentence for people; "" when nothing

	// Of a pause only: the users of Writer, who asked for it, where they are known,
	// what they gave as the reason, and when it ends.
	UID, LoginUID string
	Reason        string
	Until         time.Time
}
