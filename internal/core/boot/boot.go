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

	"github.com/nfguard/nfguard/internal/core/guard"
)

// Options say what is asked of which host.
type Options struct {
	// Root is the directory with the host's files; "" means "/". Symbolic
	// links are followed inside of it.
	Root string

	// Image says that Root is not the running host's: what is below /proc, /sys,
	// /dev and /run there does not count.
	Image bool

	// Apply is the command that writes our drop-ins; "" means "nfguard apply".
	Apply string

	// Keys are the guarded sysctls with their wanted values.
	Keys []guard.Setting

	// Module is the guarded module; "" means br_netfilter.
	Module string

	// Unneeded says that nothing is lost where the module is not loaded.
	Unneeded bool

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

	// Reading is told of each file or directory before it is looked at, for a
	// disk can hang. Nil: nobody wants to know.
	Reading func(path string)
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

// remove is the next step against what stands there.
func (p Place) remove() string {
	if p.File == cmdlinePlace {
		return nextBootLoader
	}
	return nextRemoveLine
}

// cmdlinePlace is where a word of the kernel's command line stands.
const cmdlinePlace = "the kernel's command line"

// Finding is one thing that a person should know before the next boot. It is
// comparable, so that what was found twice can be told from what is new.
type Finding struct {
	Subject  string `json:"subject"`        // a key, a module, a kernel release, a path
	Place    Place  `json:"place,omitzero"` // the line that decides; zero when it is none
	Sentence string `json:"sentence"`       // what will be, and why
	Next     string `json:"next"`           // what to do about it
	Breaks   bool   `json:"breaks"`         // the host will not be as wanted
}

// Report is the forecast. Two of them for the same files are deeply equal.
type Report struct {
	Keys     []Key     `json:"keys"`     // in the order of Options.Keys
	Dropin   Dropin    `json:"dropin"`   // ours in sysctl.d
	Module   Module    `json:"module"`   // on the running kernel
	Kernels  []Kernel  `json:"kernels"`  // by release
	Findings []Finding `json:"findings"` // keys, then the module, then kernels

	// Others carry the state over a reboot without our drop-ins.
	Others Others `json:"-"`

	// Unread is what could not be read, with the reason. Where it is not
	// empty, the forecast may be wrong about what is in there.
	Unread []string `json:"unread,omitempty"`
}

// Forecast reads the host's files and says what the next boot will bring. It
// never fails: what cannot be read is in [Report.Unread].
func Forecast(o Options) Report {
	t := open(&o)
	defer t.close()
	f := forecast{o: &o, t: t, words: parseCmdline(o.Cmdline), report: Report{Findings: []Finding{}}}
	for _, s := range o.Keys {
		f.paths = append(f.paths, s.Key.Path())
	}
	f.kernels()
	f.by, f.missed, f.early = f.loader(o.Module)
	f.others()
	f.keys()
	f.module()
	f.labels()
	f.report.Others = f.carried()
	f.report.Unread = t.unread
	return f.report
}

// Running judges only whether the module can be loaded into the running
// kernel, which is much less to read.
func Running(o Options) Module {
	t := open(&o)
	defer t.close()
	f := forecast{o: &o, t: t, words: parseCmdline(o.Cmdline)}
	return f.running(f.kernel(o.Release))
}

// forecast is a report in the making.
type forecast struct {
	o      *Options
	t      *tree
	words  []word
	files  []string     // that systemd-sysctl reads
	lines  []assignment // in them
	paths  []string     // of the guarded keys, below /proc/sys
	starts []start      // what is run at boot
	spent  int          // on reading commands
	by     Place        // what has systemd-modules-load load the module
	missed *miss        // a line that is meant to
	early  bool         // it is loaded before systemd-sysctl
	report Report
}

func (f *forecast) found(s Finding) { f.report.Findings = append(f.report.Findings, s) }
