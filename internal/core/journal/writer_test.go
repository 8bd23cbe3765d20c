package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nfguard/nfguard/internal/core/chain"
	"github.com/nfguard/nfguard/internal/core/record"
	"golang.org/x/sys/unix"
)

// lastLink is the end of a chain.
var lastLink = chain.Link{ID: "BOOT", Sequence: 7, Digest: strings.Repeat("0", 32)}

// first is the first record after that.
func first(e record.Event) []Field {
	fields, _ := linked(lastLink, Fields(e))
	return fields
}

// TestWriterLinks: each record that the journal has taken says which one came before it,
// and the daemon that is started next goes on from there.
func TestWriterLinks(t *testing.T) {
	j := listen(t, socketPath(t))
	var mu sync.Mutex
	var ends []chain.Link
	end := func() chain.Link {
		mu.Lock()
		defer mu.Unlock()
		return ends[len(ends)-1]
	}
	options := Options{Socket: j.path, Fallback: new(buffer), Linked: func(l chain.Link) {
		mu.Lock()
		defer mu.Unlock()
		ends = append(ends, l)
	}}
	id, previous := "", ""
	for run := range 2 {
		w := Open(options)
		stop := start(t, w)
		slog.New(w.Handler(nil)).Info("a line of the log is no link")
		j.next(t)
		for i := range 3 {
			w.Record(numbered(i))
			got := j.next(t)
			if id == "" {
				id = value(got, chain.ID)
			}
			want := []string{id, strconv.Itoa(3*run + i + 1), previous}
			if link := []string{value(got, chain.ID), value(got, chain.Sequence), value(got, chain.Previous)}; !slices.Equal(link, want) || id == "" {
				t.Errorf("%q; want %q", link, want)
			}
			record := make([]chain.Field, len(got))
			for i, f := range got {
				record[i] = chain.Field(f)
			}
			previous = chain.Digest(record)
		}
		stop()
		if l := end(); !l.Valid() || l != (chain.Link{ID: id, Sequence: uint64(3*run + 3), Digest: previous}) {
			t.Errorf("it ends with %+v", l)
		}
		options.Last = end()
	}
}

func TestWriterKeepsTheOrder(t *testing.T) {
	j := listen(t, socketPath(t))
	w := Open(Options{Socket: j.path, Fallback: new(buffer), Last: lastLink})
	start(t, w)
	log := slog.New(w.Handler(nil))

	w.Record(drift())
	log.Info("in between", "n", 1)
	w.Record(numbered(2))

	if diff := cmp.Diff(first(drift()), j.next(t)); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{"in between n=1", "2"} {
		if got := value(j.next(t), FieldMessage); got != want {
			t.Errorf("want %q, got %q", want, got)
		}
	}
}

// TestWriterWithoutReader fills the queue of a journald that is stopped:
// nobody waits, the oldest records are kept, and what is lost is counted.
func TestWriterWithoutReader(t *testing.T) {
	j := listen(t, socketPath(t))
	log := new(buffer)
	w := Open(Options{Socket: j.path, Fallback: log})
	start(t, w)

	const records = 1000
	begin := time.Now()
	for i := range records {
		w.Record(numbered(i))
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("Record made its caller wait: %v for %d records", d, records)
	}
	time.Sleep(2 * attemptTime) // some attempts time out

	// In their order, with a gap wherever the queue was full; the first ones
	// had room.
	last := -1
	for n := 0; ; n++ {
		got := j.next(t)
		if value(got, FieldEvent) != string(eventLost) {
			number, err := strconv.Atoi(value(got, FieldMessage))
			if err != nil || number <= last || n < queueLen && number != n {
				t.Fatalf("record %d is %v, after %d", n, got, last)
			}
			last = number
			continue
		}
		lost := records - n
		if n < queueLen || lost < 1 {
			t.Errorf("%d records came through, at least %d were queued", n, queueLen)
		}
		if want, got := fmt.Sprintf("%d records were lost: the journal did not take them in time", lost), value(got, FieldMessage); got != want {
			t.Errorf("want %q, got %q", want, got)
		}
		if want, got := strconv.Itoa(lost), value(got, FieldSuppressed); got != want {
			t.Errorf("want %s lost, got %s", want, got)
		}
		break
	}
	log.wait(t, `level=WARN msg="the journal takes no records" error="send to `+j.path+`: resource temporarily unavailable"`,
		`level=INFO msg="the journal takes records again"`)
}

func TestWriterSurvivesRestartOfJournald(t *testing.T) {
	j := listen(t, socketPath(t))
	log := new(buffer)
	w := Open(Options{Socket: j.path, Fallback: log})
	start(t, w)
	w.Record(numbered(0))
	j.next(t)

	j.conn.Close()
	if err := os.Remove(j.path); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 50; i++ {
		w.Record(numbered(i))
	}
	log.wait(t, `error="send to `+j.path+`: no such file or directory"`)

	j = listen(t, j.path)
	for i := 1; i < 50; i++ {
		if want, got := strconv.Itoa(i), value(j.next(t), FieldMessage); got != want {
			t.Fatalf("want record %s, got %s", want, got)
		}
	}
	log.wait(t, `msg="the journal takes records again"`)
	if n := strings.Count(log.String(), "no such file"); n != 1 {
		t.Errorf("want the same complaint once, got it %d times", n)
	}
}

func TestWriterPassesLargeRecordsInAFile(t *testing.T) {
	j := listen(t, socketPath(t))
	w := Open(Options{Socket: j.path, Fallback: new(buffer), Last: lastLink})
	start(t, w)
	e := numbered(1)
	e.Err = errors.New(strings.Repeat("a long story\n", 1<<16))
	w.Record(e)
	if diff := cmp.Diff(first(e), j.next(t)); diff != "" {
		t.Error(diff)
	}
	const want = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if j.seals&want != want {
		t.Errorf("journald must be able to trust the file: want seals %#x, got %#x", want, j.seals)
	}
}

