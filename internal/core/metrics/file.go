package metrics

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nfguard/nfguard/internal/build"
	"github.com/nfguard/nfguard/internal/files"
)

// New returns Metrics that count from now on. What goes wrong with the file is
// logged once, until it changes. Call Stop in the end.
func New(log *slog.Logger) *Metrics {
	f := &file{jobs: make(chan job, 1), done: make(chan struct{}), log: log}
	go f.run()
	return &Metrics{file: f, revision: build.Revision()}
}

// Publish has the file written: s.Textfile, as a whole. A file of another name
// that was written before is removed, for two of them would say the same thing
// twice, and node_exporter then takes neither. Before the first look there is
// little to write.
func (m *Metrics) Publish(s State) {
	m.last = s
	j := job{path: s.Textfile}
	switch {
	case j.path == "":
	case s.LastPass.IsZero():
		j.text = m.starting(&s)
	default:
		j.text = m.render(&s)
	}
	m.file.put(j)
}

// Stop leaves a file that says that the daemon does not run, and waits for a disk
// that is slow, but not for one that hangs.
func (m *Metrics) Stop() {
	if m.last.Textfile != "" {
		m.file.put(job{m.last.Textfile, m.stopped(&m.last)})
	}
	close(m.file.jobs)
	select {
	case <-m.file.done:
	case <-time.After(2 * time.Second): // it ends with the process
	}
}

// job is a file to be written, instead of the one before.
type job struct {
	path string // "" for none
	text []byte
}

// file writes in a goroutine of its own.
type file struct {
	jobs chan job // one slot, for the newest
	done chan struct{}
	log  *slog.Logger
	path string // that was written last
	said string // the error that was logged; "" when all is well
}

func (f *file) put(j job) {
	select {
	case <-f.jobs: // nobody needs the older one any more
	default:
	}
	f.jobs <- j
}

func (f *file) run() {
	defer close(f.done)
	for j := range f.jobs {
		f.do(j)
	}
}

func (f *file) do(j job) {
	if f.path != "" && f.path != j.path {
		if err := files.Remove(f.path, ours); err != nil {
			f.log.Warn("an older file of metrics stays", "path", f.path, "error", err)
		}
		f.path = ""
	}
	if j.path == "" {
		f.said = ""
		return
	}
	// Not synced: a power cut may take it, and the next start writes it anew.
	// node_exporter reads *.prom only, so not what is in the making.
	err := files.Replace(j.path, j.text, ours)
	switch {
	case err == nil:
		f.path = j.path
		if f.said != "" {
			f.said = ""
			f.log.Info("the metrics are written again", "path", j.path)
		}
	case err.Error() != f.said:
		f.said = err.Error()
		f.log.Warn("the metrics are not written; tried again with each look", "path", j.path, "error", err, "next", next(err, j.path))
	}
}

// ours reports whether a file that begins so is of nfguard's metrics.
func ours(start []byte) bool { return bytes.HasPrefix(start, []byte("# HELP nfguard_")) }

// next is the next step for an error.
func next(err error, path string) string {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "make the directory " + dir + ", then systemctl restart nfguard"
	case errors.Is(err, syscall.EROFS):
		return "systemctl edit nfguard, add ReadWritePaths=" + dir + " below [Service], then systemctl restart nfguard; the restart alone, if the directory is new"
	case errors.Is(err, files.ErrForeign), errors.As(err, new(*files.NotRegular)):
		return "move away what stands there, or name another file: textfile under [metrics]"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "the disk is full: make room"
	}
	return "see textfile under [metrics]"
}
