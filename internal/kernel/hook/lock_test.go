package hook

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// outcome is what a write returned and what the sysctl is afterwards.
func outcome(t testing.TB, fd int, text string) string {
	t.Helper()
	n, err := put(fd, text)
	var errno unix.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno) + " " + get(t, fd)
	}
	return fmt.Sprintf("%d/%d %s", n, len(text), get(t, fd))
}

// written is a text, the value that the sysctl has before it is written without the
// hook, and what comes of it without the hook and by its answers.
type written struct{ text, before, free, refuse, rewrite string }

// judges writes a text without the hook, and with each answer of the hook, which guards
// a value.
func (r *room) judges(fd int, guarded string, c *written) {
	r.t.Helper()
	for _, step := range []struct {
		answer       Answer
		before, want string
	}{{Observe, c.before, c.free}, {Refuse, guarded, c.refuse}, {Rewrite, guarded, c.rewrite}} {
		if step.answer == Rewrite && !r.found.rewrites {
			continue
		}
		r.SetAnswer(Observe)
		if _, err := put(fd, step.before); err != nil {
			r.t.Fatal(err)
		}
		r.SetAnswer(step.answer)
		if got := outcome(r.t, fd, c.text); got != step.want {
			r.t.Errorf("%.40q, answer %d: want %s, got %s", c.text, step.answer, step.want, got)
		}
	}
}

// What the kernel makes of a text without the hook (the sysctl has the opposite
// value before), and what it makes of it with the hook guarding 1.
func TestValues(t *testing.T) {
	r := locked(t, nil, Use{Limit: 1e6}, Observe)
	fd := r.open(ipTables)
	long := strings.Repeat(" ", 100)
	for _, c := range []written{
		{"0", "1", "1/1 0", "EPERM 1", "1/1 1"},
		{"0\n", "1", "2/2 0", "EPERM 1", "2/2 1"},
		{"00", "1", "2/2 0", "EPERM 1", "2/2 1"},
		{" 0", "1", "2/2 0", "EPERM 1", "2/2 1"},
		{"-0", "1", "2/2 0", "EPERM 1", "2/2 1"},
		{"0x0", "1", "3/3 0", "EPERM 1", "3/3 0"},
		{"\t0\n", "1", "3/3 0", "EPERM 1", "3/3 0"},
		{"0 1", "1", "2/3 0", "EPERM 1", "2/3 0"},
		{long + "0", "1", "101/101 0", "EPERM 1", "101/101 0"},
		{"0" + long, "1", "101/101 0", "EPERM 1", "101/101 0"},
		{strings.Repeat("0", 20), "1", "20/20 0", "EPERM 1", "20/20 0"},

		{"1", "0", "1/1 1", "1/1 1", "1/1 1"},
		{"2", "0", "1/1 1", "1/1 1", "1/1 1"},
		{"255", "0", "3/3 1", "3/3 1", "3/3 1"},
		{"01", "0", "2/2 1", "2/2 1", "2/2 1"},
		{"0x1", "0", "3/3 1", "3/3 1", "3/3 1"},
		{" 1", "0", "2/2 1", "2/2 1", "2/2 1"},
		{"-1", "0", "2/2 1", "2/2 1", "2/2 1"},
		{"-2147483648", "0", "11/11 1", "11/11 1", "11/11 1"},
		{"1 0", "0", "2/3 1", "2/3 1", "2/3 1"},
		{"1" + long, "0", "101/101 1", "101/101 1", "101/101 1"},
		// The program cannot look beyond so many blanks: refused, though it is a 1.
		{long + "1", "0", "101/101 1", "EPERM 1", "101/101 1"},

		// Text that the kernel does not accept stays EINVAL, unless it begins like a zero.
		{"+1", "1", "EINVAL 1", "EINVAL 1", "EINVAL 1"},
		{"abc", "1", "EINVAL 1", "EINVAL 1", "EINVAL 1"},
		{"1abc", "1", "EINVAL 1", "EINVAL 1", "EINVAL 1"},
		{"\n", "1", "EINVAL 1", "EINVAL 1", "EINVAL 1"},
		{"2147483648", "1", "EINVAL 1", "EINVAL 1", "EINVAL 1"},
		{"4294967296", "1", "EINVAL 1", "EINVAL 1", "EINVAL 1"},
		{"18446744073709551616", "1", "EINVAL 1", "EINVAL 1", "EINVAL 1"},
		{"\x000", "1", "EINVAL 1", "EINVAL 1", "EINVAL 1"},
		{"08", "1", "EINVAL 1", "EPERM 1", "2/2 1"},
		{"0abc", "1", "EINVAL 1", "EPERM 1", "EINVAL 1"},
		{"0,1", "1", "EINVAL 1", "EPERM 1", "EINVAL 1"},
		{strings.Repeat("0", 30), "1", "EINVAL 1", "EPERM 1", "EINVAL 1"},
		{"", "1", "0/0 1", "0/0 1", "0/0 1"},
	} {
		r.judges(fd, "1", &c)
	}
}

