package run

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/files"
	"github.com/nfguard/nfguard/internal/printable"
)

// StatusFile is the name of the file in [Dir] that has a daemon's status.
const StatusFile = "status.json"

// Dir is where the daemon leaves its status: systemd's RuntimeDirectory or
// /run/nfguard.
func Dir() string {
	if dir := os.Getenv("RUNTIME_DIRECTORY"); dir != "" {
		return dir
	}
	return "/run/nfguard"
}

// CheckDir says what to do about a runtime directory that is not root's alone.
func CheckDir(dir string) error {
	err := instance.CheckDir(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return &hintError{err, "it has to be root's alone: chown root " + dir + ", chmod 755 " + dir + ", and see who made it"}
}

// MakeDir makes the runtime directory where it is not there.
func MakeDir() (string, error) {
	dir := Dir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return dir, err
	}
	return dir, CheckDir(dir)
}

// publisher writes the status file, in a goroutine of its own: the loop waits
// for no file system.
type publisher struct {
	latest chan daemon.Status // one slot, for the newest
	first  chan struct{}      // closed when that of the first look was written, or could not be
	done   chan struct{}
}

// startPublisher puts s in the place of what an earlier daemon left.
func startPublisher(dir string, s daemon.Status) *publisher {
	if writeStatusFile(dir, s) != nil {
		_ = os.Remove(filepath.Join(dir, StatusFile)) // it names a process that has ended, too
	}
	p := &publisher{latest: make(chan daemon.Status, 1), first: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		first := sync.OnceFunc(func() { close(p.first) })
		defer first()
		for s := range p.latest {
			_ = writeStatusFile(dir, s) // a status that can't be written is no reason to stop guarding
			if s.Pass > 0 {
				first()
			}
		}
	}()
	return p
}

// publish is called by the loop only.
func (p *publisher) publish(s daemon.Status) {
	select {
	case <-p.latest: // nobody needs the older one any more
	default:
	}
	p.latest <- s
}

func (p *publisher) stop() {
	close(p.latest)
	<-p.done
}

// writeStatusFile puts the file in place as a whole, and does not sync it: it
// is of this run of the daemon only.
func writeStatusFile(dir string, s daemon.Status) error {
	text, err := printable.Marshal(s, "  ")
	if err != nil {
		return err
	}
	return files.Replace(filepath.Join(dir, StatusFile), append(text, '\n'), nil)
}
