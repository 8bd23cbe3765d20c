package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// field is one field of an entry in export format, in text.
func field(name, value string) string { return name + "=" + value + "\n" }

// binaryField is the same in binary.
func binaryField(name, value string) string {
	b := append([]byte(name), '\n')
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return string(b) + value + "\n"
}

// messages reads all entries and returns their messages.
func messages(r io.Reader) ([]string, error) {
	x := newExport(r)
	var out []string
	for {
		e := entry{names: map[string]string{}}
		if err := x.next(&e); err != nil {
			if errors.Is(err, io.EOF) {
				return out, nil
			}
			return out, err
		}
		out = append(out, e.message)
	}
}

func TestExport(t *testing.T) {
	long := strings.Repeat("x", maxValue)
	tests := []struct {
		name string
		in   string
		want []string
		err  string
		next string
	}{
		{name: "empty"},
		{name: "only empty lines", in: "\n\n\n"},
		{name: "two entries, apart by two lines", in: "A=1\nMESSAGE=one\n\n\nMESSAGE=two\n\n", want: []string{"one", "two"}},
		{name: "a value with = and without", in: "MESSAGE=a=b\n\nMESSAGE=\n\n", want: []string{"a=b", ""}},
		{name: "the first value of a field counts", in: "MESSAGE=one\nMESSAGE=two\n\n", want: []string{"one"}},
		{name: "binary", in: binaryField("MESSAGE", "one\n\nPRIORITY=0\n") + "\n", want: []string{"one\n\nPRIORITY=0\n"}},
		{name: "binary of a foreign field", in: binaryField("COREDUMP", "\n\nMESSAGE=no\n\n") + "MESSAGE=yes\n\n", want: []string{"yes"}},
		{name: "binary, empty", in: binaryField("MESSAGE", "") + "\n", want: []string{""}},
		{name: "a long foreign line", in: field("OTHER", long+long+long) + "MESSAGE=yes\n\n", want: []string{"yes"}},
		{name: "a long line is cut", in: field("MESSAGE", long+long) + "\nMESSAGE=yes\n\n", want: []string{long[:maxValue-len("MESSAGE=")], "yes"}},
		{name: "a long binary is cut", in: binaryField("MESSAGE", long+long) + "\nMESSAGE=yes\n\n", want: []string{long, "yes"}},
		{
			name: "no export at all", in: "{\"MESSAGE\":\"x\"}\n",
			err:  `entry 1, byte 0: this is no journal export: a line begins with "{\"MESSAGE\":\"x\"}"`,
			next: "--journal takes a directory of journal files, a journal file, or the output of journalctl -o export",
		},
		{
			name: "cut off within a line", in: "MESSAGE=one\n\nMESSAGE=tw",
			want: []string{"one"}, err: "entry 2, byte 23: it ends within it",
			next: "export it again: journalctl -o export SYSLOG_IDENTIFIER=nfguard >FILE; everything before the end was counted",
		},
		{name: "cut off between lines", in: "MESSAGE=one\n\nMESSAGE=two\n", want: []string{"one"}, err: "entry 2, byte 25: it ends within it"},
		{name: "cut off within a long line", in: field("OTHER", long+long)[:maxValue+10], err: "entry 1, byte 65546: it ends within it"},
		{name: "cut off within a length", in: "MESSAGE\n\x01\x00", err: "entry 1, byte 10: it ends within it"},
		{name: "cut off within a binary", in: binaryField("MESSAGE", "one")[:18], err: "entry 1, byte 18: it ends within it"},
		{name: "cut off within a foreign binary", in: binaryField("OTHER", "one")[:15], err: "entry 1, byte 15: it ends within it"},
		{name: "a binary that is too long", in: "MESSAGE\n\x00\x00\x00\x00\x00\x00\x00\xff", err: "entry 1, byte 8: a field claims to have 18374686479671623680 bytes"},
		{
			name: "a wrong length", in: "MESSAGE=one\n\n" + binaryField("MESSAGE", "two")[:19] + "=MESSAGE\n\n", want: []string{"one"},
			err:  "entry 2, byte 21: a field of 3 bytes does not end with a newline",
			next: "export it again: journalctl -o export SYSLOG_IDENTIFIER=nfguard >FILE; everything before that place was counted",
		},
		{name: "a name in lower case", in: "message=one\n\n", err: `entry 1, byte 0: this is no journal export: a line begins with "message=one"`},
		{name: "a name that begins with a digit", in: "1A=one\n\n", err: `entry 1, byte 0: this is no journal export: a line begins with "1A=one"`},
		{name: "a name without end", in: long + long, err: `entry 1, byte 0: this is no journal export: a line begins with "xxxxxxxxxxxxxxxxxxxxxxxx"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := messages(strings.NewReader(tt.in))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			text, next := "", ""
			if err != nil {
				text = err.Error()
			}
			if known := (*formatError)(nil); errors.As(err, &known) {
				next = known.Next()
			}
			if text != tt.err || tt.next != "" && next != tt.next {
				t.Errorf("want error %q, next %q\ngot  error %q, next %q", tt.err, tt.next, text, next)
			}
		})
	}
}

// TestExportReadFails: an error of the reader is passed on.
func TestExportReadFails(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, in := range []string{"", "MESSAGE=one\n", "MESSAGE\n\x01", binaryField("OTHER", "abc")[:15]} {
		_, err := messages(io.MultiReader(strings.NewReader(in), &failing{broken}))
		if !errors.Is(err, broken) {
			t.Errorf("after %q: want %v, got %v", in, broken, err)
		}
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzExport: two values are read back the same, in text or in binary. Reading any
// input ends, and gives no more entries than it has empty lines.
func FuzzExport(f *testing.F) {
	f.Add("plain", "b", []byte("MESSAGE=x\n\n"))
	f.Add("a\nPRIORITY=0\n\n", "\n", []byte("MESSAGE\n\x01\x00\x00\x00\x00\x00\x00\x00x\n\n"))
	f.Add("", "", []byte("_UID=0\nNFGUARD_EVENT=drift\nNFGUARD_SUPPRESSED=2147483647\nOBJECT_PID=7\nOBJECT_COMM=a\nOBJECT_COMM=b\n\n"))
	f.Add("nul \x00, not UTF-8 \xff", "", []byte("COREDUMP\n\xff\xff\xff\xff\xff\xff\xff\x7f"))
	f.Fuzz(func(t *testing.T, a, b string, raw []byte) {
		if len(a) > maxValue || len(b) > maxValue {
			t.Skip()
		}
		in := binaryField("OTHER", b) + binaryField("MESSAGE", a) + "\n" + binaryField("MESSAGE", b) + "\n"
		got, err := messages(strings.NewReader(in))
		if diff := cmp.Diff([]string{a, b}, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
		r, records := NewReader(bytes.NewReader(raw)), 0
		for rec := (Record{}); r.Next(&rec) == nil; records++ {
			if rec.Teller.UID != "0" || rec.Event == "" || rec.Changes() < 0 {
				t.Errorf("this is no record: %+v", rec)
			}
		}
		if records > bytes.Count(raw, []byte("\n\n")) {
			t.Errorf("%d records from %q", records, raw)
		}
	})
}
