package history

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// maxValue is how many bytes of a field's value are kept. A message of nfguard
	// has some hundred bytes; other entries can contain a core dump.
	maxValue = 64 << 10

	// maxName is journald's own limit (journal_field_valid).
	maxName = 64
)

// export reads the journal export format (systemd.io/JOURNAL_EXPORT_FORMATS): a field
// is a line NAME=value, or a line NAME, a 64-bit little-endian length and that many
// bytes. An empty line ends an entry.
type export struct {
	r       *bufio.Reader
	offset  int64 // of the next byte
	entries int   // that were complete
	value   []byte
}

func newExport(r io.Reader) *export {
	return &export{r: bufio.NewReaderSize(r, maxValue)}
}

// formatError says where the input is not in export format.
type formatError struct {
	offset  int64
	entries int
	what    string
	end     bool // the input ended within an entry
}

func (e *formatError) Error() string {
	return fmt.Sprintf("entry %d, byte %d: %s", e.entries+1, e.offset, e.what)
}

// Next says what a person can do about it.
func (e *formatError) Next() string {
	switch {
	case e.end:
		return "export it again: journalctl -o export SYSLOG_IDENTIFIER=nfguard >FILE; everything before the end was counted"
	case e.entries == 0 && e.offset < maxName:
		return "--journal takes a directory of journal files, a journal file, or the output of journalctl -o export"
	}
	return "export it again: journalctl -o export SYSLOG_IDENTIFIER=nfguard >FILE; everything before that place was counted"
}

func (x *export) fail(offset int64, what string) error {
	return &formatError{offset: offset, entries: x.entries, what: what}
}

// taker takes the fields of an entry: first asked whether it wants one by its name, then
// given its value, which is its until then.
type taker interface {
	wants(name []byte) bool
	take(value []byte)
}

// next reads the next entry into e. At the end it returns io.EOF; an entry
// that is cut off is an error.
func (x *export) next(e taker) error {
	for fields := 0; ; {
		start := x.offset
		line, err := x.line()
		switch {
		case errors.Is(err, io.EOF) && fields == 0 && len(line) == 0:
			return io.EOF
		case errors.Is(err, io.EOF):
			return &formatError{x.offset, x.entries, "it ends within it", true}
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		case len(line) == 0 && err == nil: // there can be several empty lines between entries
			if fields > 0 {
				x.entries++
				return nil
			}
			continue
		}
		fields++
		name, value, text := cut(line)
		if !validName(name) {
			return x.fail(start, "this is no journal export: a line begins with "+excerpt(line))
		}
		wanted := e.wants(name)
		switch {
		case !text && err != nil:
			return x.fail(start, "the name of a field does not end")
		case !text:
			if value, err = x.binary(wanted); err != nil {
				return err
			}
		}
		if wanted {
			e.take(value)
		}
		if err != nil { // the rest of a long line
			if err := x.skipLine(); err != nil {
				return err
			}
		}
	}
}

// line returns the next line without its end. If the line is too long, it returns
// the part that is kept and [bufio.ErrBufferFull].
func (x *export) line() ([]byte, error) {
	line, err := x.r.ReadSlice('\n')
	x.offset += int64(len(line))
	if err == nil {
		line = line[:len(line)-1]
	}
	return line, err
}

func (x *export) skipLine() error {
	for {
		line, err := x.r.ReadSlice('\n')
		x.offset += int64(len(line))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, io.EOF):
			return &formatError{x.offset, x.entries, "it ends within it", true}
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// binary reads the length and the value of a field. It returns nil if the value is
// not wanted.
func (x *export) binary(wanted bool) ([]byte, error) {
	start := x.offset
	var length [8]byte
	if err := x.full(length[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > 1<<40 {
		return nil, x.fail(start, fmt.Sprintf("a field claims to have %d bytes", n))
	}
	left := int64(n)
	var value []byte
	if wanted {
		if x.value == nil {
			x.value = make([]byte, maxValue)
		}
		value = x.value[:min(left, maxValue)]
		if err := x.full(value); err != nil {
			return nil, err
		}
		left -= int64(len(value))
	}
	for left > 0 {
		skipped, err := x.r.Discard(int(min(left, 1<<20)))
		x.offset += int64(skipped)
		left -= int64(skipped)
		if err != nil {
			return nil, x.cutOff(err)
		}
	}
	var end [1]byte
	if err := x.full(end[:]); err != nil {
		return nil, err
	}
	if end[0] != '\n' {
		return nil, x.fail(start, fmt.Sprintf("a field of %d bytes does not end with a newline", n))
	}
	return value, nil
}

func (x *export) full(b []byte) error {
	n, err := io.ReadFull(x.r, b)
	x.offset += int64(n)
	return x.cutOff(err)
}

func (x *export) cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &formatError{x.offset, x.entries, "it ends within it", true}
	}
	return err
}

// cut splits a line at its first "=". If there is none, text is false: the value
// follows in binary.
func cut(line []byte) (name, value []byte, text bool) {
	for i, c := range line {
		if c == '=' {
			return line[:i], line[i+1:], true
		}
		if i > maxName {
			break
		}
	}
	return line, nil, false
}

func validName(name []byte) bool {
	if len(name) == 0 || len(name) > maxName || '0' <= name[0] && name[0] <= '9' {
		return false
	}
	for _, c := range name {
		if c != '_' && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func excerpt(line []byte) string { return fmt.Sprintf("%q", line[:min(len(line), 24)]) }
