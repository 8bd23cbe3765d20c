package footprint

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestConstants: what can be written to, or could be, is left alone.
func TestConstants(t *testing.T) {
	const program = "/usr/bin/with space"
	clean := "Rss:   4 kB\nAnonymous:             0 kB\nVmFlags: rd ex mr mw me sd\n"
	own := "Rss:   4 kB\nAnonymous:             4 kB\nVmFlags: rd mr mw me ac sd\n"
	tests := []struct {
		name, smaps string
		want        []mapping
	}{
		{name: "code", smaps: "00400000-0074b000 r-xp 00000000 fe:00 10299803                           " + program + "\n" + clean, want: []mapping{{0x400000, 0x34b000}}},
		{name: "constants", smaps: "0074b000-00ade000 r--p 0034b000 fe:00 10299803                           " + program + "\n" + clean, want: []mapping{{0x74b000, 0x393000}}},
		{name: "relocated, and read-only after that", smaps: "5581e0ade000-5581e0b06000 r--p 006de000 fe:00 10299803       " + program + "\n" + own},
		{name: "data", smaps: "00ade000-00b06000 rw-p 006de000 fe:00 10299803                           " + program + "\n" + clean},
		{name: "another program", smaps: "00400000-0074b000 r-xp 00000000 fe:00 10299803                           " + program + "-old\n" + clean},
		{name: "the kernel's", smaps: "7f0000000000-7f0000001000 r-xp 00000000 00:00 0                          [vdso]\n" + clean},
		{name: "no file", smaps: "c000000000-c000400000 ---p 00000000 00:00 0 \n" + clean},
		{name: "empty", smaps: "00400000-00400000 r-xp 00000000 fe:00 1 " + program + "\n" + clean},
		{name: "no range", smaps: "00400000 r-xp 00000000 fe:00 1 " + program + "\n" + clean},
		{name: "no numbers", smaps: "xyz-zyx r-xp 00000000 fe:00 1 " + program + "\n" + clean},
		{name: "a kernel that does not tell", smaps: "00400000-0074b000 r-xp 00000000 fe:00 1 " + program + "\n\nRss:   4 kB\n"},
		{
			name: "one after the other",
			smaps: "00400000-0074b000 r-xp 00000000 fe:00 1 " + program + "\n" + clean + "00ade000-00b06000 r--p 006de000 fe:00 1 " + program + "\n" + own +
				"00c00000-00c01000 r--p 006de000 fe:00 1 " + program + "\n" + clean,
			want: []mapping{{0x400000, 0x34b000}, {0xc00000, 0x1000}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := constants(strings.NewReader(tt.smaps), program)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(mapping{})); diff != "" || err != nil {
				t.Errorf("(-want +got):\n%s%v", diff, err)
			}
		})
	}
}

// TestTrim: the pages go, and what was in them is there when it is wanted.
func TestTrim(t *testing.T) {
	if err := advise(unix.MADV_POPULATE_READ); err != nil {
		t.Skipf("Linux before 5.14 maps no pages for the asking: %v", err)
	}
	before := resident(t)
	if err := Trim(); err != nil {
		t.Fatal(err)
	}
	after := resident(t)
	t.Logf("pages of files: %d KiB before, %d KiB after", before, after)
	if after > before-1024 { // what else is mapped is not the program
		t.Errorf("pages of files: %d KiB before, %d KiB after", before, after)
	}
	TestConstants(t) // it goes on as before
}

// resident is what is mapped of files, in KiB.
func resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssFile:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
