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

// namedSource is a journal in export format, and its name for people; "" where
// its errors have that.
type namedSource struct {
	io.ReadCloser
	name string
}

// openJournals opens what is to be read. With an error it returns those that
// are open by then.
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
	if o.follow && len(kinds) == 0 { // or lines of the log would be among the last ten
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

// fileMagic begins a journal file.
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

// followed is a journal that has no end of its own before ctx ends it: what
// journalctl would have told after that is missing, however well it ended.
type followed struct {
	io.ReadCloser
	ctx context.Context
}

func (f *followed) Read(b []byte) (int, error) {
	n, err := f.ReadCloser.Read(b)
	if errors.Is(err, io.EOF) && f.ctx.Err() == nil {
		err = &hintError{errors.New("journalctl ended, and nothing more is told"), "begin again, with --since now or the time of the last event"}
	}
	return n, err
}

// awaitHangup returns when nobody reads any more what is written to f, or when
// ctx ends. Who only waits for news would not notice that by writing.
func awaitHangup(ctx context.Context, f *os.File) {
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(f.Fd())}}
		if n, err := unix.Poll(fds, int(tick.Milliseconds())); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// inherited is the pipe that a shell gives us as the name of a descriptor, for
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

// tick is how late the end of a context may be noticed where a file is waited
// for.
const tick = 100 * time.Millisecond

// patientReader reads from f until ctx ends: f can be a terminal, or a pipe
// into which nobody writes.
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
