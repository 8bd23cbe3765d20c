package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/nfguard/nfguard/internal/guard"
	"github.com/nfguard/nfguard/internal/step"
)

// maxDropin bounds what is read of a file of ours; a longer one is not ours
// any more.
const maxDropin = 64 << 10

func (l *Linux) dropin(ctx context.Context, path string) guard.Dropin {
	step.Begin(ctx, "reading "+path)
	d := guard.Dropin{Path: path}
	text, err := readLimited(l.path(path), maxDropin)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.State = guard.Absent
	case err != nil:
		d.Err = err
	default:
		d.State, d.Have = guard.Present, string(text)
	}
	return d
}

// write puts a file in place as a whole: after a crash at any point there is
// the old content or the new, never half of one. Needs room for both.
func (l *Linux) write(path, content string) error {
	full := l.path(path)
	dir, base := filepath.Split(full)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	// What a killed run left: nobody else names files like this.
	if left, err := filepath.Glob(filepath.Join(dir, "."+base+"[0-9]*")); err == nil {
		for _, name := range left {
			_ = os.Remove(name) // the next write tries again
		}
	}
	err := renameio.WriteFile(full, []byte(content), 0o644,
		renameio.WithTempDir(dir), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir outlast a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (l *Linux) path(path string) string { return filepath.Join(l.o.Root, path) }

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
