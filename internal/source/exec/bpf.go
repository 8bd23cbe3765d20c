package exec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

var bpf = way{name: "BPF raw tracepoint", short: "BPF", open: openBPF}

// key is a comm as the kernel holds it: TASK_COMM_LEN bytes, filled up with
// zeros.
type key [16]byte

// tracepoint is hit when a process has become another program. Its name and
// our use of it, which is of the current task only, have not changed since
// raw tracepoints exist (4.17); it needs neither tracefs nor BTF.
const tracepoint = "sched_process_exec"

// tracer is a BPF program on each exec that looks its name up in a map, and
// writes those that are there to a ring. The others cost a lookup and wake
// nobody.
type tracer struct {
	names, ring *ebpf.Map
	prog        *ebpf.Program
	link        link.Link
	reader      *ringbuf.Reader
	record      ringbuf.Record
}

func openBPF(names []string) (feed, error) {
	t := &tracer{}
	if err := t.open(names); err != nil {
		t.close()
		if errors.Is(err, unix.EPERM) {
			err = unix.EPERM // the library adds advice for developers
		}
		return nil, err
	}
	return t, nil
}

func (t *tracer) open(names []string) (err error) {
	// The value counts what did not fit into the ring.
	if t.names, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "nfguard_names", Type: ebpf.Hash, KeySize: 16, ValueSize: 8, MaxEntries: uint32(len(names)),
	}); err != nil {
		return err
	}
	for _, n := range names {
		var k key
		copy(k[:], n)
		if err := t.names.Put(k, uint64(0)); err != nil {
			return err
		}
	}
	// The smallest there is: room for 128 starts on pages of 4 KiB.
	if t.ring, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "nfguard_execs", Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize()),
	}); err != nil {
		return err
	}
	if t.prog, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "nfguard_exec", Type: ebpf.RawTracepoint, License: "Apache-2.0",
		Instructions: program(t.names.FD(), t.ring.FD()),
	}); err != nil {
		return err
	}
	if t.reader, err = ringbuf.NewReader(t.ring); err != nil {
		return err
	}
	t.reader.SetDeadline(time.Unix(1, 0)) // so that reading never blocks
	t.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: t.prog})
	return err
}

// What the program writes: the pid as a number of 8 bytes, and the comm.
const (
	recordSize = 24
	commAt     = 8
)

// program writes a record to the ring if the current task's comm is a key of
// names and its real user id, as the initial user namespace counts, is 0. It
// counts in the key's value where the ring is full. It calls no helper that is
// reserved for the GPL.
func program(names, ring int) asm.Instructions {
	const (
		record = -recordSize // on the stack
		comm   = record + commAt
	)
	return asm.Instructions{
		// First, so that what others do costs least: in the lower half, and by
		// init_user_ns (bpf_get_current_uid_gid in kernel/bpf/helpers.c).
		asm.FnGetCurrentUidGid.Call(),
		asm.LSh.Imm(asm.R0, 32),
		asm.JNE.Imm(asm.R0, 0, "done"),

		asm.Mov.Imm(asm.R0, 0),
		asm.StoreMem(asm.RFP, comm, asm.R0, asm.DWord),
		asm.StoreMem(asm.RFP, comm+8, asm.R0, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, comm),
		asm.Mov.Imm(asm.R2, int32(len(key{}))),
		asm.FnGetCurrentComm.Call(),

		asm.LoadMapPtr(asm.R1, names),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, comm),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "done"),
		asm.Mov.Reg(asm.R6, asm.R0), // where losses are counted

		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.StoreMem(asm.RFP, record, asm.R0, asm.DWord),

		asm.LoadMapPtr(asm.R1, ring),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, record),
		asm.Mov.Imm(asm.R3, recordSize),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.JEq.Imm(asm.R0, 0, "done"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R6, asm.R1, asm.DWord),

		asm.Mov.Imm(asm.R0, 0).WithSymbol("done"),
		asm.Return(),
	}
}

func (t *tracer) fd() int { return t.ring.FD() }

func (t *tracer) read(started func(pid int, comm string)) (n int, err error) {
	for {
		err := t.reader.ReadInto(&t.record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break // that was all
		}
		if err != nil {
			return n, fmt.Errorf("read the BPF ring: %w", err)
		}
		b := t.record.RawSample
		if len(b) < recordSize {
			return n, fmt.Errorf("read the BPF ring: a record of %d bytes", len(b))
		}
		n++
		c, _, _ := bytes.Cut(b[commAt:recordSize], []byte{0})
		started(int(binary.NativeEndian.Uint64(b)), string(c))
	}
	var k key
	var lost uint64
	for all := t.names.Iterate(); all.Next(&k, &lost); {
		if lost != 0 {
			return n, errLost
		}
	}
	return n, nil
}

func (t *tracer) close() {
	if t.link != nil {
		_ = t.link.Close()
	}
	if t.reader != nil {
		_ = t.reader.Close()
	}
	_ = t.prog.Close() // these take nil
	_ = t.ring.Close()
	_ = t.names.Close()
}
