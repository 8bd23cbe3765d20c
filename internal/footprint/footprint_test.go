package footprint

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestConstant(t *testing.T) {
	const program = "/usr/bin/with space"
	for line, want := range map[string]bool{
		"00400000-0074b000 r-xp 00000000 fe:00 10299803                           " + program:          true,
		"0074b000-00ade000 r--p 0034b000 fe:00 10299803                           " + program:          true,
		"00ade000-00b06000 rw-p 006de000 fe:00 10299803                           " + program:          false,
		"00400000-0074b000 r-xp 00000000 fe:00 10299803                           " + program + "-old": false,
		"7f0000000000-7f0000001000 r-xp 00000000 00:00 0                          [vdso]":              false,
		"00400000-00400000 r-xp 00000000 fe:00 1 " + program:                                           false,
		"00400000 r-xp 00000000 fe:00 1 " + program:                                                    false,
		"xyz-zyx r-xp 00000000 fe:00 1 " + program:                                                     false,
		"": false,
	} {
		start, length, ok := constant(line, program)
		if ok != want || ok && start != 0x400000 && start != 0x74b000 || ok && start+length != 0x74b000 && start+length != 0xade000 {
			t.Errorf("%q: %x, %x, %v", line, start, length, ok)
		}
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
	TestConstant(t) // it goes on as before
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
