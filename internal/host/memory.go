package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/nfguard/nfguard/internal/guard"
	"github.com/nfguard/nfguard/internal/rtnl"
	"github.com/nfguard/nfguard/internal/step"
)

// memory is the file in which stands what was set of bridges' flags, so that
// it can be taken back, also by the next run of the daemon: JSON values that
// add up. A note is appended, because a bridge waits meanwhile; what does not
// hold any more goes when the file is written anew. It is not locked against
// another process: of a daemon and an apply that write it anew in the same
// instant, one may forget its own.
type memory struct {
	mu     sync.Mutex
	path   string
	notes  int   // that were appended, or maxNotes: it has to be written anew
	failed error // of the last attempt to write
}

// maxMemory bounds what is read: some ten thousand bridges.
const maxMemory = 1 << 20

// maxNotes is how many are appended until the file is written anew.
const maxNotes = 64

type memoryFile struct {
	Schema  int                `json:"schema"` // 1
	Bridges []guard.Remembered `json:"bridges"`
}

// remembered returns what stands in the file, and why not all does.
func (l *Linux) remembered(ctx context.Context) ([]guard.Remembered, error) {
	m := &l.memory
	step.Begin(ctx, "reading "+m.path)
	m.mu.Lock()
	defer m.mu.Unlock()
	list, err := m.load()
	return list, errors.Join(err, m.failed)
}

// remember notes the flags that a is about to set.
func (m *memory) remember(a guard.Action) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path == "" {
		return
	}
	m.notes++
	if err := m.add(guard.Remembered{Name: a.Subject, Index: a.Index, Flags: a.Flags}); err != nil {
		m.failed, m.notes = err, maxNotes
	}
}

// tidy writes the file anew when it is time to. a was remembered last, if the
// file could take it.
func (m *memory) tidy(a guard.Action) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.notes < maxNotes {
		return
	}
	list, _ := m.load() // over a broken file, too
	_ = m.save(union(list, guard.Remembered{Name: a.Subject, Index: a.Index, Flags: a.Flags}))
}

// forget drops the flags that a has cleared.
func (m *memory) forget(a guard.Action) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path == "" {
		return nil
	}
	list, _ := m.load()
	for i, r := range list {
		if r.Name == a.Subject && r.Index == a.Index {
			for f := range r.Flags {
				list[i].Flags[f] = r.Flags[f] && !a.Flags[f]
			}
		}
	}
	return m.save(list)
}

// union adds r to a list in which each bridge stands once.
func union(list []guard.Remembered, r guard.Remembered) []guard.Remembered {
	for i, have := range list {
		if have.Name == r.Name && have.Index == r.Index {
			for f := range have.Flags {
				list[i].Flags[f] = have.Flags[f] || r.Flags[f]
			}
			return list
		}
	}
	return append(list, r)
}

func (m *memory) load() (list []guard.Remembered, err error) {
	if m.path == "" {
		return nil, nil
	}
	defer func() {
		if err != nil {
			m.notes = maxNotes
		}
	}()
	text, err := readLimited(m.path, maxMemory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var f memoryFile
		switch err := d.Decode(&f); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return list, fmt.Errorf("read %s: %w", m.path, err)
		}
		for _, r := range f.Bridges {
			list = union(list, r)
		}
	}
}

// add appends one value, and makes the directory if it has to.
func (m *memory) add(r guard.Remembered) error {
	text, err := json.Marshal(memoryFile{1, []guard.Remembered{r}})
	if err != nil {
		return err
	}
	open := func() (*os.File, error) { return os.OpenFile(m.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644) }
	f, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(m.path), 0o755); err == nil {
			f, err = open()
		}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}

// save puts the file in place as a whole, without bridges that are gone, and
// does not sync it: a power cut takes the bridges with it.
func (m *memory) save(list []guard.Remembered) (err error) {
	defer func() {
		if m.failed = err; err == nil {
			m.notes = 0
		}
	}()
	list = slices.DeleteFunc(list, func(r guard.Remembered) bool {
		return r.Flags == (guard.Flags{}) || rtnl.Index(r.Name) != r.Index
	})
	if len(list) == 0 {
		if err := os.Remove(m.path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.Marshal(memoryFile{1, list})
	if err != nil {
		return err
	}
	dir, name := filepath.Split(m.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	fresh := filepath.Join(dir, "."+name)
	if err := os.WriteFile(fresh, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, m.path)
}
