package files_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/files"
	"github.com/nfguard/nfguard/test/lab"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Everything but a regular file is refused at once, and the error says what it is:
// reading the FIFO, or the terminal, would never return.
func TestReadRegularFilesOnly(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("file"), "12345678")
	link(t, "file", at("link"))
	link(t, "fifo", at("link to a FIFO"))
	link(t, "/dev/null", at("masked"))
	if err := syscall.Mkfifo(at("fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name           string
		limit          int64
		want           string
		err            string // from Read
		noLink, inTree string // from ReadNoLink, and from a Tree's Read, if they differ; "-": none
	}{
		{name: "file", limit: 8, want: "12345678"},
		{name: "file", limit: 7, want: "1234567", err: "read DIR/file: is larger than 7 bytes"},
		{name: "link", limit: 8, want: "12345678", noLink: "open DIR/link: is a symbolic link, not a regular file"},
		{name: "fifo", limit: 8, err: "open DIR/fifo: is a FIFO, not a regular file", inTree: "open /fifo: is a FIFO, not a regular file"},
		{
			name: "link to a FIFO", limit: 8, err: "open DIR/link to a FIFO: is a FIFO, not a regular file",
			noLink: "open DIR/link to a FIFO: is a symbolic link, not a regular file",
			inTree: "open /link to a FIFO: is a FIFO, not a regular file",
		},
		{
			name: "masked", limit: 8, err: "open DIR/masked: is a device, not a regular file",
			noLink: "open DIR/masked: is a symbolic link, not a regular file", inTree: "-",
		},
		{name: ".", limit: 8, err: "open DIR: is a directory, not a regular file", inTree: "open /.: is a directory, not a regular file"},
		{name: "none", limit: 8, err: "open DIR/none: no such file or directory", inTree: "open /none: no such file or directory"},
	}
	tree, err := files.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := func(own string) string {
				if own == "" {
					own = tt.err
				}
				return strings.ReplaceAll(strings.TrimPrefix(own, "-"), "DIR", dir)
			}
			text, err := files.Read(at(tt.name), tt.limit)
			if string(text) != tt.want || message(err) != want("") {
				t.Errorf("Read: %q, %v", text, err)
			}
			if _, err := files.ReadNoLink(at(tt.name), tt.limit); message(err) != want(tt.noLink) {
				t.Errorf("ReadNoLink: %v", err)
			}
			text, err = tree.Read("/"+tt.name, tt.limit)
			if string(text) != tt.want || message(err) != want(tt.inTree) {
				t.Errorf("in a tree: %q, %v, want %q", text, err, want(tt.inTree))
			}
		})
	}
}

// Links in a tree lead where they lead on the host whose tree it is, and never out of
// it, neither for reading nor for writing.
func TestTreeHasNoWayOut(t *testing.T) {
	outside := t.TempDir()
	secret := write(t, filepath.Join(outside, "secret"), "outside")
	for name, target := range map[string]string{
		"relative": "../../../../../../../../../.." + outside,
		"absolute": outside,
		"magic":    "/proc/self/root" + outside,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			link(t, target, filepath.Join(dir, "etc/sysctl.d"))
			tree, err := files.OpenImage(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			if text, err := tree.Read("/etc/sysctl.d/secret", 100); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("read %q, %v", text, err)
			}
			err = tree.Replace("/etc/sysctl.d/new.conf", []byte("x"), nil)
			if name == "magic" {
				if !files.Hidden(err) {
					t.Errorf("written through /proc: %v", err)
				}
			} else if text, e := os.ReadFile(filepath.Join(dir, outside, "new.conf")); err != nil || string(text) != "x" {
				t.Errorf("inside the tree there is %q, %v, %v", text, e, err)
			}
			entries, _ := os.ReadDir(outside)
			if len(entries) != 1 {
				t.Errorf("outside there is %v", entries)
			}
			if text, _ := os.ReadFile(secret); string(text) != "outside" {
				t.Errorf("the file outside is %q", text)
			}
		})
	}
}

