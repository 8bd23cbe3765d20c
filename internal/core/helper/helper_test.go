package helper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serving starts a helper on its own socket and returns a client for it.
func serving(t *testing.T, o Options) (c *Client, ended chan error) {
	t.Helper()
	c = &Client{}
	c.Path = filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: c.Path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	socket, err := conn.File()
	conn.Close()
	if err != nil {
		t.Fatal(err)
	}
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan error, 1)
	go func() { ended <- Serve(ctx, socket, o) }()
	t.Cleanup(cancel)
	return c, ended
}

// nothing carries out every request at once, by doing nothing.
func nothing(context.Context, Request) (any, []*os.File, error) { return nil, nil, nil }

// hinted is an error with a next step.
type hinted struct{ error }

func (hinted) Next() string { return "do this" }

func TestAnswers(t *testing.T) {
	var mu sync.Mutex
	var asked []Request
	c, _ := serving(t, Options{Work: func(_ context.Context, r Request) (any, []*os.File, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r)
		if r == WriteSysctls {
			return nil, nil, hinted{errors.New("the disk is full")}
		}
		if r == LoadHook {
			return nil, nil, fmt.Errorf("no BPF: %w", errors.ErrUnsupported)
		}
		return nil, nil, nil
	}})
	if _, err := c.Ask(t.Context(), LoadModule, nil); err != nil || !c.There() {
		t.Errorf("%v, there: %v", err, c.There())
	}
	_, err := c.Ask(t.Context(), WriteSysctls, nil)
	var known interface{ Next() string }
	if err == nil || err.Error() != "the disk is full" || !errors.As(err, &known) || known.Next() != "do this" || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("want the helper's error and next step, got %v", err)
	}
	if _, err := c.Ask(t.Context(), LoadHook, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("want it to be known that trying again does not help, got %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []Request{LoadModule, WriteSysctls, LoadHook}; !slices.Equal(asked, want) {
		t.Errorf("want %q, got %q", want, asked)
	}
}

// TestFiles sends the end of a pipe, and checks that nobody else keeps it.
func TestFiles(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, _ := serving(t, Options{Work: func(context.Context, Request) (any, []*os.File, error) {
		return map[string]int{"ring": 7}, []*os.File{w}, nil
	}})
	var facts struct{ Ring int }
	files, err := c.Ask(t.Context(), LoadHook, &facts)
	if err != nil || facts.Ring != 7 || len(files) != 1 {
		t.Fatalf("want a fact and a file, got %+v, %d files, %v", facts, len(files), err)
	}
	if _, err := files[0].WriteString("x"); err != nil {
		t.Fatal(err)
	}
	files[0].Close()
	if text, err := io.ReadAll(r); string(text) != "x" || err != nil {
		t.Errorf("want the pipe to end with ours, got %q, %v", text, err)
	}
}

func TestNobodyListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	c := &Client{Path: path}
	if _, err := c.Ask(t.Context(), LoadModule, nil); !errors.Is(err, ErrAbsent) || c.There() {
		t.Errorf("no socket: %v, there: %v", err, c.There())
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close() // package net does not remove the file of a datagram socket
	if _, err := c.Ask(t.Context(), LoadModule, nil); !errors.Is(err, ErrAbsent) || c.There() {
		t.Errorf("a socket of nobody: %v, there: %v", err, c.There())
	}
}

func TestSlowHelper(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	c, _ := serving(t, Options{Work: func(context.Context, Request) (any, []*os.File, error) {
		<-release
		return nil, nil, nil
	}})
	c.Timeout = 50 * time.Millisecond
	_, err := c.Ask(t.Context(), LoadModule, nil)
	if err == nil || err.Error() != "nfguard-helper.service has begun to load the module, and does not end" || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	c.Timeout = 0
	if _, err := c.Ask(t.Context(), LoadModule, nil); err == nil || !strings.Contains(err.Error(), "is being worked on") {
		t.Errorf("a second request at the same time: %v", err)
	}
	if _, err := c.Ask(t.Context(), LoadModule, nil); err == nil {
		t.Error("want it to be refused again")
	}
}

// TestDeadHelper: a request waits in a queue that nobody reads.
func TestDeadHelper(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &Client{Path: path, Timeout: 50 * time.Millisecond}
	for range 600 { // enough to fill the queue
		_, err = c.Ask(t.Context(), LoadModule, nil)
		if err == nil || err.Error() != "nfguard-helper.service does not answer" || !errors.Is(err, errors.ErrUnsupported) {
			t.Fatalf("got %v", err)
		}
		c.Timeout = 2 * time.Millisecond
	}
}

