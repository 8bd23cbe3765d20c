package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/diag/history"
	"github.com/nfguard/nfguard/internal/files"
)

// namedSource is a journal in export format with its name for people; "" if its errors
// already have the name.
type namedSource struct {
	io.ReadCloser
	name string
}

// openJournals opens the journals to read. With an error, it returns those that are
// already open.
func (a *app) openJournals(ctx context.Context, o *eventsOptions, filter *history.Filter) ([]namedSource, error) {
	if len(o.journals) == 0 {
		j, err := openJournal(ctx, query(o, filter))
		if err != nil {
			return nil, err
		}
		return []namedSource{j}, nil
	}
	var sources []namedSource
	for _, place := range o.journals {
		s, err := openPlace(ctx, place, o, filter)
		if err != nil {
			return sources, err
		}
		sources = append(sources, s)
	}
	return sources, nil
}

func query(o *eventsOptions, filter *history.Filter) host.JournalQuery {
	q := host.JournalQuery{
		Since: filter.Since, Follow: o.follow,
		Matches: []string{"SYSLOG_IDENTIFIER=" + history.Identifier},
	}
	kinds := filter.Events
	if o.follow && len(kinds) == 0 { // otherwise log lines would be among the last ten entries
		kinds = history.Kinds()
	}
	for _, kind := range kinds {
		q.Matches = append(q.Matches, "NFGUARD_EVENT="+string(kind))
	}
	for _, outcome := range filter.Outcomes {
		q.Matches = append(q.Matches, "NFGUARD_OUTCOME="+string(outcome))
	}
	return q
}

// fileMagic is the beginning of a journal file.
const fileMagic = "LPKSHHRH"

func openPlace(ctx context.Context, place string, o *eventsOptions, filter *history.Filter) (namedSource, error) {
	if place == "-" {
		return namedSource{io.NopCloser(&patientReader{ctx, os.Stdin}), "standard input"}, nil
	}
	if f := inherited(place); f != nil {
		return namedSource{struct {
			io.Reader
			io.Closer
		}{&patientReader{ctx, f}, f}, place}, nil
	}
	wrong := func(err error) error {
		hint := "--journal takes a directory of journal files, a journal file, or the output of journalctl -o export"
		switch {
		case errors.Is(err, fs.ErrPermission):
			hint = "run it as root, or as a member of the group systemd-journal"
		case errors.As(err, new(*files.NotRegular)):
			hint = "pipe into it: journalctl -o export | nfguard events --journal -"
		}
		return &hintError{fmt.Errorf("--journal: %w", err), hint}
	}
	info, err := os.Stat(place)
	if err != nil {
		return namedSource{}, wrong(err)
	}
	q := query(o, filter)
	if info.IsDir() {
		q.Dir = place
	} else {
		f, err := files.Open(place)
		if err != nil {
			return namedSource{}, wrong(err)
		}
		b := bufio.NewReader(&patientReader{ctx, f})
		if head, _ := b.Peek(len(fileMagic)); !bytes.Equal(head, []byte(fileMagic)) {
			if o.follow {
				f.Close()
				return namedSource{}, &hintError{fmt.Errorf("%s is an export, which does not grow", place), "follow a directory of journal files, or leave out --follow"}
			}
			return namedSource{struct {
				io.Reader
				io.Closer
			}{b, f}, place}, nil
		}
		f.Close()
		q.File = place
	}
	return openJournal(ctx, q)
}

func openJournal(ctx context.Context, q host.JournalQuery) (namedSource, error) {
	j, err := host.OpenJournal(ctx, q)
	switch {
	case err != nil:
		return namedSource{}, err
	case q.Follow:
		return namedSource{ReadCloser: &followed{j, ctx}}, nil
	}
	return namedSource{ReadCloser: j}, nil
}

// followed is a journal that must not end before ctx does. If journalctl ends earlier,
// later events are missing, even if its exit code is 0.
type followed struct {
	io.ReadCloser
	ctx context.Context
}

func (f *followed) Read(b []byte) (int, error) {
	n, err := f.ReadCloser.Read(b)
	if errors.Is(err, io.EOF) && f.ctx.Err() == nil {
		err = &hintError{errors.New("journalctl ended, so no more events follow"), "start again with --since now, or with the time of the last event"}
	}
	return n, err
}

// awaitHangup returns when nobody reads from f any more, or when ctx ends. A command
// that waits for events does not write, and so would not notice.
func awaitHangup(ctx context.Context, f *os.File) {
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(f.Fd())}}
		if n, err := unix.Poll(fds, int(tick.Milliseconds())); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// inherited is the pipe that a shell passes as the name of a descriptor, as in
// <(journalctl -o export); nil for any other name.
func inherited(place string) *os.File {
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		number, ok := strings.CutPrefix(place, dir)
		if !ok {
			continue
		}
		var st unix.Stat_t
		fd, err := strconv.Atoi(number)
		if err != nil || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			return nil
		}
		if fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			return os.NewFile(uintptr(fd), place)
		}
	}
	return nil
}

// tick is how long it can take to notice the end of a context while waiting for a file.
const tick = 100 * time.Millisecond

// patientReader reads from f until ctx ends: f can be a terminal, or a pipe that nobody
// writes to.
type patientReader struct {
	ctx context.Context
	f   *os.File
}

func (p *patientReader) Read(b []byte) (int, error) {
	for p.ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(p.f.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, int(tick.Milliseconds())); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return p.f.Read(b)
		}
	}
	return 0, p.ctx.Err()
}
