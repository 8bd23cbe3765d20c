// Package words has the wording that several packages share: for how long, how
// many, and by which process.
package words

import (
	"strconv"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
)

// Short prints a duration with three digits at the most.
func Short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 100*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// Brief prints a duration as people write it: 1m, not 1m0s.
func Brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Count prints how many there are of what, a noun that takes an s: "1 host",
// "2 hosts".
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// Process names a process: "tuned[812]".
func Process(comm string, pid int) string {
	return Comm(comm) + "[" + strconv.Itoa(pid) + "]"
}

// Comm names a program; one whose name could not be read is a process.
func Comm(comm string) string {
	if comm == "" {
		return "process"
	}
	return comm
}

// Writer names the process that wrote, and where it runs: "tuned[812],
// tuned.service". "" means that none was seen.
func Writer(w record.Process) string {
	if w.PID == 0 {
		return ""
	}
	who := Process(w.Comm, w.PID)
	switch {
	case w.PodName != "":
		who += ", pod " + w.PodNamespace + "/" + w.PodName
		if w.ContainerName != "" {
			who += ", container " + w.ContainerName
		}
	case w.Container != "":
		who += ", container " + Container(w.Container)
	case w.Unit != "":
		who += ", " + w.Unit
	}
	return who
}

// Container shortens the id of a container, as docker and crictl do.
func Container(id string) string { return id[:min(12, len(id))] }
