package sysctlhook

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

// blob makes a BTF of the types, whose first string is empty.
func blob(types []uint32, names ...string) []byte {
	text := "\x00" + strings.Join(names, "\x00") + "\x00"
	h := btfHeader{Magic: btfMagic, Version: 1, Length: 24, TypeLen: uint32(4 * len(types)), StrLen: uint32(len(text))}
	h.StrOff = h.TypeLen
	var b bytes.Buffer
	for _, part := range []any{h, types, []byte(text)} {
		if err := binary.Write(&b, binary.NativeEndian, part); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

const kindFlag = 1 << 31

func TestMemberOffsets(t *testing.T) {
	net := []member{{"net", "ns"}}
	for _, c := range []struct {
		name  string
		blob  []byte
		want  []int32
		error string
	}{
		{"after an integer and a pointer", blob([]uint32{
			0, 1 << 24, 4, 32,
			0, 2 << 24, 1,
			1, 4<<24 | 2, 16, 0, 1, 0, 5, 1, 64,
		}, "net", "ns"), []int32{8}, ""},
		{"beside bit fields", blob([]uint32{
			1, kindFlag | 4<<24 | 2, 16, 0, 1, 3<<24 | 8, 5, 1, 64,
		}, "net", "ns"), []int32{8}, ""},
		{"itself a bit field", blob([]uint32{
			1, kindFlag | 4<<24 | 1, 16, 5, 1, 3<<24 | 8,
		}, "net", "ns"), nil, "no member ns in struct net"},
		{"a union of the name", blob([]uint32{
			1, 5<<24 | 1, 16, 5, 1, 64,
		}, "net", "ns"), nil, "no member ns in struct net"},
		{"neither name is there", blob([]uint32{
			0, 4<<24 | 1, 16, 0, 1, 64,
		}, "task"), nil, "no member ns in struct net"},
		{"a kind of the future", blob([]uint32{0, 21 << 24, 0}, "net", "ns"), nil, "kind 21 is not known"},
		{"cut off", blob([]uint32{1, 4<<24 | 9, 16, 5}, "net", "ns"), nil, "unexpected EOF"},
		{"something else", make([]byte, 100), nil, "no BTF of version 1"},
		{"empty", nil, nil, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := memberOffsets(bytes.NewReader(c.blob), net)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if diff := cmp.Diff(c.want, got); diff != "" || text != c.error {
				t.Errorf("error %q, want %q; offsets (-want +got):\n%s", text, c.error, diff)
			}
		})
	}
}

// This kernel's own description, read by the library's reader.
func TestKernelLayout(t *testing.T) {
	if _, err := os.Stat(kernelBTF); err != nil {
		t.Skip(err)
	}
	got, err := kernelLayout()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	offset := func(structure, name string) int32 {
		var s *btf.Struct
		if err := spec.TypeByName(structure, &s); err != nil {
			t.Fatal(err)
		}
		for _, m := range s.Members {
			if m.Name == name {
				return int32(m.Offset.Bytes())
			}
		}
		t.Fatalf("no %s in %s", name, structure)
		return 0
	}
	want := layout{
		head: offset("bpf_sysctl_kern", "head"), set: offset("ctl_table_header", "set"),
		sysctls: offset("net", "sysctls"), ns: offset("net", "ns"), inum: offset("ns_common", "inum"),
		ppos: offset("bpf_sysctl_kern", "ppos"), kiPos: offset("kiocb", "ki_pos"), kiFilp: offset("kiocb", "ki_filp"),
		inode: offset("file", "f_inode"), super: offset("inode", "i_sb"), dev: offset("super_block", "s_dev"),
		tgid: offset("task_struct", "tgid"), comm: offset("task_struct", "comm"),
	}
	if want != got {
		t.Errorf("want %+v, got %+v", want, got)
	}
	t.Logf("%+v", got)
}

func FuzzMemberOffsets(f *testing.F) {
	f.Add(blob([]uint32{1, 4<<24 | 1, 16, 5, 1, 64}, "net", "ns"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := memberOffsets(bytes.NewReader(b), []member{{"net", "ns"}, {"net", "sysctls"}})
		if (err == nil) != (len(got) == 2) {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func BenchmarkKernelLayout(b *testing.B) {
	b.Run("own", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := kernelLayout(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			spec, err := btf.LoadKernelSpec()
			if err != nil {
				b.Fatal(err)
			}
			for _, name := range []string{"bpf_sysctl_kern", "ctl_table_header", "net", "ns_common", "task_struct"} {
				var s *btf.Struct
				if err := spec.TypeByName(name, &s); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
