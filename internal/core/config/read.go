package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/nfguard/nfguard/internal/files"
)

// maxSize limits how much of a file is read. A real one has a few KiB; a larger one
// is a wrong file.
const maxSize = 64 << 10

// source is where files are read from: the host, or a tree.
type source struct {
	root  string      // of the tree; "" for the host
	tree  *files.Tree // nil: the host
	trust files.Trust // whose files are trusted; nil: anybody's
}

// open returns the source below root, "" for the host.
func open(root string) (*source, error) {
	s := &source{root: root, trust: files.Host()}
	if root == "" {
		return s, nil
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	s.trust = s.trust.Of(info) // the owner of the tree can change everything in it
	s.tree, err = files.OpenImage(root)
	return s, err
}

func (s *source) close() {
	if s.tree != nil {
		s.tree.Close()
	}
}

// shown is a name with the root in front of it.
func (s *source) shown(name string) string { return filepath.Join(s.root, name) }

func (s *source) stat(name string) (fs.FileInfo, error) {
	if s.tree != nil {
		return s.tree.Stat(name)
	}
	return os.Stat(name)
}

// missing reports whether a file does not exist. A dangling link does exist, and is a
// problem.
func (s *source) missing(name string) bool {
	var err error
	if s.tree != nil {
		_, err = s.tree.Lstat(name)
	} else {
		_, err = os.Lstat(name)
	}
	return errors.Is(err, fs.ErrNotExist)
}

func (s *source) list(dir string) ([]fs.DirEntry, error) {
	if s.tree != nil {
		return s.tree.List(dir)
	}
	return os.ReadDir(dir)
}

// distrusted returns the problem of a file or directory that other users can change.
func (s *source) distrusted(name string, info fs.FileInfo) *Problem {
	trust := s.trust
	if trust == nil {
		trust = trust.Of(info)
	}
	if why, command := trust.Distrusted(s.shown(name), info); why != "" {
		return wrong(why, command)
	}
	return nil
}

// read returns the text of a file that only root can change, or the problem that
// keeps it from being read.
func (s *source) read(name string) (string, *Problem) {
	open := files.Open
	if s.tree != nil {
		open = s.tree.Open
	}
	f, err := open(name)
	if err != nil {
		return "", unreadable(s.shown(name), err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", unreadable(s.shown(name), err)
	}
	if p := s.distrusted(name, info); p != nil {
		return "", p
	}
	data, err := files.Limited(f, maxSize)
	switch {
	case err != nil:
		return "", unreadable(s.shown(name), err)
	case !utf8.Valid(data):
		return "", notUTF8(string(data))
	}
	return string(data), nil
}

// unreadable says why a file or directory could not be read.
func unreadable(name string, err error) *Problem {
	reason := err.Error()
	if perr := (*fs.PathError)(nil); errors.As(err, &perr) {
		reason = perr.Err.Error() // the problem already names the path
	}
	hint := "see what it is: ls -ld " + files.Quote(name)
	switch other := (*files.NotRegular)(nil); {
	case errors.As(err, &other):
		return wrong(other.Error(), "put the settings into a regular file")
	case errors.As(err, new(*files.TooLarge)):
		return wrong(reason, "is it the right file? nfguard.toml has a few KiB")
	case errors.Is(err, fs.ErrPermission):
		hint = "run nfguard as root, or give the file to its user"
	case errors.Is(err, fs.ErrNotExist):
		hint = "is the name right? without any file the defaults apply: nfguard config show"
	}
	return wrong("cannot be read: "+reason, hint)
}

// notUTF8 returns the problem with the first line of text that is not UTF-8.
func notUTF8(text string) *Problem {
	p := wrong("is not UTF-8 text", "is it the right file? save it as UTF-8")
	for line := range strings.Lines(text) {
		p.Line++
		if !utf8.ValidString(line) {
			break
		}
	}
	return p
}