// Listing a FIFO in place of a directory fails, and does not block.
func TestListWaitsForNothing(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := files.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	listed := make(chan error, 1)
	go func() {
		_, err := tree.List("/fifo")
		listed <- err
	}()
	select {
	case err := <-listed:
		if !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%v, want ENOTDIR", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the FIFO")
		f, err := os.OpenFile(filepath.Join(dir, "fifo"), os.O_RDWR, 0) // unblock it
		if err == nil {
			<-listed
			f.Close()
		}
	}
}

// These directories of an image can only hold files of the running host.
func TestImageHidesTheKernel(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"proc", "sys", "dev", "run"} {
		write(t, filepath.Join(dir, d, "x"), "x")
		link(t, "../"+d, filepath.Join(dir, "etc", d))
	}
	image, err := files.OpenImage(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	for _, d := range []string{"/proc", "/sys", "/dev", "/run", "/etc/proc", "/etc/run"} {
		if _, err := image.Read(d+"/x", 10); !files.Hidden(err) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read %s/x: %v", d, err)
		}
		if err := image.Replace(d+"/y", nil, nil); !files.Hidden(err) {
			t.Errorf("write %s/y: %v", d, err)
		}
		if _, err := image.List(d); !files.Hidden(err) {
			t.Errorf("list %s: %v", d, err)
		}
	}
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func mine(start []byte) bool { return strings.HasPrefix(string(start), "# mine") }

