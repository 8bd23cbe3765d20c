package cli

import (
	"io"
	"os"
	"strconv"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// terminal is one that obeys nobody but us: names of programs, of bridges and of
// hosts are chosen by others, and can be sequences that it would act on. It lets
// colours pass, and shows all else that is not printable as a Go string does.
type terminal struct {
	*os.File
	held []byte // the beginning of a sequence, or of a rune
}

// guarded is w, or where that is a terminal the same with care.
func guarded(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			return &terminal{File: f}
		}
	}
	return w
}

func (t *terminal) Write(b []byte) (int, error) {
	var shown []byte
	shown, t.held = printable(append(t.held, b...))
	if _, err := t.File.Write(shown); err != nil {
		return 0, err
	}
	return len(b), nil
}

// printable makes b safe to show. What its end may be the beginning of is rest.
func printable(b []byte) (shown, rest []byte) {
	for len(b) > 0 {
		n, whole := colour(b)
		if !whole || !utf8.FullRune(b) {
			return shown, b
		}
		if n > 0 {
			shown, b = append(shown, b[:n]...), b[n:]
			continue
		}
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			shown = append(shown, `\x`+strconv.FormatUint(uint64(b[0]), 16)...)
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			shown = append(shown, b[:n]...)
		default:
			q := strconv.QuoteRune(r)
			shown = append(shown, q[1:len(q)-1]...)
		}
		b = b[n:]
	}
	return shown, nil
}

// maxColour is the length of the longest sequence that we write.
const maxColour = len("\x1b[31;1m")

// colour is the length of the sequence "ESC [ digits and semicolons m" that b
// begins with, or zero; whole is false where b may be the beginning of one.
func colour(b []byte) (n int, whole bool) {
	const start = "\x1b["
	for i, c := range b[:min(len(b), maxColour)] {
		switch {
		case i < len(start):
			if c != start[i] {
				return 0, true
			}
		case c == 'm':
			return i + 1, true
		case c != ';' && (c < '0' || c > '9'):
			return 0, true
		}
	}
	return 0, len(b) >= maxColour
}
