package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNative(t *testing.T) {
	got := native([]Field{{"MESSAGE", "a=b"}, {"NFGUARD_ERROR", "1\n2"}, {"PRIORITY", "4"}})
	want := "MESSAGE=a=b\nNFGUARD_ERROR\n\x03\x00\x00\x00\x00\x00\x00\x001\n2\nPRIORITY=4\n"
	if string(got) != want {
		t.Errorf("want %q, got %q", want, got)
	}
}

func TestJSONLine(t *testing.T) {
	got := jsonLine([]Field{{"MESSAGE", "a \"b\"\nµ"}, {"PRIORITY", "4"}})
	want := `{"MESSAGE":"a \"b\"\nµ","PRIORITY":"4"}` + "\n"
	if string(got) != want {
		t.Errorf("want %q, got %q", want, got)
	}
}

// FuzzEncode: whatever a value holds, it is read back, and nothing else is.
func FuzzEncode(f *testing.F) {
	f.Add("plain", "PRIORITY=0")
	f.Add("a\nPRIORITY=0\n", "\n")
	f.Add("nul \x00, not UTF-8 \xff", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		fs := []Field{{"MESSAGE", a}, {"NFGUARD_ERROR", b}}
		got, err := parse(native(fs))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fs, got); diff != "" {
			t.Error(diff)
		}
		line := jsonLine(fs)
		if !json.Valid(line) || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Errorf("not one line of JSON: %q", line)
		}
	})
}

// parse reads the native protocol as journald does.
func parse(b []byte) ([]Field, error) {
	var fs []Field
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte{'\n'})
		if !ok {
			return fs, errors.New("the last line does not end")
		}
		if name, value, ok := strings.Cut(string(line), "="); ok {
			fs = append(fs, Field{name, value})
			b = rest
			continue
		}
		if len(rest) < 8 {
			return fs, errors.New("no length")
		}
		n := binary.LittleEndian.Uint64(rest)
		rest = rest[8:]
		if uint64(len(rest)) < n+1 || rest[n] != '\n' {
			return fs, errors.New("wrong length")
		}
		fs = append(fs, Field{string(line), string(rest[:n])})
		b = rest[n+1:]
	}
	return fs, nil
}
