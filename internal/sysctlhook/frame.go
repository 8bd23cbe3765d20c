package sysctlhook

import (
	"unsafe"

	"github.com/cilium/ebpf/asm"
)

// settings is the one element of the map that [Hook.SetAnswer] changes.
type settings struct {
	Netns  uint32 // inode of the namespace whose sysctls are guarded
	Self   uint32 // thread group that may write what it likes; 0: none
	Quiet  uint32 // device of the procfs through which a write wakes nobody; 0: none
	Answer Answer
}

// counter limits the events of one key. It is an element of a map of its own,
// so that nothing of it is lost when the key's rule is replaced.
type counter struct {
	Start  uint64 // of the second that Count is about, by CLOCK_MONOTONIC
	Count  uint64 // events in that second
	Missed uint64 // left out since the program was loaded
}

// event is what the program writes to the ring. It is put together on the
// stack, where each number has a slot of eight bytes to itself: half of one,
// beside the other half, is a spilled pointer being corrupted to the verifier
// of a program without CAP_PERFMON (Linux 5.10, 6.1).
type event struct {
	At       uint64 // CLOCK_MONOTONIC
	Cgroup   uint64
	Missed   uint64 // the key's counter
	Slot     uint64
	Verdict  uint64
	PID, UID uint64
	Comm     [16]byte
	New, Old [maxText + 1]byte
}

// second is what [Options.Limit] counts in.
const second = 1_000_000_000

// The context of the program, struct bpf_sysctl of include/uapi/linux/bpf.h.
const (
	ctxWrite   = 0 // u32
	ctxFilePos = 4 // u32
)

// What a program of this type returns: 0 is EPERM for the caller.
const (
	refuse = 0
	allow  = 1
)

// The stack, from its top down. The kernel gives 512 bytes.
const (
	stackEvent   = -int16(unsafe.Sizeof(event{}))
	stackName    = stackEvent - (maxPath + 1)
	stackNumber  = stackName - 8
	stackPointer = stackNumber - 8
	stackWord    = stackPointer - 8
)

func onEvent(offset uintptr) int16 { return stackEvent + int16(offset) }

var (
	eventAt      = onEvent(unsafe.Offsetof(event{}.At))
	eventCgroup  = onEvent(unsafe.Offsetof(event{}.Cgroup))
	eventMissed  = onEvent(unsafe.Offsetof(event{}.Missed))
	eventSlot    = onEvent(unsafe.Offsetof(event{}.Slot))
	eventVerdict = onEvent(unsafe.Offsetof(event{}.Verdict))
	eventPID     = onEvent(unsafe.Offsetof(event{}.PID))
	eventUID     = onEvent(unsafe.Offsetof(event{}.UID))
	eventComm    = onEvent(unsafe.Offsetof(event{}.Comm))
	eventNew     = onEvent(unsafe.Offsetof(event{}.New))
	eventOld     = onEvent(unsafe.Offsetof(event{}.Old))
)

const (
	counterStart  = int16(unsafe.Offsetof(counter{}.Start))
	counterCount  = int16(unsafe.Offsetof(counter{}.Count))
	counterMissed = int16(unsafe.Offsetof(counter{}.Missed))
)

// Registers that helpers leave alone, and what they hold from where they are
// set on.
const (
	rCtx     = asm.R6
	rRule    = asm.R7 // *rule
	rNewLen  = asm.R8 // of the text being written, or -E2BIG
	rCounter = asm.R9 // *counter
)
