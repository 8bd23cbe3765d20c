package cli

import (
	"bufio"
	"bytes"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/build"
	"github.com/nfguard/nfguard/internal/core/config"
	"github.com/nfguard/nfguard/internal/diag/history"
	"github.com/nfguard/nfguard/internal/diag/history/report"
)

// htmlEvents is one page.
type htmlEvents struct {
	a    *app
	w    *bufio.Writer
	page *report.Page
}

func newHTMLEvents(a *app, w *bufio.Writer) *htmlEvents {
	return &htmlEvents{a: a, w: w, page: report.New(time.Local)}
}

func (h *htmlEvents) add(r *history.Record) { h.page.Add(r) }

func (h *htmlEvents) end(e *ending) {
	f := &report.Facts{
		Made: e.now, Version: build.Version(), Sentence: e.sentence(), Observed: e.observed(), Asked: e.asked(), Totals: e.totals,
	}
	if e.err != nil {
		f.Notes = append(f.Notes, "Not everything could be read, so something may be missing here: "+e.err.Error())
	}
	if s := e.ignored.Sentence(); s != "" {
		f.Notes = append(f.Notes, s)
	}
	if e.live {
		h.live(f)
	}
	h.page.Write(h.w, f)
}

// live adds what is only known on the host itself.
func (h *htmlEvents) live(f *report.Facts) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	c, origins, err := config.Load("", h.a.configPath)
	var b bytes.Buffer
	if err == nil {
		err = config.Show(&b, c, origins)
	}
	if err != nil {
		f.Notes = append(f.Notes, "The configuration on disk is wrong: "+err.Error())
		return
	}
	f.Config = b.String()
}
