package sysctlhook

import (
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// ruleField sets R1 to a field of the rule.
func ruleField(offset uintptr, size asm.Size) asm.Instruction {
	return asm.LoadMem(asm.R1, rRule, int16(offset), size)
}

// program is the guard itself. limit is the number of events of a key in a
// second.
func program(k *kernel, m *tables, limit int32) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name:       "nfguard_sysctl",
		Type:       ebpf.CGroupSysctl,
		AttachType: ebpf.AttachCGroupSysctl,
		License:    license,
		Instructions: join(
			guarded(m),
			ours(k, m),
			judge(),
			answer(k, m),
			limited(m, limit),
			tell(k, m),
			end(),
		),
	}
}

// guarded leaves the program for reads, and for sysctls that have no rule.
func guarded(m *tables) asm.Instructions {
	code := asm.Instructions{
		asm.LoadMem(asm.R0, asm.R1, ctxWrite, asm.Word),
		asm.JEq.Imm(asm.R0, 0, "allow"),
		asm.Mov.Reg(rCtx, asm.R1),
	}
	return join(code,
		zero(stackName, maxPath+1), // the whole of it is the key of the map
		asm.Instructions{
			asm.Mov.Reg(asm.R1, rCtx),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, int32(stackName)),
			asm.Mov.Imm(asm.R3, maxPath+1),
			asm.Mov.Imm(asm.R4, 0), // the path, not the last part of it
			asm.FnSysctlGetName.Call(),
			asm.JSLT.Imm(asm.R0, 0, "allow"), // longer than any that has a rule

			asm.LoadMapPtr(asm.R1, m.rules.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, int32(stackName)),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "allow"),
			asm.Mov.Reg(rRule, asm.R0),
		})
}

// ours leaves the program for sysctls of other network namespaces, and for
// writes by ourselves. A key that belongs to no network namespace is not asked
// for its own.
func ours(k *kernel, m *tables) asm.Instructions {
	var code asm.Instructions
	if k.reads {
		code = join(code,
			asm.Instructions{
				ruleField(unsafe.Offsetof(rule{}.Lock), asm.Word),
				asm.JEq.Imm(asm.R1, 0, "any namespace"),
			},
			namespace(k),
			asm.Instructions{
				asm.LoadMem(asm.R2, asm.RFP, stackWord, asm.Word),
				asm.LoadMapValue(asm.R1, m.settings.FD(), uint32(unsafe.Offsetof(settings{}.Netns))),
				asm.LoadMem(asm.R1, asm.R1, 0, asm.Word),
				asm.JNE.Reg(asm.R1, asm.R2, "allow"),
			})
	}
	return join(code, label("any namespace", process(k)), asm.Instructions{
		asm.LoadMem(asm.R2, asm.RFP, eventPID, asm.DWord),
		asm.JEq.Imm(asm.R2, 0, "judge"), // not known
		asm.LoadMapValue(asm.R1, m.settings.FD(), uint32(unsafe.Offsetof(settings{}.Self))),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.Word),
		asm.JEq.Reg(asm.R1, asm.R2, "allow"),
	})
}

