package history

import (
	"fmt"
	"io"

	"github.com/nfguard/nfguard/internal/core/words"
)

// Reader reads the records of one journal in export format. Entries that are
// no records, nfguard's log lines and those of others, are passed over.
type Reader struct {
	x       *export
	entry   entry
	ignored Ignored
}

// Ignored are entries that look like records and are not taken for such: they
// were not written by root, as nfguard's are, so anybody can have made them
// up. journald itself notes who wrote an entry.
type Ignored struct {
	Count int
	By    Teller // of the last one
	Host  string
}

// Sentence says what was ignored; "" is nothing.
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
		who = "nobody knows whom"
	}
	return fmt.Sprintf("%d %s left out: not written by root; the last one by %s on %s", i.Count, entries, who, i.Host)
}

// NewReader returns a reader of r.
func NewReader(r io.Reader) *Reader {
	return &Reader{x: newExport(r), entry: entry{names: make(map[string]string, 256)}}
}

// Next reads the next record. It returns io.EOF at the end; another error is
// the end, too, and says where the input is damaged.
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

// Ignored returns what was passed over until now.
func (r *Reader) Ignored() Ignored { return r.ignored }
