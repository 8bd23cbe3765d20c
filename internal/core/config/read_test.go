package config

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

func TestCheckBadFiles(t *testing.T) {
	const notText = `/f:1: is not UTF-8 text (hint: is it the right file? save it as UTF-8)`
	const deep = `nests tables too deeply (hint: a key has two parts at most: a [table] on a line of its own, its keys below)`
	tests := map[string]struct {
		make func(t *testing.T, name string) error
		want string
	}{
		"missing": {
			make: func(*testing.T, string) error { return nil },
			want: `/f: cannot be read: no such file or directory (hint: is the name right? without any file the defaults apply: nfguard config show)`,
		},
		"empty": {
			make: func(_ *testing.T, name string) error { return os.WriteFile(name, nil, 0o644) },
		},
		"a directory": {
			make: func(_ *testing.T, name string) error { return os.Mkdir(name, 0o755) },
			want: `/f: is a directory, not a regular file (hint: put the settings into a regular file)`,
		},
		"a fifo that nobody writes to": {
			make: func(_ *testing.T, name string) error { return unix.Mkfifo(name, 0o644) },
			want: `/f: is a FIFO, not a regular file (hint: put the settings into a regular file)`,
		},
		"a link to itself": {
			make: func(_ *testing.T, name string) error { return os.Symlink(name, name) },
			want: `/f: cannot be read: too many levels of symbolic links (hint: see what it is: ls -ld /f)`,
		},
		"writable by everyone": {
			make: func(_ *testing.T, name string) error {
				return writeMode(name, "mode = 1\n", 0o646)
			},
			want: `/f: is writable by everyone, who could steer nfguard with it (hint: chmod go-w /f)`,
		},
		"64 KiB": {
			make: func(_ *testing.T, name string) error {
				return os.WriteFile(name, bytes.Repeat([]byte("\n"), maxSize), 0o644)
			},
		},
		"more than 64 KiB": {
			make: func(_ *testing.T, name string) error {
				return os.WriteFile(name, bytes.Repeat([]byte("\n"), maxSize+1), 0o644)
			},
			want: `/f: is larger than 64 KiB (hint: is it the right file? nfguard.toml has a few KiB)`,
		},
		"1 MiB of noise": {
			make: func(_ *testing.T, name string) error { return os.WriteFile(name, noise(1<<20), 0o644) },
			want: `/f: is larger than 64 KiB (hint: is it the right file? nfguard.toml has a few KiB)`,
		},
		"a key of a thousand parts": {
			make: func(_ *testing.T, name string) error {
				return os.WriteFile(name, []byte("\n"+strings.Repeat(`"a" . `, 999)+"a = 1\n"), 0o644)
			},
			want: `/f:2: ` + deep,
		},
		"a thousand tables in braces": {
			make: func(_ *testing.T, name string) error {
				return os.WriteFile(name, []byte("\n\na = "+strings.Repeat("{a = ", 1000)+"1"+strings.Repeat("}", 1000)), 0o644)
			},
			want: `/f:3: ` + deep,
		},
		"dots in a comment": {
			make: func(_ *testing.T, name string) error {
				return os.WriteFile(name, []byte("# "+strings.Repeat(". ", 99)+strings.Repeat(".", 99)+"\n"), 0o644)
			},
		},
		"a little noise": {
			make: func(_ *testing.T, name string) error { return os.WriteFile(name, noise(1<<10), 0o644) },
			want: notText,
		},
		"invalid UTF-8 in a comment": {
			make: func(_ *testing.T, name string) error {
				return os.WriteFile(name, []byte("\n# caf\xe9\nmode = 1\n"), 0o644)
			},
			want: strings.Replace(notText, ":1:", ":2:", 1),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := tt.make(t, root+"/f"); err != nil {
				t.Fatal(err)
			}
			diff(t, "error", tt.want, message(Check(root+"/f"), root))
		})
	}
}

func TestCheckUnreadableFile(t *testing.T) {
	root := tree(t, map[string]string{"f": ""})
	if err := os.Chmod(root+"/f", 0); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		// Root can read everything, so access files as another user. The thread
		// is never unlocked, and so ends with this goroutine.
		runtime.LockOSThread()
		_ = unix.Setfsuid(65534)
		got <- message(Check(root+"/f"), root)
	}()
	diff(t, "error",
		`/f: cannot be read: permission denied (hint: run nfguard as root, or give the file to its user)`, <-got)
}