// TestEnds: a helper ends when no request comes, but not while it is busy.
func TestEnds(t *testing.T) {
	var busy atomic.Bool
	busy.Store(true)
	c, ended := serving(t, Options{Work: nothing, Idle: 10 * time.Millisecond, Busy: busy.Load})
	time.Sleep(50 * time.Millisecond)
	if _, err := c.Ask(t.Context(), LoadModule, nil); err != nil {
		t.Errorf("while it is busy: %v", err)
	}
	busy.Store(false)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// raw sends a datagram with descriptors, as a hostile client could.
func raw(t testing.TB, path string, b []byte, fds ...int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(fd, b, rights, &unix.SockaddrUnix{Name: path}, 0); err != nil {
		t.Fatal(err)
	}
}

// pair returns a pair of sockets: of the type that clients use, or of another type.
func pair(t testing.TB, kind int) [2]int {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p
}

// TestHostile sends what no client would send. It has no effect, no descriptor is
// kept, and the next client is served.
func TestHostile(t *testing.T) {
	var done atomic.Int32
	var mu sync.Mutex
	var refused []string
	c, _ := serving(t, Options{
		Work: func(context.Context, Request) (any, []*os.File, error) {
			done.Add(1)
			return nil, nil, nil
		},
		Refused: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, err.Error())
		},
	})
	good, err := json.Marshal(message{version, LoadModule})
	if err != nil {
		t.Fatal(err)
	}
	p := pair(t, unix.SOCK_SEQPACKET)
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	before := descriptors(t)
	for range 3 {
		raw(t, c.Path, nil)
		raw(t, c.Path, good) // without a socket for the answer
		raw(t, c.Path, good, int(file.Fd()))
		raw(t, c.Path, good, pair(t, unix.SOCK_STREAM)[0])
		raw(t, c.Path, good, p[0], p[0], p[0], int(file.Fd()))
		raw(t, c.Path, []byte{0xff, 0xfe, 0}, p[0])
		raw(t, c.Path, good[:len(good)-1], p[0])
		raw(t, c.Path, append(slices.Clip(good), good...), p[0])
		raw(t, c.Path, bytes.Repeat([]byte(" "), 100_000), p[0])
		for _, text := range []string{
			`{"version":2,"request":"load the module"}`,
			`{"version":1,"request":"load the module","name":"evil"}`,
			`{"version":1,"request":"write the drop-ins","path":"/etc/cron.d/x"}`,
			`{"version":1,"request":"../../bin/sh"}`,
			`{"version":1,"request":["load the module"]}`,
			`{"version":1}`, `[]`, `null`, `""`, `1e999`, strings.Repeat("[", 120),
		} {
			raw(t, c.Path, []byte(text), p[0])
		}
	}
	if n := done.Load(); n != 0 {
		t.Errorf("%d of them were carried out", n)
	}
	if _, err := c.Ask(t.Context(), LoadModule, nil); err != nil {
		t.Errorf("a client after them: %v", err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		// The test itself keeps the descriptors of pair.
		if now := descriptors(t) - 6; now <= before {
			break
		} else if time.Now().After(deadline) {
			t.Errorf("%d descriptors before, %d after", before, now)
			break
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(refused) != 1 {
		t.Errorf("want one complaint a minute, got %q", refused)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestUID: a pair of sockets of another user is refused. The test needs root.
func TestUID(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	var done atomic.Int32
	c, _ := serving(t, Options{Work: func(context.Context, Request) (any, []*os.File, error) {
		done.Add(1)
		return nil, nil, nil
	}})
	var p [2]int
	asNobody(t, func() { p = pair(t, unix.SOCK_SEQPACKET) })
	good, err := json.Marshal(message{version, LoadModule})
	if err != nil {
		t.Fatal(err)
	}
	raw(t, c.Path, good, p[0])
	if _, err := c.Ask(t.Context(), LoadModule, nil); err != nil {
		t.Error(err)
	}
	if n := done.Load(); n != 1 {
		t.Errorf("want root's request to be carried out and nobody's not, got %d", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, r := range Requests() {
		b, err := json.Marshal(message{version, r})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"version":1,"request":"load the module"}{}`))
	f.Add([]byte(`{"Version":1,"REQUEST":"load the module"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			if r != "" {
				t.Errorf("%q: an error, and yet %q", b, r)
			}
			return
		}
		if !slices.Contains(Requests(), r) || len(b) > maxRequest {
			t.Errorf("%q: parsed as %q", b, r)
		}
	})
}

// FuzzDecode reads answers, which normally come from a process with more rights.
func FuzzDecode(f *testing.F) {
	f.Add(encode(map[string]int{"ring": 4096}, nil))
	f.Add(encode(nil, hinted{errors.New("it hangs")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		facts, err := decode(b)
		if err == nil && len(facts) > len(b) {
			t.Errorf("%q: more facts than there are bytes", b)
		}
	})
}

func TestEncodeIsBounded(t *testing.T) {
	for _, err := range []error{
		errors.New(strings.Repeat("\x00", 1<<20)),
		hinted{errors.New("")},
	} {
		b := encode(nil, err)
		if len(b) > maxAnswer {
			t.Errorf("an answer of %d bytes", len(b))
		}
		if _, err := decode(b); err == nil {
			t.Errorf("%.40q: the error was lost", b)
		}
	}
	if _, err := decode(encode(strings.Repeat("x", maxAnswer), nil)); err == nil || err.Error() != "the answer is too long" {
		t.Errorf("got %v", err)
	}
}
