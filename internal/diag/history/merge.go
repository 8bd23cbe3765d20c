package history

import (
	"errors"
	"fmt"
	"io"
)

// Journal is one input of a [Merged].
type Journal struct {
	Name   string // for error messages; "" if the reader's errors already contain a name
	Reader *Reader
}

// Merged reads several journals as one, in order of time if each of them is. It keeps
// one record of each in memory.
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

// Next reads the next record. At the end of all journals it returns io.EOF, or the
// errors of the damaged ones. A damaged journal does not keep the others from being
// read to their end.
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

// Ignored adds up what the readers have ignored.
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
