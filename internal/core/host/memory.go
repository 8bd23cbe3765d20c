package host

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/files"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// memory is the file that says which flags of bridges were set, and whether because of
// evidence, so that they can be taken back, even by the next run of the daemon. It is
// a sequence of JSON values; all of them together count. A note is appended, because
// a bridge is waiting for its flags meanwhile; what is no longer true is dropped when
// the file is rewritten. It is not locked against other processes: if a daemon and an
// apply rewrite it at the same instant, the notes of one of them can be lost.
type memory struct {
	mu     sync.Mutex
	path   string
	notes  int   // how many were appended; spoilt: the file has to be rewritten
	whole  int   // bridges in the file when it was rewritten
	failed error // of the last attempt to write

	known map[bridgeID]guard.Remembered // the content of the file,
	as    stamp                         // as long as it has this stamp; zero: not known
}

// bridgeID identifies a bridge among all past and future ones.
type bridgeID struct {
	name  string
	index int
}

// stamp identifies a version of a file's content.
type stamp struct {
	inode uint64
	size  int64
	time  time.Time
}

func stampOf(info fs.FileInfo) stamp {
	return stamp{inode: inode(info), size: info.Size(), time: info.ModTime()}
}

// maxMemory limits the size of the file: some ten thousand bridges.
const maxMemory = 4 << 20

// maxNotes is how many notes are appended before the file is rewritten. If the file
// has more bridges than this, it is that many instead, so that the cost of a note does
// not grow with the number of bridges.
const maxNotes = 64

// spoilt is a number of notes that always causes a rewrite.
const spoilt = 1 << 30

type memoryFile struct {
	Schema  int                `json:"schema"` // 1
	Bridges []guard.Remembered `json:"bridges,omitempty"`
	Cleared []guard.Remembered `json:"cleared,omitempty"` // after Bridges: flags that were taken back
}

// remembered returns the content of the file, and an error if it is not complete. With
// a name, it returns only that bridge's entry.
func (l *Linux) remembered(ctx context.Context, name string) ([]guard.Remembered, error) {
	m := &l.memory
	step.Begin(ctx, "reading "+m.path)
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.load()
	var list []guard.Remembered
	for id, r := range m.known {
		if name == "" || name == id.name {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b guard.Remembered) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Name, b.Name))
	})
	return list, errors.Join(err, m.failed)
}

// follow notes new names of bridges. A bridge with the index of a remembered one, and
// with all the flags that were set on it, is the same bridge: a new bridge has no
// flags set.
func (m *memory) follow(bridges []guard.Bridge) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.load() != nil || len(m.known) == 0 {
		return
	}
	there := make(map[int]*guard.Bridge, len(bridges))
	for i := range bridges {
		there[bridges[i].Index] = &bridges[i]
	}
	v := memoryFile{Schema: 1}
	for id, r := range m.known {
		b := there[id.index]
		if b == nil || b.Name == id.name {
			continue
		}
		same := true
		for f, on := range r.Flags {
			same = same && (!on || b.Flags()[f])
		}
		if same {
			v.Cleared = append(v.Cleared, r)
			r.Name = b.Name
			v.Bridges = append(v.Bridges, r)
		}
	}
	if len(v.Bridges) > 0 {
		m.notes += len(v.Bridges)
		m.failed = m.add(v)
	}
}

// remember notes the flags that a is about to set.
func (m *memory) remember(a guard.Action) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path == "" {
		return
	}
	m.notes++
	if err := m.add(memoryFile{Schema: 1, Bridges: []guard.Remembered{noteOf(a)}}); err != nil {
		m.failed, m.notes = err, spoilt
	}
}

// noteOf returns the note for an action: which flags it sets, on which bridge.
func noteOf(a guard.Action) guard.Remembered {
	r := guard.Remembered{Name: a.Subject, Index: a.Index, Flags: a.Flags}
	if a.Evidence {
		r.Evidence = a.Flags
	}
	return r
}

// tidy rewrites the file if it is time to. a was the last action to be noted, if that
// worked.
func (m *memory) tidy(a guard.Action) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.notes < max(maxNotes, m.whole) {
		return
	}
	_ = m.load() // a broken file is replaced
	m.union(noteOf(a))
	_ = m.save()
}

