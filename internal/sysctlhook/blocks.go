package sysctlhook

import (
	"slices"

	"github.com/cilium/ebpf/asm"
)

// license is what the programs are offered under to the kernel, which lends
// bpf_probe_read_kernel and bpf_get_current_task to GPL programs only. The two
// programs of this package, and nothing else of nfguard, may be had under these
// licences besides its own.
const license = "Dual BSD/GPL"

func join(blocks ...asm.Instructions) asm.Instructions { return slices.Concat(blocks...) }

// label names the first instruction of code, so that one can jump there.
func label(name string, code asm.Instructions) asm.Instructions {
	code[0] = code[0].WithSymbol(name)
	return code
}

// zero clears size bytes of the stack, a multiple of four. It goes by words of
// four: eight from a register would be a spilled register to the verifier, on
// which without CAP_PERFMON no helper may write a part (Linux 6.1).
func zero(at int16, size int) asm.Instructions {
	var code asm.Instructions
	for i := 0; i < size; i += 4 {
		code = append(code, asm.StoreImm(asm.RFP, at+int16(i), 0, asm.Word))
	}
	return code
}

// read copies size bytes of the kernel's memory at R3 + offset to the stack,
// zeroes if there is no memory. It uses all registers that helpers use.
func read(to int16, size, offset int32) asm.Instructions {
	return asm.Instructions{
		asm.Add.Imm(asm.R3, offset),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, int32(to)),
		asm.Mov.Imm(asm.R2, size),
		asm.FnProbeReadKernel.Call(),
	}
}

// namespace leaves at stackWord which network namespace the sysctl itself
// belongs to: the set of tables in which it is registered is part of struct
// net. The writer's own namespace would be wrong where a descriptor was opened
// in one and is used in another, and no helper tells either to programs of
// this type (bpf_get_netns_cookie is refused, Linux 6.18).
//
// The context that the verifier knows is a view: the pointer is one to struct
// bpf_sysctl_kern. A sysctl that is in no namespace's set leads to memory that
// is not of a struct net, and so to no inode that is guarded.
func namespace(k *kernel) asm.Instructions {
	return join(
		asm.Instructions{asm.Mov.Reg(asm.R3, rCtx)},
		read(stackPointer, 8, k.head),
		asm.Instructions{asm.LoadMem(asm.R3, asm.RFP, stackPointer, asm.DWord)},
		read(stackPointer, 8, k.set),
		asm.Instructions{asm.LoadMem(asm.R3, asm.RFP, stackPointer, asm.DWord)},
		read(stackWord, 4, k.ns+k.inum-k.sysctls),
	)
}

// device leaves at stackWord the device of the procfs that is written through.
// Since Linux 5.10 the position in the context is that of a struct kiocb; before,
// this leads anywhere, which the rehearsal finds.
func device(k *kernel) asm.Instructions {
	code := asm.Instructions{asm.Mov.Reg(asm.R3, rCtx)}
	for _, offset := range []int32{k.ppos, k.kiFilp - k.kiPos, k.inode, k.super} {
		code = join(code, read(stackPointer, 8, offset), asm.Instructions{asm.LoadMem(asm.R3, asm.RFP, stackPointer, asm.DWord)})
	}
	return join(code, read(stackWord, 4, k.dev))
}

// process leaves the writer's thread group in the event, as the initial PID
// namespace numbers it, or 0.
func process(k *kernel) asm.Instructions {
	code := asm.Instructions{asm.Mov.Imm(asm.R0, 0)}
	switch k.pid {
	case fromTask:
		code = join(
			asm.Instructions{
				asm.FnGetCurrentTask.Call(),
				asm.Mov.Reg(asm.R3, asm.R0),
			},
			read(stackWord, 4, k.tgid),
			asm.Instructions{asm.LoadMem(asm.R0, asm.RFP, stackWord, asm.Word)})
	case fromHelper:
		code = asm.Instructions{
			asm.FnGetCurrentPidTgid.Call(),
			asm.RSh.Imm(asm.R0, 32), // the lower half is the thread
		}
	case fromNowhere:
	}
	return append(code, asm.StoreMem(asm.RFP, eventPID, asm.R0, asm.DWord))
}

// command leaves the name of the writer's thread in the event, or zeroes.
func command(k *kernel) asm.Instructions {
	const size = 16 // TASK_COMM_LEN
	switch k.comm {
	case fromTask:
		return join(
			asm.Instructions{
				asm.FnGetCurrentTask.Call(),
				asm.Mov.Reg(asm.R3, asm.R0),
			},
			read(eventComm, size, k.layout.comm))
	case fromHelper:
		return asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.RFP),
			asm.Add.Imm(asm.R1, int32(eventComm)),
			asm.Mov.Imm(asm.R2, size),
			asm.FnGetCurrentComm.Call(),
		}
	case fromNowhere:
	}
	return zero(eventComm, size)
}
