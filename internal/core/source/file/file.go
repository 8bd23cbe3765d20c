// Package file tells when one of a few ordinary files appears, changes or is
// removed, however it is written: in place, by renaming another over it, with a
// directory that is made or replaced later. It does not read them. It is not
// for procfs, where nothing is ever created, and a symbolic link is followed
// only to a directory: what a file's link leads to is not watched. A directory
// whose coming and going is news can be named as well: the control group of
// a systemd unit, which is there while the unit has processes.
package file

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/source"
)

// Source is a source of news of files.
type Source struct {
	name     string
	about    source.Topic
	patterns []string
	dirs     []string // every directory on the way to a pattern, parents first
}

var _ source.Source = (*Source)(nil)

// New returns the source called name, of news about a topic. A pattern is an absolute path whose last
// element may be a pattern of [filepath.Match]: "/etc/nfguard/nfguard.toml",
// "/etc/nfguard/conf.d/*.toml". No file or directory needs to exist.
func New(name string, about source.Topic, patterns ...string) (*Source, error) {
	s := &Source{name: name, about: about}
	for _, p := range patterns {
		if !filepath.IsAbs(p) {
			return nil, fmt.Errorf("watch %s: not an absolute path", p)
		}
		if _, err := filepath.Match(filepath.Base(p), ""); err != nil {
			return nil, fmt.Errorf("watch %s: %w", p, err)
		}
		p = filepath.Clean(p)
		s.patterns = append(s.patterns, p)
		for dir := filepath.Dir(p); !slices.Contains(s.dirs, dir); dir = filepath.Dir(dir) {
			s.dirs = append(s.dirs, dir)
		}
	}
	slices.Sort(s.dirs) // a parent sorts before what is below it
	return s, nil
}

// Name is what New was told.
func (s *Source) Name() string { return s.name }

// Run hints "PATH appeared", "… changed" and "… was removed", with the path in
// Hint.Path: a file's that matches a pattern, or that of a directory on the
// way to it, with which files may have come or gone unseen. It hints "news lost"
// where the kernel's queue was full, and goes on. A change of attributes
// alone is no news.
func (s *Source) Run(ctx context.Context, hint func(source.Hint)) error {
	w, err := fsnotify.NewWatcher()
	if errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("watch files: %w: raise fs.inotify.max_user_instances, or the limit of open files", err)
	}
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	// fsnotify sends errors while it holds the lock that Add wants, so another
	// goroutine takes them. The first one is kept until it is read. EINVAL is
	// none: a directory was renamed, then deleted, and its watch with it.
	failed, drained := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(drained)
		for err := range w.Errors {
			if errors.Is(err, unix.EINVAL) {
				continue
			}
			select {
			case failed <- err:
			default:
			}
		}
	}()
	defer func() {
		w.Close()
		<-drained
	}()

	say := func(kind source.Kind, path, reason string) {
		hint(source.Hint{Source: s.name, About: s.about, Kind: kind, Reason: reason, Time: time.Now(), Path: path})
	}
	if err := s.arm(w, "/"); err != nil {
		return err
	}
	say(source.Subscribed, "", "subscribed")
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch files: %w", err)
			}
			if err := s.arm(w, "/"); err != nil {
				return err
			}
			say(source.Lost, "", "news lost")
		case ev := <-w.Events:
			kind := kindOf(ev.Op)
			path := filepath.Clean(ev.Name) // "//etc" where "/" is watched
			switch {
			case kind == 0:
			case slices.Contains(s.dirs, path):
				if err := s.arm(w, path); err != nil {
					return err
				}
				say(kind, path, path+" "+kind.String())
			case s.wanted(path):
				say(kind, path, path+" "+kind.String())
			}
		}
	}
}

// wanted says whether path matches a pattern.
func (s *Source) wanted(path string) bool {
	return slices.ContainsFunc(s.patterns, func(p string) bool {
		ok, _ := filepath.Match(filepath.Base(p), filepath.Base(path))
		return ok && filepath.Dir(p) == filepath.Dir(path)
	})
}

// arm watches the directories from top down as far as they exist, each before
// what is below it, so that none can be made unseen. The old watches go
// first: they stay with a directory that was renamed away.
func (s *Source) arm(w *fsnotify.Watcher, top string) error {
	for _, dir := range s.dirs {
		if dir != top && !strings.HasPrefix(dir, strings.TrimSuffix(top, "/")+"/") {
			continue
		}
		_ = w.Remove(dir) // it has none yet, or the kernel has dropped it
		switch err := w.Add(dir); {
		case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		case errors.Is(err, unix.ENOSPC):
			return fmt.Errorf("watch %s: %w: raise fs.inotify.max_user_watches", dir, err)
		default:
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	return nil
}

// kindOf returns what an operation is, zero for one of attributes.
func kindOf(op fsnotify.Op) source.Kind {
	switch {
	case op.Has(fsnotify.Create):
		return source.Appeared
	case op.Has(fsnotify.Write):
		return source.Changed
	case op.Has(fsnotify.Remove), op.Has(fsnotify.Rename):
		return source.Removed
	}
	return 0
}
