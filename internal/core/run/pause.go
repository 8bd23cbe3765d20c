package run

import (
	"os"
	"strconv"
	"strings"

	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/pause"
	"github.com/nfguard/nfguard/internal/core/source"
)

// asked reads what is asked for of a pause, and looks who asks while that process
// still waits for the answer.
func asked(dir string) pause.Asked {
	a := pause.Read(dir)
	if a.Request == nil {
		return a
	}
	p := &a.Request.Process
	if s, err := p.State(); err == nil && s == instance.Running {
		by := askerOf(p.PID)
		if s, err := p.State(); err == nil && s == instance.Running { // still the same
			by.Seen = true
			a.Request.By = by
		}
	}
	return a
}

// Asker is this process, as one that asks for a pause.
func Asker() pause.Asker { return askerOf(os.Getpid()) }

func askerOf(pid int) pause.Asker {
	w := source.ReadWriter(pid)
	a := pause.Asker{PID: w.PID, Comm: w.Comm, Unit: w.Unit, Container: w.Container, Pod: w.Pod}
	dir := "/proc/" + strconv.Itoa(pid)
	if text, err := os.ReadFile(dir + "/status"); err == nil {
		for line := range strings.Lines(string(text)) {
			if ids, ok := strings.CutPrefix(line, "Uid:"); ok { // real, effective, saved, of the file system
				if f := strings.Fields(ids); len(f) > 0 {
					a.UID = f[0]
				}
			}
		}
	}
	const nobody = "4294967295" // nobody has logged in
	if text, err := os.ReadFile(dir + "/loginuid"); err == nil && strings.TrimSpace(string(text)) != nobody {
		a.LoginUID = strings.TrimSpace(string(text))
	}
	return a
}
