package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// syncPause is the least time between two syncs: each costs an fsync of
	// the journal's files and a new file header, if there is anything new.
	syncPause = 400 * time.Millisecond

	// syncAgain is how often a sync is repeated, so that one within two seconds
	// is not called off: see [syncer.run].
	syncAgain = 4

	// syncTimeout bounds one. A disk that needs longer has other troubles.
	syncTimeout = 5 * time.Second

	// replyLimit is far above any answer to Synchronize, which is 18 bytes.
	replyLimit = 64 << 10
)

// syncer has the journal written to disk, paced.
type syncer struct {
	call    func(context.Context) error
	due     chan struct{} // one slot: someone asked since the last call began
	trouble complaint
}

// newSyncer returns a syncer that has call do it.
func newSyncer(call func(context.Context) error, trouble complaint) *syncer {
	return &syncer{
		call:    call,
		due:     make(chan struct{}, 1),
		trouble: trouble,
	}
}

// ask requests one call that begins after now.
func (s *syncer) ask() {
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// run makes the requested calls, the first at once, one that is asked for
// in the pause at its end, until ctx ends; one that is due then is still
// made. grace outlives ctx and bounds the calls.
//
// Each is repeated, syncAgain times after the last that was asked for. systemd
// 252 answers when it has started the thread that writes to disk, and whoever
// logs a line before that has begun calls it off (OFFLINE_CANCEL in
// journal-file.c): on a busy host one record in four was not on disk two seconds
// later, and with one repetition after a second still one in some dozens. To
// journald one that finds nothing new is nothing to do.
func (s *syncer) run(ctx, grace context.Context) {
	for left := 0; ctx.Err() == nil; {
		if left == 0 {
			select {
			case <-s.due:
				left = 1 + syncAgain
			case <-ctx.Done():
				continue
			}
		}
		s.trouble.say(s.call(grace))
		left--
		select {
		case <-time.After(syncPause):
		case <-ctx.Done():
			continue
		}
		select {
		case <-s.due: // one call is for both
			left = 1 + syncAgain
		default:
		}
	}
	select {
	case <-s.due:
		s.trouble.say(s.call(grace))
	default:
	}
}

// Synchronize has journald of this host write to disk what it has.
func Synchronize(ctx context.Context) error { return synchronize(ctx, varlinkSocket) }

// varlinkSocket is where journald listens for it.
const varlinkSocket = "/run/systemd/journal/io.systemd.journal"

// synchronize has journald take in what is queued at its sockets, write its
// files to disk and say so: io.systemd.Journal.Synchronize over varlink, a
// message of JSON and a NUL byte each way. It is journalctl --sync.
func synchronize(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	if _, err := io.WriteString(conn, `{"method":"io.systemd.Journal.Synchronize","parameters":{}}`+"\x00"); err != nil {
		return err
	}
	reply, err := bufio.NewReader(io.LimitReader(conn, replyLimit)).ReadBytes(0)
	if ctx.Err() != nil {
		return fmt.Errorf("synchronize: %w", ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("synchronize: %w", err)
	}
	var answer struct{ Error string }
	if err := json.Unmarshal(bytes.TrimSuffix(reply, []byte{0}), &answer); err != nil {
		return fmt.Errorf("synchronize: %w", err)
	}
	if answer.Error != "" {
		return errors.New("synchronize: " + answer.Error)
	}
	return nil
}
