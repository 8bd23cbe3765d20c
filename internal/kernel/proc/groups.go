package proc

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Groups finds control groups of version 2 by their id, which the kernel reports
// even for a process that has ended. The zero value is ready to use. It is for one
// goroutine.
type Groups struct {
	paths map[uint64]string
	swept time.Time
}

// The hierarchy is walked only so often, since a walk takes some milliseconds on a
// node with many pods, and only so far.
const (
	sweepEvery = 5 * time.Second
	maxGroups  = 20_000
)

// Path returns the path of a group as /proc/PID/cgroup shows it, or "" if the group
// is gone or too new to be known.
func (g *Groups) Path(id uint64) string {
	if path, ok := g.paths[id]; ok || id == 0 || time.Since(g.swept) < sweepEvery {
		return path
	}
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		root += "/unified"
	}
	g.paths, g.swept = make(map[uint64]string), time.Now()
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // a group that has just gone
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				g.paths[st.Ino] = "/" + strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
			}
		}
		if len(g.paths) >= maxGroups {
			return fs.SkipAll
		}
		return nil
	})
	return g.paths[id]
}
