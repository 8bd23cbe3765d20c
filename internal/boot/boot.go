// Package boot foretells what a host will be like after its next reboot: who
// will have set each guarded sysctl to what, by which line of which file, and
// whether br_netfilter will be loaded by each kernel that is installed.
//
// It reads files below a root, and nothing else: it runs no program, asks no
// kernel and changes nothing. What it says of systemd-sysctl, sysctl(8) and
// modprobe(8) is held against those programs by its tests.
package boot

import (
	"fmt"

	"github.com/nfguard/nfguard/internal/guard"
)

// Options say what is asked of which host.
type Options struct {
	// Root is the directory with the host's files; "" means "/". Symbolic
	// links are followed inside of it.
	Root string

	// Keys are the guarded sysctls with their wanted values.
	Keys []guard.Setting

	// Module is the guarded module; "" means br_netfilter.
	Module string

	// Loaded says that the running kernel has it, whatever the files say.
	Loaded bool

	// Release is that of the running kernel, or "" where none runs: a tree.
	Release string

	// Cmdline is the kernel's command line, as /proc/cmdline has it. The next
	// boot is taken to use the same.
	Cmdline string

	// SysctlD and ModulesLoad are the paths of our drop-ins; "" for none.
	SysctlD     string
	ModulesLoad string
}

// Place is a line of a file, or a word of the kernel's command line.
type Place struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"` // counted from 1; 0: the file as a whole
}

func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// cmdlinePlace is where a word of the kernel's command line stands.
const cmdlinePlace = "the kernel command line"