// judge leaves the program for values that are right, and for those that the
// kernel will not take. What is longer than its buffer is judged by what fits:
// a number of more than 20 digits is EINVAL (proc_get_long, kernel/sysctl.c),
// and blanks as far as one can see may hide one.
func judge() asm.Instructions {
	return join(
		asm.Instructions{
			asm.Mov.Reg(asm.R1, rCtx).WithSymbol("judge"),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, int32(eventNew)),
			asm.Mov.Imm(asm.R3, maxText+1),
			asm.FnSysctlGetNewValue.Call(),
			asm.Mov.Reg(rNewLen, asm.R0),
			asm.JEq.Imm(rNewLen, -int32(unix.EINVAL), "allow"), // write(fd, "", 0) stores nothing

			ruleField(unsafe.Offsetof(rule{}.Kind), asm.Word),
			asm.JEq.Imm(asm.R1, int32(text), "foreign"),
		},
		// The kernel reads numbers by the same function, so that ` 0x0`, `-0`
		// and `00` are zero here as there.
		zero(stackNumber, 8),
		asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.RFP),
			asm.Add.Imm(asm.R1, int32(eventNew)),
			asm.Mov.Imm(asm.R2, maxText+1),
			asm.Mov.Imm(asm.R3, 0), // the base is in the text
			asm.Mov.Reg(asm.R4, asm.RFP),
			asm.Add.Imm(asm.R4, int32(stackNumber)),
			asm.FnStrtol.Call(),
			asm.JSGE.Imm(asm.R0, 0, "a number"),

			ruleField(unsafe.Offsetof(rule{}.Kind), asm.Word),
			asm.JNE.Imm(asm.R1, int32(boolean), "foreign"),
			asm.JEq.Imm(rNewLen, -int32(unix.E2BIG), "foreign"),
			asm.Ja.Label("allow"),

			asm.LoadMem(asm.R2, asm.RFP, stackNumber, asm.DWord).WithSymbol("a number"),
			ruleField(unsafe.Offsetof(rule{}.Kind), asm.Word),
			asm.JNE.Imm(asm.R1, int32(boolean), "compare"),
			asm.JEq.Imm(asm.R2, 0, "compare"),
			asm.Mov.Imm(asm.R2, 1),
			ruleField(unsafe.Offsetof(rule{}.Number), asm.DWord).WithSymbol("compare"),
			asm.JEq.Reg(asm.R1, asm.R2, "allow"),
		})
}

// answer decides what becomes of a foreign value. It is rewritten only where
// the length stays, because write(2) returns the length of what it was given
// last, and programs compare. Every other one is refused.
//
// The length also keeps clear of a kernel bug: up to 2026 a rewrite freed the
// caller's buffer by kfree, which for a buffer of more than a few pages,
// vmalloc'ed, was an oops (4508943794ef, "proc: use kvzalloc for our kernel
// buffer").
func answer(k *kernel, m *tables) asm.Instructions {
	code := asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(Allowed)).WithSymbol("foreign"),
		asm.StoreMem(asm.RFP, eventVerdict, asm.R1, asm.DWord),
	}
	if !k.reads { // whose sysctl it is, is not known
		return code
	}
	return join(code, asm.Instructions{
		ruleField(unsafe.Offsetof(rule{}.Lock), asm.Word),
		asm.JEq.Imm(asm.R1, 0, "answered"),
		ruleField(unsafe.Offsetof(rule{}.Kind), asm.Word),
		asm.JEq.Imm(asm.R1, int32(text), "answered"),
		asm.LoadMapValue(asm.R1, m.settings.FD(), uint32(unsafe.Offsetof(settings{}.Answer))),
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
		asm.JEq.Imm(asm.R2, int32(Observe), "answered"),
		asm.Mov.Imm(asm.R1, int32(Refused)),
		asm.StoreMem(asm.RFP, eventVerdict, asm.R1, asm.DWord),
		asm.JNE.Imm(asm.R2, int32(Rewrite), "answered"),

		asm.JSLT.Imm(rNewLen, 1, "answered"),
		asm.JSGT.Imm(rNewLen, maxWant+1, "answered"),
		ruleField(unsafe.Offsetof(rule{}.TextLen), asm.Word),
		asm.JEq.Reg(rNewLen, asm.R1, "rewrite"),
		asm.Add.Imm(asm.R1, 1), // with the newline
		asm.JNE.Reg(rNewLen, asm.R1, "answered"),
		asm.Mov.Reg(asm.R1, rCtx).WithSymbol("rewrite"),
		asm.Mov.Reg(asm.R2, rRule),
		asm.Add.Imm(asm.R2, int32(unsafe.Offsetof(rule{}.Text))),
		asm.Mov.Reg(asm.R3, rNewLen),
		asm.FnSysctlSetNewValue.Call(),
		asm.JNE.Imm(asm.R0, 0, "answered"),
		asm.Mov.Imm(asm.R1, int32(Rewritten)),
		asm.StoreMem(asm.RFP, eventVerdict, asm.R1, asm.DWord),
	})
}

