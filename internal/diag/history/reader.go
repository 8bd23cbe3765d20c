package history

import (
	"fmt"
	"io"

	"github.com/nfguard/nfguard/internal/core/words"
)

// Reader reads the records of one journal in export format. It skips entries that are
// not records: log lines of nfguard, and entries of other programs.
type Reader struct {
	x       *export
	entry   entry
	ignored Ignored
}

// Ignored counts entries that look like records but were not written by root, as
// nfguard's are: anybody could have made them up. journald itself notes who wrote an
// entry.
type Ignored struct {
	Count int
	By    Teller // of the last one
	Host  string
}

// Sentence says what was ignored; "" if nothing was.
func (i *Ignored) Sentence() string {
	if i.Count == 0 {
		return ""
	}
	entries := "entries that claim to be nfguard's are"
	if i.Count == 1 {
		entries = "entry that claims to be nfguard's is"
	}
	who := words.Process(i.By.Comm, i.By.PID) + " with uid " + i.By.UID
	if i.By.UID == "" {
		who = "an unknown process"
	}
	return fmt.Sprintf("%d %s left out: not written by root; the last one by %s on %s", i.Count, entries, who, i.Host)
}

// NewReader returns a reader of r.
func NewReader(r io.Reader) *Reader {
	return &Reader{x: newExport(r), entry: entry{names: make(map[string]string, 256)}}
}

// Next reads the next record. It returns io.EOF at the end. Any other error says
// where the input is damaged; nothing can be read after it.
func (r *Reader) Next(rec *Record) error {
	for {
		r.entry.reset()
		if err := r.x.next(&r.entry); err != nil {
			return err
		}
		if r.entry.event == "" {
			continue
		}
		r.entry.record(rec)
		if rec.Teller.UID == "0" {
			return nil
		}
		r.ignored.Count++
		r.ignored.By, r.ignored.Host = rec.Teller, rec.Host
	}
}

// Ignored returns what was ignored until now.
func (r *Reader) Ignored() Ignored { return r.ignored }
