package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"
)

// maxSize bounds what is read of one file. A real one has a few KiB; more than
// this is another file by mistake.
const maxSize = 64 << 10

// worldWritable is the permission to write for everyone.
const worldWritable fs.FileMode = 0o002

// read returns the text of a file that only its owner and group can change.
// What it cannot be read for is a problem of that file.
func read(name string) (string, *Problem) {
	// O_NONBLOCK: the open of a fifo would wait for a writer.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", unreadable(name, err)
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return "", unreadable(name, err)
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return "", wrong("is a directory, not a file", "put the settings into a file and name that")
	case !mode.IsRegular():
		return "", wrong("is not a regular file", "put the settings into a regular file")
	case mode&worldWritable != 0:
		return "", openToAll(name)
	}

	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	switch {
	case err != nil:
		return "", unreadable(name, err)
	case len(data) > maxSize:
		return "", wrong("is larger than 64 KiB", "is it the right file? nfguard.toml has a few KiB")
	case !utf8.Valid(data):
		return "", notUTF8(string(data))
	}
	return string(data), nil
}

// unreadable says why the system would not let us read a file or directory.
func unreadable(name string, err error) *Problem {
	reason := err.Error()
	if perr := (*fs.PathError)(nil); errors.As(err, &perr) {
		reason = perr.Err.Error() // the problem names the path already
	}
	hint := "see what it is: ls -ld " + name
	switch {
	case errors.Is(err, fs.ErrPermission):
		hint = "run nfguard as root, or give the file to its user"
	case errors.Is(err, fs.ErrNotExist):
		hint = "is the name right? without any file the defaults hold: nfguard config show"
	}
	return wrong("cannot be read: "+reason, hint)
}

// openToAll refuses a file or directory that every user of the host can
// change: it would let any of them steer a daemon that runs as root.
func openToAll(name string) *Problem {
	return wrong("is writable by everyone, who could steer nfguard with it", "chmod o-w "+name)
}

// notUTF8 tells the first line of text that is no UTF-8.
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
