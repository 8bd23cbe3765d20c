// Package journal writes the audit record: every [record.Event] becomes one
// native entry of the systemd journal, and so does every line of the log.
// Where there is no journal, events are lines of JSON and the log is text,
// on stderr. Nothing is read back here; journalctl and `nfguard events` do
// that.
//
// Entries are not sent by go-systemd's journal.Send, for the goroutine that
// makes a pass must never wait for journald. Send writes to an unconnected
// datagram socket, without a deadline. While journald is stopped or slow and
// its queue is full (net.unix.max_dgram_qlen), a write ends in EAGAIN and
// frees its buffer; that wakes the writer's own poll, and unix_dgram_poll
// counts an unconnected socket as writable whatever its receiver's queue:
// the call spins until there is room. Measured on Linux 6.18: 1.1 s of CPU
// per second. A blocking socket of our own with a timeout waits in the kernel
// instead, behind a queue. It is not connected, since the daemon's sandbox
// forbids connect(2): see docs/decisions/journal-socket.md.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nfguard/nfguard/internal/core/chain"
	"github.com/nfguard/nfguard/internal/core/record"
)

const (
	// queueLen is how many records wait for a journald that is away, at
	// 1 KiB each. A fight is one record a minute, so this is hours of trouble.
	queueLen = 256

	// drainTime is how long Run goes on after its context ended. With one
	// attempt under way that makes two seconds: systemd waits 90 for us.
	drainTime = 2*time.Second - attemptTime
)

// Options say where records go. The zero value is right for the daemon.
type Options struct {
	Socket   string    // journald's native socket; "" is the system's
	Sync     bool      // see [Writer.SetSync]
	Fallback io.Writer // takes the records where there is no journal, and complaints about it; nil is stderr
	Plain    bool      // write to Fallback although there is a journal

	// Last is the end of the chain of records that this one goes on with, and Linked is
	// called with its new end before each record, and once more, with the one before,
	// where that record did not reach the journal; nil: nobody wants to know. It must not
	// wait for a disk.
	Last   chain.Link
	Linked func(chain.Link)

	// Synchronize has journald write to disk what it has; nil is [Synchronize].
	Synchronize func(context.Context) error
}

// Writer takes records without ever making the caller wait, and hands them
// to the journal in their order. Its methods may be called from any goroutine.
type Writer struct {
	queue chan entry
	lost  atomic.Int64 // refused by a full queue, or never taken by the journal, and not yet told
	sync  atomic.Bool

	last   chain.Link
	linked func(chain.Link)

	journal  *socket // nil without a journal,
	syncer   *syncer // and so is this
	fallback io.Writer
}

// entry is one record, or one line of the log, on its way.
type entry struct {
	line []byte // of the log, encoded; nil: it is a record
	sync bool   // ask journald to write it to disk

	event    record.Event
	complete func(context.Context, *record.Event) // nil: there is nothing to complete
}

// completeTime is how long a record can be completed for.
const completeTime = 2 * time.Second

// Open decides, for good, where records go: to Fallback if o.Plain is set or
// journald's socket is not there, otherwise to the journal, which may come
// and go from then on. Nothing is written before [Writer.Run].
func Open(o Options) *Writer {
	if o.Socket == "" {
		o.Socket = "/run/systemd/journal/socket"
	}
	if o.Synchronize == nil {
		o.Synchronize = Synchronize
	}
	if o.Fallback == nil {
		o.Fallback = os.Stderr
	}
	w := &Writer{queue: make(chan entry, queueLen), fallback: o.Fallback, last: o.Last, linked: o.Linked}
	if w.linked == nil {
		w.linked = func(chain.Link) {}
	}
	w.SetSync(o.Sync)
	if _, err := os.Stat(o.Socket); o.Plain || errors.Is(err, fs.ErrNotExist) {
		return w
	}
	log := slog.New(slog.NewTextHandler(o.Fallback, nil))
	w.journal = &socket{path: o.Socket, trouble: complaint{
		log:    log,
		begins: "the journal takes no records",
		ends:   "the journal takes records again",
	}}
	w.syncer = newSyncer(o.Synchronize, complaint{
		log:    log,
		begins: "the journal is not written to disk on request",
		ends:   "the journal is written to disk on request again",
	})
	return w
}

// SetSync says whether journald is asked to write its files to disk after
// drift, module and contention records, at most once a second. Without it
// a power cut takes the last minutes of the journal with it. It holds for
// records from now on.
func (w *Writer) SetSync(on bool) { w.sync.Store(on) }

