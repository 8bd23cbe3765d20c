package history

import (
	"errors"
	"fmt"
	"io"
)

// Journal is one input of a [Merged].
type Journal struct {
	Name   string // for what is wrong with it; "" where its own errors have one
	Reader *Reader
}

// Merged reads several journals as one, in the order of time as far as each
// is in order itself. It holds one record of each.
type Merged struct {
	heads []head
	errs  []error
}

type head struct {
	Journal
	rec  Record
	read bool // rec is the next record
	done bool
}

// Merge returns the journals as one.
func Merge(journals ...Journal) *Merged {
	m := &Merged{heads: make([]head, len(journals))}
	for i, j := range journals {
		m.heads[i].Journal = j
	}
	return m
}

// Next reads the next record. At the end of all it returns io.EOF, or what
// went wrong with those journals that did not end well; the others are read
// to their end even so.
func (m *Merged) Next(rec *Record) error {
	var first *head
	for i := range m.heads {
		h := &m.heads[i]
		m.fill(h)
		if !h.done && (first == nil || h.rec.Time.Before(first.rec.Time)) {
			first = h
		}
	}
	if first == nil {
		if err := errors.Join(m.errs...); err != nil {
			return err
		}
		return io.EOF
	}
	*rec, first.read = first.rec, false
	return nil
}

func (m *Merged) fill(h *head) {
	if h.read || h.done {
		return
	}
	err := h.Reader.Next(&h.rec)
	if err == nil {
		h.read = true
		return
	}
	h.done = true
	switch {
	case errors.Is(err, io.EOF):
	case h.Name == "":
		m.errs = append(m.errs, err)
	default:
		m.errs = append(m.errs, fmt.Errorf("read %s: %w", h.Name, err))
	}
}

// Ignored adds up what the readers passed over.
func (m *Merged) Ignored() Ignored {
	var all Ignored
	for i := range m.heads {
		if one := m.heads[i].Reader.Ignored(); one.Count > 0 {
			one.Count += all.Count
			all = one
		}
	}
	return all
}
