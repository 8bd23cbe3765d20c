package sysctlhook

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// kernelBTF is where a kernel built with CONFIG_DEBUG_INFO_BTF describes its
// own types. Everybody may read it.
const kernelBTF = "/sys/kernel/btf/vmlinux"

// member names a member of one of the kernel's structures.
type member struct{ of, name string }

// layout is where in the kernel's memory the program finds what no helper
// tells it: the ways from the context of a sysctl to the network namespace that
// the sysctl belongs to, and to the mount of procfs that the writer goes
// through, and the names of the current task. All in bytes.
type layout struct {
	head, set, sysctls, ns, inum           int32
	ppos, kiPos, kiFilp, inode, super, dev int32
	tgid, comm                             int32
}

// kernelLayout reads the layout of the running kernel.
func kernelLayout() (layout, error) {
	f, err := os.Open(kernelBTF)
	if err != nil {
		return layout{}, err
	}
	defer f.Close()
	at, err := memberOffsets(f, []member{
		{"bpf_sysctl_kern", "head"},
		{"ctl_table_header", "set"},
		{"net", "sysctls"},
		{"net", "ns"},
		{"ns_common", "inum"},
		{"bpf_sysctl_kern", "ppos"},
		{"kiocb", "ki_pos"},
		{"kiocb", "ki_filp"},
		{"file", "f_inode"},
		{"inode", "i_sb"},
		{"super_block", "s_dev"},
		{"task_struct", "tgid"},
		{"task_struct", "comm"},
	})
	if err != nil {
		return layout{}, fmt.Errorf("%s: %w", kernelBTF, err)
	}
	return layout{at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8], at[9], at[10], at[11], at[12]}, nil
}

// btfHeader is struct btf_header of include/uapi/linux/btf.h. The offsets
// count from its end.
type btfHeader struct {
	Magic            uint16
	Version, Flags   uint8
	Length           uint32
	TypeOff, TypeLen uint32
	StrOff, StrLen   uint32
}

const (
	btfMagic     = 0xeb9f
	btfStruct    = 4  // BTF_KIND_STRUCT
	btfTypeSize  = 12 // struct btf_type: name, info, size or type
	btfMemberLen = 12 // struct btf_member: name, type, offset in bits
)

// btfTail is what follows struct btf_type, by kind: bytes once, and bytes for
// each of its vlen parts.
var btfTail = [...]struct{ once, each int }{
	1:  {once: 4},  // INT
	2:  {},         // PTR
	3:  {once: 12}, // ARRAY
	4:  {each: 12}, // STRUCT
	5:  {each: 12}, // UNION
	6:  {each: 8},  // ENUM
	7:  {},         // FWD
	8:  {},         // TYPEDEF
	9:  {},         // VOLATILE
	10: {},         // CONST
	11: {},         // RESTRICT
	12: {},         // FUNC
	13: {each: 8},  // FUNC_PROTO
	14: {once: 4},  // VAR
	15: {each: 12}, // DATASEC
	16: {},         // FLOAT
	17: {once: 4},  // DECL_TAG
	18: {},         // TYPE_TAG
	19: {each: 12}, // ENUM64
}

// memberOffsets returns where in their structures the members are, in bytes.
// A member of an anonymous structure inside counts as absent.
//
// It goes through the text twice in small pieces, and keeps nothing of it: the
// library's reader takes 4 MB and 20 ms for a dozen numbers, this one 0.1 MB and
// 6 ms (BenchmarkKernelLayout).
func memberOffsets(r io.ReaderAt, members []member) ([]int32, error) {
	var h btfHeader
	if err := binary.Read(io.NewSectionReader(r, 0, int64(binary.Size(h))), binary.NativeEndian, &h); err != nil {
		return nil, err
	}
	if h.Magic != btfMagic || h.Version != 1 {
		return nil, errors.New("no BTF of version 1")
	}
	base := int64(h.Length)
	names := make(map[string]uint32, 2*len(members))
	for _, m := range members {
		names[m.of], names[m.name] = 0, 0
	}
	if err := findStrings(io.NewSectionReader(r, base+int64(h.StrOff), int64(h.StrLen)), names); err != nil {
		return nil, err
	}
	offsets := make([]int32, len(members))
	for i := range offsets {
		offsets[i] = -1
	}
	visit := func(structure, name uint32, offset int32) {
		for i, m := range members {
			if offsets[i] < 0 && structure == names[m.of] && name == names[m.name] {
				offsets[i] = offset
			}
		}
	}
	wanted := make(map[uint32]bool, len(members))
	for _, m := range members {
		wanted[names[m.of]] = names[m.of] != 0
	}
	if err := walkStructs(io.NewSectionReader(r, base+int64(h.TypeOff), int64(h.TypeLen)), wanted, visit); err != nil {
		return nil, err
	}
	for i, m := range members {
		if offsets[i] < 0 {
			return nil, fmt.Errorf("no member %s in struct %s", m.name, m.of)
		}
	}
	return offsets, nil
}

// findStrings sets each value of names to the offset of its key. The strings
// end with a zero byte each, and the first one is empty.
func findStrings(r io.Reader, names map[string]uint32) error {
	b := bufio.NewReaderSize(r, 1<<16)
	for at := uint32(0); ; {
		s, err := b.ReadSlice(0)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, bufio.ErrBufferFull) { // none of ours is that long
			at += uint32(len(s))
			continue
		}
		if err != nil {
			return err
		}
		if _, ok := names[string(s[:len(s)-1])]; ok {
			names[string(s[:len(s)-1])] = at
		}
		at += uint32(len(s))
	}
}

// walkStructs calls visit for each member of the wanted structures.
func walkStructs(r io.Reader, wanted map[uint32]bool, visit func(structure, name uint32, offset int32)) error {
	b := bufio.NewReaderSize(r, 1<<16)
	var head [btfTypeSize]byte
	var m [btfMemberLen]byte
	for {
		if _, err := io.ReadFull(b, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		name := binary.NativeEndian.Uint32(head[0:])
		info := binary.NativeEndian.Uint32(head[4:])
		kind, parts, bits := int(info>>24&0x1f), int(info&0xffff), info>>31 != 0
		if kind == 0 || kind >= len(btfTail) {
			return fmt.Errorf("kind %d is not known", kind)
		}
		if kind != btfStruct || !wanted[name] {
			if _, err := b.Discard(btfTail[kind].once + parts*btfTail[kind].each); err != nil {
				return err
			}
			continue
		}
		for range parts {
			if _, err := io.ReadFull(b, m[:]); err != nil {
				return err
			}
			offset := binary.NativeEndian.Uint32(m[8:])
			if bits { // a structure with bit fields: their width is in the upper byte
				if offset>>24 != 0 {
					continue
				}
				offset &= 0xffffff
			}
			visit(name, binary.NativeEndian.Uint32(m[0:]), int32(offset/8))
		}
	}
}
