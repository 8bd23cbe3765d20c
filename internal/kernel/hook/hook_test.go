package hook

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

const (
	ipTables  = "net/bridge/bridge-nf-call-iptables"
	ip6Tables = "net/bridge/bridge-nf-call-ip6tables"
)

var bridgeKeys = []Key{{ipTables, "1"}, {ip6Tables, "1"}}

func TestMain(m *testing.M) {
	if role := os.Getenv("NFGUARD_TEST_ROLE"); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

// room is a network namespace with a hook on its sysctls. Both end with the test.
type room struct {
	*lab.Namespace
	*Hook
	t     testing.TB
	inode uint32
}

// newRoom returns a room whose hook was loaded by load. Without keys it guards
// those of br_netfilter.
func newRoom(t testing.TB, keys []Key, u Use, load func(Options) (*Loaded, error)) *room {
	t.Helper()
	r := &room{Namespace: lab.NewNamespace(t), t: t}
	r.Do(func() { r.inode, _ = netnsInode() })
	if u.Netns == 0 {
		u.Netns = r.inode
	}
	if keys == nil {
		keys = bridgeKeys
	}
	l, err := load(Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	if r.Hook, err = Open(l, u); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// locked returns a room in which foreign values are answered by a.
func locked(t testing.TB, keys []Key, u Use, a Answer) *room {
	t.Helper()
	u.Answer = a
	r := newRoom(t, keys, u, Load)
	if a == Rewrite && !r.Rewrites() {
		t.Skip("this kernel drops what a program puts in place of a value") // most kernels from 5.18 to 2026
	}
	if r.Answer() != a {
		t.Fatalf("the answer is %d, not %d: %s", r.Answer(), a, r.How())
	}
	return r
}

// attach loads a hook and opens it.
func attach(keys []Key, u Use) (*Hook, error) {
	l, err := Load(Options{Keys: keys})
	if err != nil {
		return nil, err
	}
	return Open(l, u)
}

// open opens a sysctl of the room.
func (r *room) open(path string) int {
	r.t.Helper()
	fd, err := -1, error(nil)
	r.Do(func() { fd, err = unix.Open("/proc/sys/"+path, unix.O_RDWR|unix.O_CLOEXEC, 0) })
	if err != nil {
		r.t.Fatalf("open %s: %v", path, err)
	}
	r.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// get returns the value of an open sysctl, without its newline.
func get(t testing.TB, fd int) string {
	t.Helper()
	var b [64]byte
	n, err := unix.Pread(fd, b[:], 0)
	if err != nil || n == 0 {
		t.Fatalf("read: %d, %v", n, err)
	}
	return string(b[:n-1])
}

// put writes to an open sysctl.
func put(fd int, value string) (int, error) { return unix.Pwrite(fd, []byte(value), 0) }

// news waits until writes can be read, and returns them.
func (r *room) news(wait time.Duration) (all []Write) {
	r.t.Helper()
	fds := []unix.PollFd{{Fd: int32(r.FD()), Events: unix.POLLIN}}
	for deadline := time.Now().Add(wait); ; {
		n, err := unix.Poll(fds, max(0, int(time.Until(deadline).Milliseconds())))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			r.t.Fatal(err)
		}
		if n == 0 {
			return all
		}
		if err := r.Read(func(w Write) { all = append(all, w) }); err != nil {
			r.t.Fatal(err)
		}
		deadline = time.Now() // all the rest is there already
	}
}

func (w Write) summary() string {
	verdict := [...]string{Allowed: "allowed", Refused: "refused", Rewritten: "rewritten"}[w.Verdict]
	return fmt.Sprintf("%s %q→%q %s by %s", filepath.Base(w.Path), w.Old, w.New, verdict, w.Comm)
}

// told is the summaries of ws.
func told(ws []Write) (lines []string) {
	for _, w := range ws {
		lines = append(lines, w.summary())
	}
	return lines
}
