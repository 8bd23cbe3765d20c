package cli

import (
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/printable"
)

// output makes text safe for people to read. Others choose the names of programs,
// bridges and hosts, which can contain escape sequences for the terminal, even one at
// the other end of a pipe. Unprintable characters are escaped as in a Go string, except
// for the colours of a [style] on a terminal.
type output struct {
	io.Writer
	terminal bool
	held     []byte // the beginning of a colour sequence, or of a rune
	err      error  // the writer's first error
}

// guarded returns an output that writes to w.
func guarded(w io.Writer) *output {
	s := &output{Writer: w}
	if f, ok := w.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		s.terminal = err == nil
	}
	return s
}

func (s *output) Write(b []byte) (int, error) {
	var text []byte
	text, s.held = s.harmless(append(s.held, b...))
	if _, err := s.Writer.Write(text); err != nil {
		if s.err == nil {
			s.err = err
		}
		return 0, err
	}
	return len(b), nil
}

// colours are all escape sequences that a style writes.
var colours = []string{"\x1b[32m", "\x1b[31;1m", "\x1b[33m", "\x1b[2m", "\x1b[0m"}

// harmless makes b safe to show. rest is the end of b if it may be incomplete.
func (s *output) harmless(b []byte) (text, rest []byte) {
	text = make([]byte, 0, len(b))
	for len(b) > 0 {
		if s.terminal && b[0] == '\x1b' {
			at := func(c string) bool { return strings.HasPrefix(string(b[:min(len(b), len(c))]), c) }
			if i := slices.IndexFunc(colours, at); i >= 0 {
				text, b = append(text, colours[i]...), b[len(colours[i]):]
				continue
			}
			if slices.ContainsFunc(colours, func(c string) bool { return strings.HasPrefix(c, string(b)) }) {
				return text, b
			}
		}
		if !utf8.FullRune(b) {
			return text, b
		}
		if b[0] == '\n' || b[0] == '\t' {
			text, b = append(text, b[0]), b[1:]
			continue
		}
		_, n := utf8.DecodeRune(b)
		text, n = printable.Append(text, string(b[:n]))
		b = b[n:]
	}
	return text, nil
}
