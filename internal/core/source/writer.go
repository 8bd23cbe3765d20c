package source

import (
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// ReadWriter reads who the process pid is, as far as that is still possible:
// a short-lived one may be gone, its executable first. It never reads a
// command line or an environment.
func ReadWriter(pid int) record.Process {
	p := proc.Read(pid)
	return Located(record.Process{PID: p.PID, Comm: p.Comm, Exe: p.Exe}, p.Cgroup)
}

// Located adds to p where it runs: its control group, as cgroup version 2 has
// it, or systemd's own hierarchy in version 1, and what that tells.
func Located(p record.Process, cgroup string) record.Process {
	place := proc.Locate(cgroup)
	p.Cgroup, p.Unit, p.Container, p.Pod = cgroup, place.Unit, place.Container, place.Pod
	return p
}