func TestWriterStops(t *testing.T) {
	t.Run("what is queued is sent", func(t *testing.T) {
		j := listen(t, socketPath(t))
		w := Open(Options{Socket: j.path, Fallback: new(buffer)})
		for i := range 5 {
			w.Record(numbered(i))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
		for i := range 5 {
			if want, got := strconv.Itoa(i), value(j.next(t), FieldMessage); got != want {
				t.Errorf("want record %s, got %s", want, got)
			}
		}
	})
	t.Run("in time, although nobody reads", func(t *testing.T) {
		j := listen(t, socketPath(t))
		w := Open(Options{Socket: j.path, Fallback: new(buffer)})
		for i := range queueLen + 1 {
			w.Record(numbered(i))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begin := time.Now()
		err := w.Run(ctx)
		if d := time.Since(begin); d < drainTime || d > 2*drainTime {
			t.Errorf("want an end after %v, got it after %v", drainTime, d)
		}
		taken := j.pending(t)
		want := fmt.Sprintf("%d records were lost: the journal did not take them in time", queueLen+1-taken)
		if err == nil || err.Error() != want {
			t.Errorf("want %q, got %v", want, err)
		}
	})
}

func TestWriterWithoutJournal(t *testing.T) {
	j := listen(t, socketPath(t))
	tests := []struct {
		name    string
		options Options
	}{
		{"no socket", Options{Socket: socketPath(t), Last: lastLink}},
		{"told so", Options{Socket: j.path, Plain: true, Sync: true, Last: lastLink}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := new(buffer)
			tt.options.Fallback = out
			w := Open(tt.options)
			w.Record(record.Event{Kind: record.KindDrift, Outcome: record.Corrected, Message: "put right", Subject: "net.ipv4.ip_forward"})
			slog.New(w.Handler(slog.LevelDebug)).Debug("looked", "keys", 3)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
			event, line, _ := strings.Cut(out.String(), "\n")
			want := `{"MESSAGE":"put right","MESSAGE_ID":"4f513955a72e451957e0c1036a86391a","PRIORITY":"4","SYSLOG_IDENTIFIER":"nfguard",` +
				`"NFGUARD_EVENT":"drift","NFGUARD_OUTCOME":"corrected","NFGUARD_SUBJECT":"net.ipv4.ip_forward","SYSCTL":"/proc/sys/net/ipv4/ip_forward",` +
				`"NFGUARD_CHAIN":"BOOT","NFGUARD_SEQUENCE":"8","NFGUARD_PREVIOUS":"00000000000000000000000000000000"}`
			if event != want {
				t.Errorf("want %s\n got %s", want, event)
			}
			if want := "level=DEBUG msg=looked keys=3\n"; !strings.HasSuffix(line, want) {
				t.Errorf("want …%q, got %q", want, line)
			}
		})
	}
	t.Run("stderr is closed", func(t *testing.T) {
		w := Open(Options{Plain: true, Fallback: broken{}})
		w.Record(numbered(1))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		want := "1 record was lost: the journal did not take it in time"
		if err := w.Run(ctx); err == nil || err.Error() != want {
			t.Errorf("want %q, got %v", want, err)
		}
	})
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, unix.EPIPE }

func BenchmarkRecord(b *testing.B) {
	w := Open(Options{Plain: true})
	w.journal = &socket{} // the native encoding; the queue is full soon, and Record as slow as ever
	b.ReportAllocs()
	for b.Loop() {
		w.Record(drift())
	}
}

func numbered(n int) record.Event {
	return record.Event{Kind: record.KindDrift, Outcome: record.Corrected, Message: strconv.Itoa(n)}
}

func value(fs []Field, name string) string {
	for _, f := range fs {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// start runs w until the end of the test.
func start(t *testing.T, w *Writer) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// journald is its native socket, read only when a test asks.
type journald struct {
	path  string
	conn  *net.UnixConn
	seals int // of the last record that came in a file
}

// socketPath is short enough for an address, which t.TempDir is not always.
func socketPath(t *testing.T) string {
	dir, err := os.MkdirTemp("", "nfguard")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "socket")
}

func listen(t *testing.T, path string) *journald {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &journald{path: path, conn: conn}
}

// next waits for a record and parses it.
func (j *journald) next(t *testing.T) []Field {
	t.Helper()
	fs, err := j.read(5 * time.Second)
	if err != nil {
		t.Fatalf("no record: %v", err)
	}
	return fs
}

// pending reads what is queued and returns how many records it was.
func (j *journald) pending(t *testing.T) int {
	t.Helper()
	for n := 0; ; n++ {
		if _, err := j.read(100 * time.Millisecond); errors.Is(err, os.ErrDeadlineExceeded) {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func (j *journald) read(timeout time.Duration) ([]Field, error) {
	if err := j.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	b, oob := make([]byte, 1<<20), make([]byte, 64)
	n, oobn, _, _, err := j.conn.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	if n > 0 {
		return parse(b[:n])
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "record")
	defer f.Close()
	if j.seals, err = unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil {
		return nil, err
	}
	// The descriptor shares its offset with the sender's, which is at the end.
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b = make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, err
	}
	return parse(b)
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// wait waits until b contains each of wants.
func (b *buffer) wait(t *testing.T, wants ...string) {
	t.Helper()
	for _, want := range wants {
		for end := time.Now().Add(5 * time.Second); !strings.Contains(b.String(), want); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("want %s in the log, got:\n%s", want, b)
			}
		}
	}
}