func TestLoadBadPlaces(t *testing.T) {
	tests := map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"the directory is missing": {
			spoil: os.RemoveAll,
		},
		"the directory is writable by everyone": {
			spoil: func(dir string) error { return os.Chmod(dir, 0o777) },
			want:  `/etc/nfguard: is writable by everyone, who could steer nfguard with it (hint: chmod go-w /etc/nfguard)`,
		},
		"conf.d is writable by everyone": {
			spoil: func(dir string) error { return os.Chmod(dir+"/conf.d", 0o777) },
			want:  `/etc/nfguard/conf.d: is writable by everyone, who could steer nfguard with it (hint: chmod go-w /etc/nfguard/conf.d)`,
		},
		"conf.d is writable by everyone, like /tmp": {
			spoil: func(dir string) error { return os.Chmod(dir+"/conf.d", 0o777|os.ModeSticky) },
			want:  `/etc/nfguard/conf.d: is writable by everyone, who could steer nfguard with it (hint: chmod go-w /etc/nfguard/conf.d)`,
		},
		"conf.d is a file": {
			spoil: func(dir string) error {
				return writeMode(dir+"/conf.d", "", 0o644)
			},
			want: `/etc/nfguard/conf.d: cannot be read: not a directory (hint: see what it is: ls -ld /etc/nfguard/conf.d)`,
		},
		"conf.d is a link that leads nowhere": {
			spoil: func(dir string) error {
				return errors.Join(os.RemoveAll(dir+"/conf.d"), os.Symlink("nowhere", dir+"/conf.d"))
			},
			want: `/etc/nfguard/conf.d: cannot be read: no such file or directory (hint: is the name right? without any file the defaults apply: nfguard config show)`,
		},
		"the file is a link that leads nowhere": {
			spoil: func(dir string) error { return os.Symlink("nowhere", dir+"/nfguard.toml") },
			want:  `/etc/nfguard/nfguard.toml: cannot be read: no such file or directory (hint: is the name right? without any file the defaults apply: nfguard config show)`,
		},
		"a drop-in is a directory, another writable by everyone": {
			spoil: func(dir string) error {
				if err := os.Mkdir(dir+"/conf.d/a.toml", 0o755); err != nil {
					return err
				}
				return writeMode(dir+"/conf.d/b.toml", "", 0o666)
			},
			want: lines(
				`/etc/nfguard/conf.d/a.toml: is a directory, not a regular file (hint: put the settings into a regular file)`,
				`/etc/nfguard/conf.d/b.toml: is writable by everyone, who could steer nfguard with it (hint: chmod go-w /etc/nfguard/conf.d/b.toml)`,
			),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := tree(t, map[string]string{"/etc/nfguard/conf.d/README": ""})
			if err := tt.spoil(filepath.Join(root, "/etc/nfguard")); err != nil {
				t.Fatal(err)
			}
			_, _, err := Load(root, mainFile)
			diff(t, "error", tt.want, message(err, root))
		})
	}
}

// The owner of the tree can change everything in it and is trusted; otherwise only
// root is.
func TestLoadOwners(t *testing.T) {
	lab.Need(t, lab.Root) // only root can change the owner of a file
	const alice, bob = 1001, 1002
	tests := map[string]struct {
		owner, tree int
		mode        os.FileMode
		want        string
	}{
		"root's in root's tree":       {0, 0, 0o644, ""},
		"alice's in alice's tree":     {alice, alice, 0o644, ""},
		"root's in alice's tree":      {0, alice, 0o600, ""},
		"bob's in alice's tree":       {bob, alice, 0o644, "is owned by uid 1002, who could steer nfguard with it (hint: chown 1001 PATH)"},
		"alice's in root's tree":      {alice, 0, 0o644, "is owned by uid 1001, who could steer nfguard with it (hint: chown 0 PATH)"},
		"root's, writable by a group": {0, 0, 0o664, "is writable by its group, who could steer nfguard with it (hint: chmod g-w PATH)"},
	}
	for name, tt := range tests {
		for _, place := range []string{"/etc/nfguard", "/etc/nfguard/nfguard.toml", "/etc/nfguard/conf.d", "/etc/nfguard/conf.d/a.toml"} {
			t.Run(name+" "+place, func(t *testing.T) {
				root := tree(t, map[string]string{mainFile: "", "/etc/nfguard/conf.d/a.toml": ""})
				path := root + place
				mode := tt.mode
				if info, err := os.Stat(path); err == nil && info.IsDir() {
					mode |= 0o111
				}
				for _, err := range []error{os.Chown(path, tt.owner, 0), os.Chmod(path, mode), os.Chown(root, tt.tree, 0)} {
					if err != nil {
						t.Fatal(err)
					}
				}
				want := tt.want
				if want != "" {
					want = place + ": " + strings.ReplaceAll(want, "PATH", place)
				}
				_, _, err := Load(root, mainFile)
				diff(t, "in a tree", want, message(err, root))
				if tt.tree == 0 {
					_, _, err = Load("", root+mainFile)
					diff(t, "of the host", want, message(err, root))
				}
			})
		}
	}
}

// writeMode replaces a file by one with exactly that mode, whatever the umask.
func writeMode(name, text string, mode os.FileMode) error {
	if err := os.RemoveAll(name); err != nil {
		return err
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

// noise returns the same n random bytes each time.
func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
