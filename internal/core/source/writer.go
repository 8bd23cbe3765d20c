package source

import "github.com/nfguard/nfguard/internal/kernel/proc"

// ReadWriter reads who the process pid is, as far as that is still possible:
// a short-lived one may be gone, its executable first. It never reads a
// command line or an environment.
func ReadWriter(pid int) Writer {
	p := proc.Read(pid)
	return Writer{PID: p.PID, Comm: p.Comm, Exe: p.Exe, Cgroup: p.Cgroup}
}

// Unit is the systemd unit that runs w: the outermost service, socket,
// mount or scope of its control group, or "" outside of one.
func (w Writer) Unit() string { return proc.Locate(w.Cgroup).Unit }
