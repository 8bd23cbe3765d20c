// Package printable makes text of foreign origin safe to show: the names of
// programs, containers, bridges, files and hosts, and the text of rules and replies.
// Such text can contain escape sequences for the terminal, end a line, reverse the
// direction of writing, or be invisible. Everything that writes text, labels or JSON
// uses this package. Data that is not shown, such as a field of a journal entry,
// stays as it is.
package printable

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text is s for people, on one line: characters that are unprintable or invisible
// are escaped as in a Go string. Escapes that are already in s stay as they are.
func Text(s string) string {
	if clean(s) {
		return s
	}
	b := make([]byte, 0, len(s)+16)
	for len(s) > 0 {
		var n int
		b, n = Append(b, s)
		s = s[n:]
	}
	return string(b)
}

// Name is [Text] for places where different names must stay different, such as the
// labels of a metric: a backslash that could be taken for the beginning of an escape
// of Text is doubled. The "\x2d" of systemd's units is not such an escape.
func Name(s string) string {
	if clean(s) && !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s)+16)
	for len(s) > 0 {
		if s[0] == '\\' {
			run := len(s) - len(strings.TrimLeft(s, `\`))
			b = append(b, s[:run]...)
			if s = s[run:]; ambiguous(s) {
				b = append(b, strings.Repeat(`\`, run)...)
			}
			continue
		}
		var n int
		b, n = Append(b, s)
		s = s[n:]
	}
	return string(b)
}

// UTF8 is s as valid UTF-8, for JSON, which can contain every character: invalid
// bytes are written as "\xff". Different strings stay different.
func UTF8(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, `\x`) {
		return s
	}
	b := make([]byte, 0, len(s)+16)
	for len(s) > 0 {
		if s[0] == '\\' {
			run := len(s) - len(strings.TrimLeft(s, `\`))
			b = append(b, s[:run]...)
			s = s[run:]
			r, n := utf8.DecodeRuneInString(s)
			if r == utf8.RuneError && n == 1 || isHex(s, 'x', 2) && s[1] >= '8' {
				b = append(b, strings.Repeat(`\`, run)...)
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			b, _ = Append(b, s)
		} else {
			b = append(b, s[:n]...)
		}
		s = s[n:]
	}
	return string(b)
}

// Append appends the first character of s as Text shows it, and returns how many
// bytes it takes in s, which must not be empty.
func Append(dst []byte, s string) (shown []byte, n int) {
	r, n := utf8.DecodeRuneInString(s)
	switch {
	case r == utf8.RuneError && n == 1:
		return append(dst, `\x`+strconv.FormatUint(uint64(s[0]), 16)...), n
	case visible(r):
		return append(dst, s[:n]...), n
	}
	q := strconv.QuoteRuneToASCII(r)
	return append(dst, q[1:len(q)-1]...), n
}

func clean(s string) bool {
	for i, r := range s {
		if !visible(r) || r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)) {
			return false
		}
	}
	return true
}

// visible reports whether r is visible and does not affect the text around it.
// unicode.IsPrint is false for controls and for what changes the direction of
// writing, but true for letters and marks without width.
func visible(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r != '\x7f'
	}
	return unicode.IsPrint(r) && r != '\u2800' && // the Braille pattern without dots
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) && !unicode.Is(unicode.Variation_Selector, r)
}

// ambiguous reports whether a backslash before s would begin, or seem to begin, an
// escape that [Text] writes.
func ambiguous(s string) bool {
	if s == "" {
		return false
	}
	r, n := utf8.DecodeRuneInString(s)
	switch {
	case r == utf8.RuneError && n == 1 || !visible(r):
		return true
	case isHex(s, 'x', 2): // Text never escapes what is printable
		v, _ := strconv.ParseUint(s[1:3], 16, 8)
		return v < ' ' || v >= '\x7f'
	}
	return strings.ContainsRune("abfnrtv", r) || isHex(s, 'u', 4) || isHex(s, 'U', 8)
}

// isHex reports whether s begins with letter and n lower-case hexadecimal digits.
func isHex(s string, letter byte, n int) bool {
	return len(s) > n && s[0] == letter && strings.Trim(s[1:n+1], "0123456789abcdef") == ""
}