// limited counts the event and skips it when there were too many in this
// second. Two processors at once may let one or two more pass; none goes
// uncounted. Only events are limited, never answers.
func limited(m *tables, limit int32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.counters.FD()).WithSymbol("answered"),
		asm.Mov.Reg(asm.R2, rRule),
		asm.Add.Imm(asm.R2, int32(unsafe.Offsetof(rule{}.Slot))),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.Mov.Reg(rCounter, asm.R0),

		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(asm.RFP, eventAt, asm.R0, asm.DWord),
		asm.LoadMem(asm.R1, rCounter, counterStart, asm.DWord),
		asm.Mov.Reg(asm.R2, asm.R0),
		asm.Sub.Reg(asm.R2, asm.R1),
		asm.JLT.Imm(asm.R2, second, "same second"),
		asm.StoreMem(rCounter, counterStart, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(rCounter, counterCount, asm.R1, asm.DWord),

		asm.LoadMem(asm.R1, rCounter, counterCount, asm.DWord).WithSymbol("same second"),
		asm.JGE.Imm(asm.R1, limit, "missed"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(rCounter, asm.R1, asm.DWord, counterCount),
		asm.LoadMem(asm.R1, rCounter, counterMissed, asm.DWord),
		asm.StoreMem(asm.RFP, eventMissed, asm.R1, asm.DWord),
	}
}

// tell completes the event and puts it into the ring. It is copied there: a
// reserved one would be seen, and waited for, while it is being filled.
func tell(k *kernel, m *tables) asm.Instructions {
	return join(command(k), wakes(k, m), asm.Instructions{
		ruleField(unsafe.Offsetof(rule{}.Slot), asm.Word).WithSymbol("the rest"),
		asm.StoreMem(asm.RFP, eventSlot, asm.R1, asm.DWord),

		asm.Mov.Reg(asm.R1, rCtx),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, int32(eventOld)),
		asm.Mov.Imm(asm.R3, maxText+1),
		asm.FnSysctlGetCurrentValue.Call(),
		asm.FnGetCurrentUidGid.Call(),
		asm.LSh.Imm(asm.R0, 32), // the upper half is the group
		asm.RSh.Imm(asm.R0, 32),
		asm.StoreMem(asm.RFP, eventUID, asm.R0, asm.DWord),
		asm.FnGetCurrentCgroupId.Call(),
		asm.StoreMem(asm.RFP, eventCgroup, asm.R0, asm.DWord),

		asm.LoadMapPtr(asm.R1, m.ring.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, int32(stackEvent)),
		asm.Mov.Imm(asm.R3, int32(unsafe.Sizeof(event{}))),
		asm.LoadMem(asm.R4, asm.RFP, stackNumber, asm.DWord),
		asm.FnRingbufOutput.Call(),
		asm.JSGE.Imm(asm.R0, 0, "end"), // otherwise the ring is full

		asm.Mov.Imm(asm.R1, 1).WithSymbol("missed"),
		asm.AddAtomic.Mem(rCounter, asm.R1, asm.DWord, counterMissed),
	})
}

// wakes leaves at stackNumber whether the event wakes the reader
// (BPF_RB_FORCE_WAKEUP: events that woke nobody may lie before it) or not
// (BPF_RB_NO_WAKEUP).
func wakes(k *kernel, m *tables) asm.Instructions {
	const quiet, wake = 1, 2
	code := asm.Instructions{
		asm.Mov.Imm(asm.R1, wake),
		asm.StoreMem(asm.RFP, stackNumber, asm.R1, asm.DWord),
	}
	if k.mount == 0 {
		return code
	}
	return join(code, device(k), asm.Instructions{
		asm.LoadMem(asm.R2, asm.RFP, stackWord, asm.Word),
		asm.LoadMapValue(asm.R1, m.settings.FD(), uint32(unsafe.Offsetof(settings{}.Quiet))),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.Word),
		asm.JNE.Reg(asm.R1, asm.R2, "the rest"),
		asm.LoadMem(asm.R1, asm.RFP, eventVerdict, asm.DWord),
		asm.JNE.Imm(asm.R1, int32(Allowed), "the rest"),
		asm.Mov.Imm(asm.R1, quiet),
		asm.StoreMem(asm.RFP, stackNumber, asm.R1, asm.DWord),
	})
}

// end returns the verdict.
func end() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.RFP, eventVerdict, asm.DWord).WithSymbol("end"),
		asm.Mov.Imm(asm.R0, refuse),
		asm.JEq.Imm(asm.R1, int32(Refused), "out"),
		asm.Mov.Imm(asm.R0, allow).WithSymbol("allow"),
		asm.Return().WithSymbol("out"),
	}
}