// The same with the hook guarding 0: every number but zero is foreign.
func TestValuesAtZero(t *testing.T) {
	r := locked(t, []Key{{Path: ipTables, Want: "0"}}, Use{Limit: 1e6}, Observe)
	fd := r.open(ipTables)
	long := strings.Repeat(" ", 100)
	for _, c := range []written{
		{"1", "0", "1/1 1", "EPERM 0", "1/1 0"},
		{"1\n", "0", "2/2 1", "EPERM 0", "2/2 0"},
		{"2", "0", "1/1 1", "EPERM 0", "1/1 0"},
		{"01", "0", "2/2 1", "EPERM 0", "2/2 0"},
		{" 1", "0", "2/2 1", "EPERM 0", "2/2 0"},
		{"-1", "0", "2/2 1", "EPERM 0", "2/2 0"},
		{"0x1", "0", "3/3 1", "EPERM 0", "3/3 1"},
		{"255", "0", "3/3 1", "EPERM 0", "3/3 1"},
		{"1 0", "0", "2/3 1", "EPERM 0", "2/3 1"},
		{long + "1", "0", "101/101 1", "EPERM 0", "101/101 1"},

		{"0", "1", "1/1 0", "1/1 0", "1/1 0"},
		{"00", "1", "2/2 0", "2/2 0", "2/2 0"},
		{"-0\n", "1", "3/3 0", "3/3 0", "3/3 0"},
		{"0x0", "1", "3/3 0", "3/3 0", "3/3 0"},
		{"0 1", "1", "2/3 0", "2/3 0", "2/3 0"},
		// The program cannot look beyond so many blanks: refused, though it is a 0.
		{long + "0", "1", "101/101 0", "EPERM 0", "101/101 0"},

		{"abc", "1", "EINVAL 1", "EINVAL 0", "EINVAL 0"},
		{"", "1", "0/0 1", "0/0 0", "0/0 0"},
	} {
		r.judges(fd, "0", &c)
	}
}

// Other system calls that write are seen too.
func TestWaysToWrite(t *testing.T) {
	r := locked(t, nil, Use{}, Refuse)
	fd := r.open(ipTables)
	ways := map[string]func() error{
		"pwrite beyond the beginning": func() error { _, err := unix.Pwrite(fd, []byte("0"), 1); return err },
		"writev":                      func() error { _, err := unix.Writev(fd, [][]byte{[]byte("0"), []byte("\n")}); return err },
		"splice": func() error {
			var p [2]int
			if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
				return nil
			}
			defer unix.Close(p[0])
			_, _ = unix.Write(p[1], []byte("0\n"))
			unix.Close(p[1])
			_, err := unix.Splice(p[0], nil, fd, nil, 2, 0)
			return err
		},
		"append": func() (err error) {
			r.Do(func() {
				f, e := os.OpenFile(victim, os.O_WRONLY|os.O_APPEND, 0)
				if e != nil {
					return
				}
				defer f.Close()
				_, err = f.WriteString("0\n")
			})
			return err
		},
	}
	for name, write := range ways {
		if err := write(); !errors.Is(err, unix.EPERM) || get(t, fd) != "1" {
			t.Errorf("%s: %v, value %s", name, err, get(t, fd))
		}
	}
}

// The sysctl's namespace counts, not the writer's: a descriptor can be passed on.
func TestPassedDescriptors(t *testing.T) {
	r, other := locked(t, nil, Use{}, Refuse), lab.NewNamespace(t)
	ours := r.open(ipTables)
	theirs := -1
	other.Do(func() { theirs, _ = unix.Open(victim, unix.O_RDWR|unix.O_CLOEXEC, 0) })
	defer unix.Close(theirs)
	other.Do(func() {
		if _, err := put(ours, "0"); !errors.Is(err, unix.EPERM) {
			t.Errorf("ours, written by a task in another namespace: %v", err)
		}
	})
	r.Do(func() {
		if _, err := put(theirs, "0"); err != nil {
			t.Errorf("another's, written by a task in ours: %v", err)
		}
	})
	if got := get(t, ours) + get(t, theirs); got != "10" {
		t.Errorf("values %s, want 10", got)
	}
	want := []string{`bridge-nf-call-iptables "1"→"0" refused by hook.test`}
	if diff := cmp.Diff(want, told(r.news(time.Second))); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if len(other.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-ip6tables=0")) != 0 {
		t.Error("another namespace is locked too")
	}
}

// all is the number of all writes: those that were reported, and the rest.
func (r *room) all(t testing.TB) (n uint64) {
	t.Helper()
	for {
		before := n
		if err := r.Read(func(Write) { n++ }); err != nil {
			t.Fatal(err)
		}
		r.Missed(func(m Missed) { n += m.N })
		if n == before {
			return n
		}
	}
}

func TestLockHolds(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer Answer
	}{{"refuse", Refuse}, {"rewrite", Rewrite}} {
		t.Run(c.name, func(t *testing.T) {
			r := locked(t, nil, Use{}, c.answer)
			fd := r.open(ipTables)
			var stop atomic.Bool
			reads, zeroes := 0, 0
			done := make(chan struct{})
			go func() {
				defer close(done)
				var b [2]byte
				for !stop.Load() {
					if n, err := unix.Pread(fd, b[:], 0); err != nil || n != 2 || b[0] != '1' {
						zeroes++
					}
					reads++
				}
			}()
			spellings := [][]byte{[]byte("0"), []byte("0\n"), []byte("00"), []byte(" 0"), []byte("-0")}
			if c.answer == Refuse { // whatever the length
				spellings = append(spellings, []byte("0x0"), []byte("0 1"))
			}
			n, passed, began := int(1e6), 0, time.Now()
			for i := range n {
				if _, err := unix.Pwrite(fd, spellings[i%len(spellings)], 0); err == nil {
					passed++
				}
			}
			took := time.Since(began)
			stop.Store(true)
			<-done
			if zeroes != 0 || reads == 0 {
				t.Errorf("%d of %d reads were not 1", zeroes, reads)
			}
			if (c.answer == Refuse) != (passed == 0) {
				t.Errorf("%d writes succeeded", passed)
			}
			told := r.all(t)
			if told != uint64(n) {
				t.Errorf("%d of %d writes are accounted for", told, n)
			}
			t.Logf("%d writes (%d with success) of %v each, %d reads, none of 0", n, passed, took/time.Duration(n), reads)
		})
	}
}
