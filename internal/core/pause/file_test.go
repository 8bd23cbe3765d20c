package pause

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFile: what is written is read back, but not that somebody was seen, which is for
// the daemon to say; and it is withdrawn only where it still is the same.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	if diff := cmp.Diff(Asked{}, Read(dir)); diff != "" {
		t.Errorf("nothing is there: %s", diff)
	}
	r := asks(same)
	if err := Write(dir, r); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, File))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, mode %v", err, info.Mode())
	}
	want := asks(func(r *Request) { r.By.Seen = false })
	if diff := cmp.Diff(Asked{Request: want}, Read(dir)); diff != "" {
		t.Error(diff)
	}
	if err := Withdraw(dir, asks(func(r *Request) { r.Process.PID = 813 })); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(Asked{Request: want}, Read(dir)); diff != "" {
		t.Errorf("another one was withdrawn: %s", diff)
	}
	for range 2 { // the second time, it is gone
		if err := Withdraw(dir, r); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(Asked{}, Read(dir)); diff != "" {
			t.Errorf("it was withdrawn: %s", diff)
		}
		if err := Remove(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestParse(t *testing.T) {
	valid, err := json.Marshal(asks(same))
	if err != nil {
		t.Fatal(err)
	}
	text := string(valid)
	const no = "it is no request of nfguard: "
	for _, tt := range []struct{ name, text, want string }{
		{"one", text + "\n", ""},
		{"nothing", "", no + "EOF"},
		{"null", "null", no + "it is not one JSON object"},
		{"half of one", text[:len(text)/2], no + "unexpected EOF"},
		{"two", text + text, no + "it is not one JSON object"},
		{"with something behind it", text + "x", no + "it is not one JSON object"},
		{"with a field of its own", strings.Replace(text, "{", `{"exec":"sh",`, 1), no + `json: unknown field "exec"`},
		{"a list", "[]", no + "json: cannot unmarshal array into Go value of type pause.Request"},
		{"a number beyond all", strings.Replace(text, `"for_usec":`, `"for_usec":1e99,"for_usec":`, 1), no + "json: cannot unmarshal number 1e99 into Go struct field Request.for_usec of type int64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Parse([]byte(tt.text))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want || (r == nil) != (err != nil) {
				t.Errorf("want %q, got %q", tt.want, got)
			}
		})
	}
}

// TestFileOfOthers: nothing but a regular file of root's that only root can write is
// read. The kernel's own view of owners is in test/netns.
func TestFileOfOthers(t *testing.T) {
	valid, err := json.Marshal(asks(same))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		make       func(path string) error
	}{
		{"everybody's", "is writable by everyone, who could steer nfguard with it", func(path string) error {
			_ = os.WriteFile(path, valid, 0o600)
			return os.Chmod(path, 0o602)
		}},
		{"its group's", "is writable by its group, who could steer nfguard with it", func(path string) error {
			_ = os.WriteFile(path, valid, 0o600)
			return os.Chmod(path, 0o620)
		}},
		{"a link", "is a symbolic link, not a regular file", func(path string) error {
			_ = os.WriteFile(path+".there", valid, 0o600)
			return os.Symlink(path+".there", path)
		}},
		{"a directory", "is a directory, not a regular file", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"too large", "is larger than 4 KiB", func(path string) error {
			return os.WriteFile(path, append(valid, make([]byte, maxFile)...), 0o600)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := tt.make(filepath.Join(dir, File)); err != nil {
				t.Fatal(err)
			}
			a := Read(dir)
			if a.Request != nil || a.Err == nil || !strings.HasSuffix(a.Err.Error(), ": "+tt.want) {
				t.Errorf("want %q, got %v", tt.want, a.Err)
			}
		})
	}
}

// FuzzParse: no text makes it panic, and what it takes is bounded when it is checked.
func FuzzParse(f *testing.F) {
	valid, err := json.Marshal(asks(same))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	f.Add([]byte(`{"schema":1,"verb":"pause","for_usec":9223372036854775807,"asked_boottime_usec":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		d := Decide(nil, Asked{Request: r}, false, false, at(0))
		_ = d.Sentence(false, at(0))
		if s := d.Now; s != nil && (s.Left(at(0)) > Longest || s.Left(at(0)) <= 0 || s.Reason == "" || s.Lasted(at(0)) < 0) {
			t.Errorf("a pause without bounds: %+v", s)
		}
	})
}
