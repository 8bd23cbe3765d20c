package pause

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nfguard/nfguard/internal/files"
)

// File is the name of the request in the runtime directory, which is root's alone.
const File = "pause.json"

// maxFile is many times what a request has.
const maxFile = 4 << 10

// Read reads what is asked for in dir. It never waits for a FIFO and follows no link.
func Read(dir string) Asked {
	r, err := read(filepath.Join(dir, File))
	if errors.Is(err, fs.ErrNotExist) {
		return Asked{}
	}
	return Asked{r, err}
}

func read(path string) (*Request, error) {
	f, err := files.OpenNoLink(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if why, _ := files.Host().Distrusted(path, info); why != "" {
		return nil, &fs.PathError{Op: "trust", Path: path, Err: errors.New(why)}
	}
	text, err := files.Limited(f, maxFile)
	if err != nil {
		return nil, err
	}
	r, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// Parse reads a request: one JSON object, with no other fields. It does not check
// what that asks for.
func Parse(text []byte) (*Request, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var r *Request
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("it is no request of nfguard: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || r == nil {
		return nil, errors.New("it is no request of nfguard: it is not one JSON object")
	}
	r.By.Seen = false // the daemon says that, and no file
	return r, nil
}

// Write puts r in the place of what was asked for in dir.
func Write(dir string, r *Request) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return files.ReplacePrivate(filepath.Join(dir, File), append(text, '\n'), nil)
}

// Withdraw removes r from dir, if it still is what is asked for there.
func Withdraw(dir string, r *Request) error {
	if a := Read(dir); a.Request == nil || a.Request.ID() != r.ID() {
		return nil
	}
	return Remove(dir)
}

// Remove removes what is asked for in dir. It is no error if that is nothing.
func Remove(dir string) error {
	err := os.Remove(filepath.Join(dir, File))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