// Whatever a killed run left behind is used again; other people's files stay.
func TestReplaceLeavesNothing(t *testing.T) {
	for name, leftover := range map[string]func(t *testing.T, path string){
		"nothing":        func(*testing.T, string) {},
		"half of it":     func(t *testing.T, path string) { os.Chmod(write(t, path, "# mi"), 0o600) },
		"a file to read": func(t *testing.T, path string) { write(t, path, "# mi") },
		"a link":         func(t *testing.T, path string) { link(t, "../victim", path) },
		"a hard link": func(t *testing.T, path string) {
			os.Link(filepath.Join(filepath.Dir(path), "..", "victim"), path)
		},
		"a FIFO": func(_ *testing.T, path string) { syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			victim := write(t, filepath.Join(dir, "../victim"), "victim")
			os.Chmod(victim, 0o600)
			write(t, filepath.Join(dir, ".a.conf123"), "somebody's")
			leftover(t, filepath.Join(dir, ".a.conf.nfguard-new"))
			for range 2 {
				if err := files.Replace(filepath.Join(dir, "a.conf"), []byte("# mine\n"), mine); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff([]string{".a.conf123", "a.conf"}, names(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			info, err := os.Stat(filepath.Join(dir, "a.conf"))
			if err != nil || info.Mode() != 0o644 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if text, _ := os.ReadFile(victim); string(text) != "victim" {
				t.Errorf("the other file is %q", text)
			}
		})
	}
}

// Processes that write the same file at once put complete files in place.
func TestReplaceAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.conf")
	texts := []string{"# mine" + strings.Repeat("a", 50_000), "# mine" + strings.Repeat("b", 50_000)}
	done := make(chan int)
	for _, text := range texts {
		go func() {
			written := 0
			for range 300 {
				if files.Replace(path, []byte(text), mine) == nil {
					written++
				}
			}
			done <- written
		}()
	}
	written := 0
	for range texts {
		written += <-done
	}
	text, err := os.ReadFile(path)
	if err != nil || !slices.Contains(texts, string(text)) || written == 0 {
		t.Errorf("%d bytes, %v, written %d times", len(text), err, written)
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func TestReplaceAndRemoveOnlyOurs(t *testing.T) {
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "a.conf"), "somebody's\n")
	err := files.Replace(path, []byte("# mine\n"), mine)
	if want := "write " + path + ": it is somebody else's file"; !errors.Is(err, files.ErrForeign) || err.Error() != want {
		t.Errorf("replace: %v, want %s", err, want)
	}
	if err := files.Remove(path, mine); !errors.Is(err, files.ErrForeign) {
		t.Errorf("remove: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "somebody's\n" {
		t.Errorf("it is %q", text)
	}
	if err := files.Remove(filepath.Join(dir, "none", "a.conf"), mine); err != nil {
		t.Errorf("remove what is not there: %v", err)
	}
}

// Below a directory that another user owns, no link is followed.
func TestReplaceFollowsNoLinkOfOthers(t *testing.T) {
	lab.Need(t, lab.Root)
	const nobody = 65534
	setup := func(t *testing.T) (dir string) {
		dir = t.TempDir()
		write(t, filepath.Join(dir, "ours/x"), "")
		write(t, filepath.Join(dir, "theirs/x"), "")
		os.Chown(filepath.Join(dir, "theirs"), nobody, nobody)
		return dir
	}
	t.Run("root's link", func(t *testing.T) {
		dir := setup(t)
		link(t, "ours", filepath.Join(dir, "link"))
		if err := files.Replace(filepath.Join(dir, "link/a.prom"), nil, nil); err != nil {
			t.Error(err)
		}
		if got := names(t, filepath.Join(dir, "ours")); !slices.Contains(got, "a.prom") {
			t.Errorf("there is %v", got)
		}
	})
	t.Run("root's link, and directories to make", func(t *testing.T) {
		dir := setup(t)
		link(t, "ours", filepath.Join(dir, "link"))
		path := filepath.Join(dir, "link/a/b/c.conf")
		if err := files.Replace(path, nil, nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("replace: %v", err)
		}
		if err := files.Put(path, nil, nil); err != nil {
			t.Error(err)
		}
		if got := names(t, filepath.Join(dir, "ours/a/b")); !slices.Contains(got, "c.conf") {
			t.Errorf("there is %v", got)
		}
	})
	t.Run("in another's directory", func(t *testing.T) {
		dir := setup(t)
		if err := files.Replace(filepath.Join(dir, "theirs/a.prom"), nil, nil); err != nil {
			t.Error(err)
		}
	})
	for name, owner := range map[string]int{"another's link": nobody, "root's link in another's directory": 0} {
		t.Run(name, func(t *testing.T) {
			dir := setup(t)
			at := filepath.Join(dir, "theirs/link")
			link(t, "../ours", at)
			os.Lchown(at, owner, owner)
			err := files.Replace(filepath.Join(at, "a.prom"), nil, nil)
			want := "open " + at + ": it is a link that uid 65534 can change, and is not followed"
			if message(err) != want {
				t.Errorf("%v, want %s", err, want)
			}
			if err := files.Put(filepath.Join(at, "new/a.conf"), nil, nil); message(err) != want {
				t.Errorf("put: %v, want %s", err, want)
			}
			if got := names(t, filepath.Join(dir, "ours")); len(got) != 1 {
				t.Errorf("there is %v", got)
			}
		})
	}
}

func TestAppend(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for range 2 {
		if err := files.Append(path, []byte("x\n")); err != nil {
			t.Fatal(err)
		}
	}
	if text, _ := os.ReadFile(path); string(text) != "x\nx\n" {
		t.Errorf("it is %q", text)
	}
	link(t, path, filepath.Join(dir, "link"))
	syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644)
	for _, name := range []string{"link", "fifo"} {
		if err := files.Append(filepath.Join(dir, name), []byte("x")); err == nil {
			t.Errorf("%s was written to", name)
		}
	}
}

func TestDistrusted(t *testing.T) {
	lab.Need(t, lab.Root)
	path := write(t, filepath.Join(t.TempDir(), "it's"), "")
	for _, tt := range []struct {
		mode         fs.FileMode
		uid          int
		why, command string
	}{
		{0o644, 0, "", ""},
		{0o600, 0, "", ""},
		{0o664, 0, "is writable by its group, who could steer nfguard with it", "chmod g-w"},
		{0o666, 0, "is writable by everyone, who could steer nfguard with it", "chmod go-w"},
		{0o644, 1234, "is owned by uid 1234, who could steer nfguard with it", "chown 0"},
	} {
		os.Chmod(path, tt.mode)
		os.Chown(path, tt.uid, 0)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		why, command := files.Host().Distrusted(path, info)
		if tt.command != "" {
			tt.command += " '" + strings.ReplaceAll(path, "'", `'\''`) + "'"
		}
		if why != tt.why || command != tt.command {
			t.Errorf("%v of %d: %q, %q; want %q, %q", tt.mode, tt.uid, why, command, tt.why, tt.command)
		}
		if why, _ := files.Host().Of(info).Distrusted(path, info); tt.mode == 0o644 && why != "" {
			t.Errorf("its owner is trusted, and yet: %s", why)
		}
	}
}
