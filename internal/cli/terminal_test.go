package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"": "",
		"net.bridge.bridge-nf-call-iptables\t0 → 1\n": "net.bridge.bridge-nf-call-iptables\t0 → 1\n",
		"\x1b[31;1mdrift  \x1b[0m\n":                  "\x1b[31;1mdrift  \x1b[0m\n",
		"br\x1b[2J":                                   `br\x1b[2J`,
		"\x1b]0;title\a":                              `\x1b]0;title\a`,
		"over\rwritten\x08\x7f":                       `over\rwritten\b\x7f`,
		"C1 \u009b2J":                                 `C1 \u009b2J`,
		"right to left \u202e":                        `right to left \u202e`,
		"\xffcut":                                     `\xffcut`,
		"\x1b[1234567890m":                            `\x1b[1234567890m`,
		"no colour of ours \x1b[8m":                   `no colour of ours \x1b[8m`,
	} {
		if got, rest := (&output{terminal: true}).harmless([]byte(in)); string(got) != want || len(rest) > 0 {
			t.Errorf("%q is shown as %q, and %q waits; want %q", in, got, rest, want)
		}
		want = strings.ReplaceAll(want, "\x1b", `\x1b`)
		if got, rest := (&output{}).harmless([]byte(in)); string(got) != want || len(rest) > 0 {
			t.Errorf("in a pipe %q is shown as %q, and %q waits; want %q", in, got, rest, want)
		}
	}
}

// However a text is split into writes, the same is shown.
func FuzzPrintable(f *testing.F) {
	f.Add("\x1b[32mok     \x1b[0m  br\x1b[2J \u009b → \xff", 3)
	f.Fuzz(func(t *testing.T, text string, at int) {
		if at < 0 || at > len(text) {
			return
		}
		s := &output{terminal: true}
		whole, _ := s.harmless([]byte(text))
		first, rest := s.harmless([]byte(text[:at]))
		second, _ := s.harmless(append(rest, text[at:]...))
		if got := string(first) + string(second); got != string(whole) {
			t.Errorf("in two writes %q, in one %q", got, whole)
		}
		if s := strings.NewReplacer("\x1b[", "").Replace(string(whole)); strings.ContainsAny(s, "\x1b\a\b\r\x7f") {
			t.Errorf("%q is shown as %q", text, whole)
		}
	})
}

// TestTerminal: on a terminal and in a pipe, which can have a terminal at its end.
func TestTerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	fmt.Fprint(guarded(slave), "br\x1b[2J.")
	got := make([]byte, 64)
	n, err := master.Read(got)
	if want := `br\x1b[2J.`; string(got[:n]) != want || err != nil {
		t.Errorf("the terminal got %q, %v, want %q", got[:n], err, want)
	}
	if !guarded(slave).terminal || guarded(io.Discard).terminal {
		t.Error("a terminal is not recognised")
	}
	var pipe bytes.Buffer
	fmt.Fprint(guarded(&pipe), "br\x1b[2J\x1b[31;1m.")
	if want := `br\x1b[2J\x1b[31;1m.`; pipe.String() != want {
		t.Errorf("the pipe got %q, want %q", pipe.String(), want)
	}
}

// A failed write is an error, for any format and command.
func TestFullDisk(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"version"}, {"check", "-o", "json"}, {"check"}, {"apply", "--dry-run"}, {"config", "show"}} {
		if args[0] != "--help" && args[0] != "version" {
			args = append(args, "--root", t.TempDir())
		}
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		var e bytes.Buffer
		code := Main(t.Context(), args, Streams{Out: full, Err: &e}, nil)
		full.Close()
		if want := "nfguard: error: write /dev/full: no space left on device\n"; code != 2 || e.String() != want {
			t.Errorf("%q: want exit 2 and %q, got %d and %q", args, want, code, &e)
		}
	}
}
