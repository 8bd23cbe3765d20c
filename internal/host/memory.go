package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/nfguard/nfguard/internal/guard"
	"github.com/nfguard/nfguard/internal/rtnl"
)

// memory is the file in which stands what was set of bridges' flags, so that
// it can be taken back, also by the next run of the daemon. It is not locked
// against another process: of a daemon and an apply that both meet a new
// bridge in the same instant, one may forget its own.
type memory struct {
	mu     sync.Mutex
	path   string
	failed error // of the last attempt to write
}

// maxMemory bounds what is read: some ten thousand bridges.
const maxMemory = 1 << 20

type memoryFile struct {
	Schema  int                `json:"schema"` // 1
	Bridges []guard.Remembered `json:"bridges"`
}

// remembered returns what stands in the file, and why not all does.
func (l *Linux) remembered() ([]guard.Remembered, error) {
	m := &l.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	list, err := m.load()
	return list, errors.Join(err, m.failed)
}

// remember notes the flags that a is about to set. Bridges that are gone are
// dropped on the way.
func (l *Linux) remember(a guard.Action) error {
	return l.memory.change(a, func(f *guard.Flags) {
		for i := range f {
			f[i] = f[i] || a.Flags[i]
		}
	})
}

// forget drops the flags that a has cleared.
func (l *Linux) forget(a guard.Action) error {
	return l.memory.change(a, func(f *guard.Flags) {
		for i := range f {
			f[i] = f[i] && !a.Flags[i]
		}
	})
}

func (m *memory) change(a guard.Action, change func(*guard.Flags)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path == "" {
		return nil
	}
	list, err := m.load()
	i := slices.IndexFunc(list, func(r guard.Remembered) bool { return r.Name == a.Subject && r.Index == a.Index })
	if i < 0 {
		i, list = len(list), append(list, guard.Remembered{Name: a.Subject, Index: a.Index})
	}
	was := list[i].Flags
	change(&list[i].Flags)
	if err == nil && list[i].Flags == was && m.failed == nil {
		return nil
	}
	list = slices.DeleteFunc(list, func(r guard.Remembered) bool {
		return r.Flags == (guard.Flags{}) || rtnl.Index(r.Name) != r.Index
	})
	m.failed = m.save(list) // over a broken file, too
	return m.failed
}

func (m *memory) load() ([]guard.Remembered, error) {
	if m.path == "" {
		return nil, nil
	}
	text, err := readLimited(m.path, maxMemory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	var f memoryFile
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("read %s: %w", m.path, err)
	}
	return f.Bridges, nil
}

// save puts the file in place as a whole, and does not sync it: a power cut
// takes the bridges with it.
func (m *memory) save(list []guard.Remembered) error {
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
