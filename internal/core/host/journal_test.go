package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// journalEntry is an entry in export format, so many seconds after a moment in
// 2026.
func journalEntry(sec int, fields ...string) string {
	usec := (1795405977 + int64(sec)) * 1e6
	return fmt.Sprintf("__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=a8d8acd91e7543c3b811f8678c969a83\n%s\n\n",
		usec, sec+1, strings.Join(fields, "\n"))
}

// makeJournal has systemd make journal files of an export.
func makeJournal(t *testing.T, export string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	cmd := exec.Command(lab.Tool(t, lab.Root, "systemd-journal-remote"), "--output="+filepath.Join(dir, "remote-test.journal"), "-")
	cmd.Stdin = strings.NewReader(export)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("systemd-journal-remote: %v\n%s", err, out)
	}
	return dir
}

// notes returns the values of NOTE in what is read, and how that ended.
func notes(t *testing.T, q JournalQuery) (string, error) {
	t.Helper()
	j, err := OpenJournal(t.Context(), q)
	if err != nil {
		return "", err
	}
	defer j.Close()
	text, err := io.ReadAll(j)
	var values []string
	for line := range strings.SplitSeq(string(text), "\n") {
		if v, ok := strings.CutPrefix(line, "NOTE="); ok {
			values = append(values, v)
		}
	}
	return strings.Join(values, " "), err
}

func TestOpenJournal(t *testing.T) {
	lab.Tool(t, lab.Root, "journalctl")
	dir := makeJournal(t, journalEntry(0, "NOTE=a", "KIND=x")+journalEntry(60, "NOTE=b", "KIND=y")+journalEntry(120, "NOTE=c", "KIND=x"))
	file := filepath.Join(dir, "remote-test.journal")
	tests := []struct {
		name string
		q    JournalQuery
		want string
	}{
		{"a directory", JournalQuery{Dir: dir}, "a b c"},
		{"a file", JournalQuery{File: file}, "a b c"},
		{"from a time on", JournalQuery{Dir: dir, Since: time.Unix(1795405977+60, 999)}, "b c"},
		{"what matches", JournalQuery{Dir: dir, Matches: []string{"KIND=x"}}, "a c"},
		{"nothing", JournalQuery{Dir: dir, Matches: []string{"KIND=z"}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := notes(t, tt.q)
			if got != tt.want || err != nil {
				t.Errorf("want %q, got %q, %v", tt.want, got, err)
			}
		})
	}
	t.Run("a damaged file", func(t *testing.T) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		damaged := filepath.Join(t.TempDir(), "system.journal")
		if err := os.WriteFile(damaged, text[:5000], 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := notes(t, JournalQuery{Dir: filepath.Dir(damaged)})
		want := "read " + filepath.Dir(damaged) + ": a part of it is damaged and is missing here: Journal file " + damaged + " is truncated, ignoring file."
		if got != "" || err == nil || err.Error() != want {
			t.Errorf("want %s\ngot  %v, %q", want, err, got)
		}
	})
	t.Run("followed, until it is cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		j, err := OpenJournal(ctx, JournalQuery{Dir: dir, Follow: true, Since: time.Unix(1795405977, 0)})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		var seen strings.Builder
		b := make([]byte, 4096)
		for !strings.Contains(seen.String(), "NOTE=c") {
			n, err := j.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			seen.Write(b[:n])
		}
		cancel()
		if rest, err := io.ReadAll(j); err != nil {
			t.Errorf("it ended with %v after %q", err, rest)
		}
	})
	t.Run("closed before its end", func(t *testing.T) {
		j, err := OpenJournal(t.Context(), JournalQuery{Dir: dir, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		if _, err := j.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("want %v, got %v", os.ErrClosed, err)
		}
		if j.cmd.ProcessState == nil {
			t.Error("journalctl was not waited for")
		}
	})
	t.Run("no journalctl", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := notes(t, JournalQuery{Dir: dir})
		if err == nil || err.Error() != "read "+dir+": there is no journalctl on this host" || !errors.Is(err, exec.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

// TestExplainJournal: what journalctl of systemd 252 says, in our words.
func TestExplainJournal(t *testing.T) {
	failed := errors.New("exit status 1")
	tests := []struct {
		name, said string
		err        error
		want, next string
	}{
		{
			"no file may be read", "No journal files were opened due to insufficient permissions.", failed,
			"read the journal: this user may not read it, or not all of it", "run it as root, or as a member of the group systemd-journal",
		},
		{
			"only one's own may be read", "Hint: You are currently not seeing messages from other users and the system. Users in groups 'adm', 'systemd-journal' can see all messages. Pass -q to turn off this notice.", nil,
			"read the journal: this user may not read it, or not all of it", "run it as root, or as a member of the group systemd-journal",
		},
		{
			"nothing to follow yet", "Data from the specified boot (+0) is not available: No such boot ID in journal", failed,
			"read the journal: it has no entry yet", "systemctl start nfguard; nfguard events --follow then",
		},
		{
			"one file of many is damaged", "Journal file x is corrupted, ignoring file.", nil,
			"read the journal: a part of it is damaged and is missing here: Journal file x is corrupted, ignoring file.",
			"journalctl --verify tells which files; the others are counted",
		},
		{"killed", "", errors.New("signal: killed"), "read the journal: journalctl: signal: killed", "run journalctl SYSLOG_IDENTIFIER=nfguard by hand"},
		{"something else", "Failed to open files: No data available", failed, "read the journal: journalctl: Failed to open files: No data available", "run journalctl SYSLOG_IDENTIFIER=nfguard by hand"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := explainJournal("read the journal", tt.said, tt.err)
			var known interface{ Next() string }
			if !errors.As(err, &known) || err.Error() != tt.want || known.Next() != tt.next {
				t.Errorf("want %s\ngot  %v\nwant next %s", tt.want, err, tt.next)
			}
			if tt.err != nil && !errors.Is(err, tt.err) {
				t.Error("its cause is lost")
			}
		})
	}
}

func TestHoldsJournal(t *testing.T) {
	dir := t.TempDir()
	_, err := notes(t, JournalQuery{Dir: dir})
	if want := "read " + dir + ": it holds no journal file"; err == nil || err.Error() != want {
		t.Errorf("want %s\ngot  %v", want, err)
	}
	var got []bool
	look := func(_ ...any) {
		there, _ := holdsJournal(dir)
		got = append(got, there)
	}
	look(os.Mkdir(filepath.Join(dir, "mach"), 0o755))
	look(os.WriteFile(filepath.Join(dir, "notes"), nil, 0o644))
	look(os.WriteFile(filepath.Join(dir, "mach/system.journal"), nil, 0o644))
	look(os.Rename(filepath.Join(dir, "mach/system.journal"), filepath.Join(dir, "system@1.journal~")))
	look(os.RemoveAll(dir))
	if diff := cmp.Diff([]bool{false, false, true, true, false}, got); diff != "" {
		t.Error(diff)
	}
}

// What has the name of a journal file and is none, journalctl passes over in
// silence: nothing on record would be a lie.
func TestOddJournal(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "system.journal")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	want := "read " + dir + ": a part of it is missing here: " + fifo + " is a FIFO, not a regular file"
	if _, err := notes(t, JournalQuery{Dir: dir}); err == nil || err.Error() != want {
		t.Errorf("a FIFO alone: want %s\ngot  %v", want, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other.journal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if there, odd := holdsJournal(dir); !there || len(odd) != 1 {
		t.Errorf("with a journal file: %v, %q", there, odd)
	}
}