// forget drops the flags that a has cleared.
func (m *memory) forget(a guard.Action) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path == "" {
		return nil
	}
	err := m.load()
	m.drop(noteOf(a))
	m.notes++
	if err != nil || len(m.known) < maxNotes || m.notes >= max(maxNotes, m.whole) {
		return m.save()
	}
	if err := m.add(memoryFile{Schema: 1, Cleared: []guard.Remembered{noteOf(a)}}); err != nil {
		return m.save()
	}
	return nil
}

// union adds r to what is known. If a flag is set again, the newer reason counts.
func (m *memory) union(r guard.Remembered) {
	if m.known == nil {
		m.known = make(map[bridgeID]guard.Remembered)
	}
	id := bridgeID{r.Name, r.Index}
	have := m.known[id]
	for f, on := range r.Flags {
		if on {
			have.Flags[f], have.Evidence[f] = true, r.Evidence[f]
		}
	}
	have.Name, have.Index = r.Name, r.Index
	m.known[id] = have
}

// drop removes r from what is known.
func (m *memory) drop(r guard.Remembered) {
	id := bridgeID{r.Name, r.Index}
	have, ok := m.known[id]
	if !ok {
		return
	}
	for f, on := range r.Flags {
		if on {
			have.Flags[f], have.Evidence[f] = false, false
		}
	}
	m.known[id] = have
	if have.Flags == (guard.Flags{}) {
		delete(m.known, id)
	}
}

// load reads the file if its content is not known.
func (m *memory) load() (err error) {
	if m.path == "" {
		return nil
	}
	info, err := os.Stat(m.path)
	if err == nil && m.as != (stamp{}) && m.as == stampOf(info) {
		return nil
	}
	m.known, m.as = nil, stamp{}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	defer func() {
		if err != nil {
			m.notes = spoilt
		}
	}()
	if err != nil {
		return err
	}
	text, err := files.ReadNoLink(m.path, maxMemory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var f memoryFile
		switch err := d.Decode(&f); {
		case errors.Is(err, io.EOF):
			if int64(len(text)) == info.Size() {
				m.as = stampOf(info)
			}
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", m.path, err)
		}
		for _, r := range f.Bridges {
			m.union(r)
		}
		for _, r := range f.Cleared {
			m.drop(r)
		}
	}
}

// add appends one value, creates the directory if necessary, and updates what is
// known.
func (m *memory) add(v memoryFile) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	before, berr := os.Stat(m.path)
	err = files.Append(m.path, text)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(m.path), 0o755); err == nil {
			err = files.Append(m.path, text)
		}
	}
	if err != nil {
		m.as = stamp{}
		return err
	}
	fresh := errors.Is(berr, fs.ErrNotExist) || berr == nil && before.Size() == 0
	if fresh {
		m.known = nil
	}
	after, err := os.Stat(m.path)
	if err == nil && (fresh && after.Size() == int64(len(text)) || berr == nil && m.as == stampOf(before) && after.Size() == before.Size()+int64(len(text))) {
		for _, r := range v.Bridges {
			m.union(r)
		}
		for _, r := range v.Cleared {
			m.drop(r)
		}
		m.as = stampOf(after)
	} else {
		m.as = stamp{} // somebody else has written too
	}
	return nil
}

// save replaces the file as a whole, without bridges that are gone. It does not sync
// it: after a power cut the bridges are gone too.
func (m *memory) save() (err error) {
	m.as = stamp{}
	defer func() {
		if m.failed = err; err == nil {
			m.notes, m.whole = 0, len(m.known)
		}
	}()
	maps.DeleteFunc(m.known, func(id bridgeID, _ guard.Remembered) bool { return rtnl.Index(id.name) != id.index })
	if len(m.known) == 0 {
		if err := os.Remove(m.path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.Marshal(memoryFile{Schema: 1, Bridges: slices.Collect(maps.Values(m.known))})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(m.path), 0o755); err != nil {
		return err
	}
	if err := files.Replace(m.path, append(text, '\n'), nil); err != nil {
		return err
	}
	if info, err := os.Stat(m.path); err == nil && info.Size() == int64(len(text))+1 {
		m.as = stampOf(info)
	}
	return nil
}

// inode is the number of a file, or 0.
func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