// Record queues e and returns at once. When the queue is full e is dropped:
// the oldest records are kept, because the first drift after journald went
// away says who began, and later ones of a fight say little new. As soon as
// the queue is empty again an entry tells how many were lost.
func (w *Writer) Record(e record.Event) {
	w.RecordCompleted(e, nil)
}

// RecordCompleted is [Writer.Record] of an event of which something is still to be
// looked up: complete is called before it is written, in another goroutine and with a
// context that ends soon. What is recorded meanwhile waits behind it.
func (w *Writer) RecordCompleted(e record.Event, complete func(context.Context, *record.Event)) {
	w.push(entry{event: e, complete: complete, sync: w.sync.Load() && precious(e.Kind)})
}

// precious reports whether records of a kind must survive a power cut.
func precious(k record.Kind) bool {
	return k == record.KindDrift || k == record.KindModule || k == record.KindContention
}

func (w *Writer) push(e entry) {
	select {
	case w.queue <- e:
	default:
		w.lost.Add(1)
	}
}

// Run hands queued records to the journal until ctx is cancelled, then for
// two seconds at most what is still queued. While the journal is away it
// keeps them and tries again. It returns nil, or an error that counts the
// records that were lost and could not be told. It is called once.
func (w *Writer) Run(ctx context.Context) error {
	grace, expire := context.WithCancel(context.WithoutCancel(ctx))
	defer expire()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(drainTime, expire) })()

	if w.journal != nil {
		defer w.journal.close()
		var wg sync.WaitGroup
		defer wg.Wait()
		syncing, stop := context.WithCancel(grace)
		defer stop()
		wg.Go(func() { w.syncer.run(syncing, grace) })
	}
	for ctx.Err() == nil {
		select {
		case e := <-w.queue:
			w.deliver(grace, e)
		case <-ctx.Done():
		}
	}
	for len(w.queue) > 0 {
		w.deliver(grace, <-w.queue)
	}
	if n := w.lost.Load(); n > 0 {
		return errors.New(lostMessage(n))
	}
	return nil
}

// deliver sends e and, once nothing waits behind it, tells what was lost.
func (w *Writer) deliver(ctx context.Context, e entry) {
	if e.complete != nil {
		completing, cancel := context.WithTimeout(ctx, completeTime)
		e.complete(completing, &e.event)
		cancel()
	}
	send := func() error { return w.send(ctx, e.line) }
	if e.line == nil {
		send = func() error { return w.link(ctx, &e.event) }
	}
	switch err := send(); {
	case err != nil:
		w.lost.Add(1)
	case e.sync && w.syncer != nil:
		w.syncer.ask()
	}
	if len(w.queue) > 0 {
		return
	}
	if n := w.lost.Swap(0); n > 0 {
		told := record.Event{
			Kind:       eventLost,
			Outcome:    record.Failed,
			Time:       time.Now(),
			Message:    lostMessage(n),
			Suppressed: int(n),
		}
		if w.link(ctx, &told) != nil {
			w.lost.Add(n)
		}
	}
}

// linked returns a record as the next of a chain, and the end of that chain then.
func linked(last chain.Link, fs []Field) ([]Field, chain.Link) {
	record := make([]chain.Field, len(fs))
	for i, f := range fs {
		record[i] = chain.Field(f)
	}
	record, next := last.Next(record)
	for _, f := range record[len(fs):] {
		fs = append(fs, Field(f))
	}
	return fs, next
}

// link sends a record as the next of its chain.
func (w *Writer) link(ctx context.Context, e *record.Event) error {
	fields, next := linked(w.last, Fields(*e))
	w.linked(next)
	err := w.send(ctx, w.encode(fields))
	if err != nil {
		w.linked(w.last)
		return err
	}
	w.last = next
	return nil
}

func lostMessage(n int64) string {
	if n == 1 {
		return "1 record was lost: the journal did not take it in time"
	}
	return fmt.Sprintf("%d records were lost: the journal did not take them in time", n)
}

// encode puts an entry into the form that send takes.
func (w *Writer) encode(fs []Field) []byte {
	if w.journal == nil {
		return jsonLine(fs)
	}
	return native(fs)
}

func (w *Writer) send(ctx context.Context, record []byte) error {
	if w.journal == nil {
		_, err := w.fallback.Write(record)
		return err
	}
	return w.journal.send(ctx, record)
}

// complaint logs an error once until it changes, and its end.
type complaint struct {
	log          *slog.Logger
	begins, ends string
	last         string // the error that was logged, "" when all is well
}

func (c *complaint) say(err error) {
	switch {
	case err == nil && c.last != "":
		c.last = ""
		c.log.Info(c.ends)
	case err != nil && err.Error() != c.last:
		c.last = err.Error()
		c.log.Warn(c.begins, "error", err)
	}
}
