// Confine runs a program with the capabilities and the system call filter of a systemd
// unit. It ignores what the unit says about files, devices and namespaces: that costs
// nothing once the program runs.
//
//	confine [-nice N] [-calls FILE] UNIT PROGRAM [ARGUMENT]…
//	confine UNIT
//
// The second form lists the system calls that the unit allows, which takes systemd a
// tenth of a second. With -calls, such a list is read instead.
//
// It exits 125 if it cannot.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

func main() {
	nice := flag.Int("nice", 0, "the niceness")
	calls := flag.String("calls", "", "the file that lists the allowed system calls")
	flag.Parse()
	err := errors.New("usage: confine [-nice N] UNIT PROGRAM [ARGUMENT]…")
	switch {
	case flag.NArg() > 1:
		err = confine(*nice, *calls, flag.Arg(0), flag.Args()[1:])
	case flag.NArg() == 1:
		if err = list(flag.Arg(0)); err == nil {
			return
		}
	}
	fmt.Fprintln(os.Stderr, "confine:", err)
	os.Exit(125)
}

// confine returns only with an error.
func confine(nice int, calls, unit string, words []string) error {
	runtime.LockOSThread() // capabilities and filters belong to a thread
	s, err := read(unit)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(words[0])
	if err != nil {
		return err
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, nice); err != nil {
		return fmt.Errorf("nice %d: %w", nice, err)
	}
	names, err := s.calls(calls)
	if err != nil {
		return err
	}
	if err := s.drop(); err != nil {
		return err
	}
	filter := seccomp.Filter{NoNewPrivs: true, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls:      []seccomp.SyscallGroup{{Names: names, Action: seccomp.ActionAllow}},
	}}
	if err := seccomp.LoadFilter(filter); err != nil {
		return fmt.Errorf("load the filter: %w", err)
	}
	return syscall.Exec(path, words, os.Environ())
}

// settings are the settings of a unit.
type settings struct {
	capabilities []string
	filters      []string // the values of SystemCallFilter=, in their order
}

func read(path string) (s settings, err error) {
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !ok {
			continue
		}
		switch key {
		case "CapabilityBoundingSet":
			s.capabilities = append(s.capabilities, strings.Fields(value)...)
		case "SystemCallFilter":
			s.filters = append(s.filters, value)
		}
	}
	if len(s.filters) == 0 || len(s.capabilities) == 0 {
		return s, fmt.Errorf("%s has no filter or no capabilities", path)
	}
	return s, lines.Err()
}

// drop keeps only the capabilities of the unit, for the program that is executed next.
func (s settings) drop() error {
	have, err := capability.NewPid2(0)
	if err != nil {
		return err
	}
	var keep []capability.Cap
	for _, c := range capability.ListKnown() {
		if slices.Contains(s.capabilities, "CAP_"+strings.ToUpper(c.String())) {
			keep = append(keep, c)
		}
	}
	if len(keep) != len(s.capabilities) {
		return fmt.Errorf("not all of %v are known", s.capabilities)
	}
	have.Clear(capability.CAPS | capability.BOUNDS | capability.AMBIENT)
	have.Set(capability.EFFECTIVE|capability.PERMITTED|capability.BOUNDS, keep...)
	if err := have.Apply(capability.BOUNDS); err != nil { // first, because it takes a capability
		return err
	}
	return have.Apply(capability.CAPS)
}

// list prints the system calls that a unit allows.
func list(unit string) error {
	s, err := read(unit)
	if err != nil {
		return err
	}
	names, err := s.calls("")
	if err == nil {
		_, err = fmt.Println(strings.Join(names, "\n"))
	}
	return err
}

// calls returns the system calls that the unit allows and this machine has, from the
// file that lists them if there is one.
func (s settings) calls(file string) ([]string, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		return strings.Fields(string(text)), err
	}
	machine, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	allowed := make(map[string]bool)
	for i, value := range s.filters {
		value, takes := strings.CutPrefix(value, "~")
		if i == 0 && takes {
			return nil, errors.New("the first SystemCallFilter= has to list what is allowed")
		}
		for _, word := range strings.Fields(value) {
			names, err := expand(word)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				allowed[name] = !takes
			}
		}
	}
	var names []string
	for name, ok := range allowed {
		if _, known := machine.SyscallNames[name]; ok && known {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// expand lists the calls of a set, as systemd defines it.
func expand(word string) ([]string, error) {
	if !strings.HasPrefix(word, "@") {
		return []string{word}, nil
	}
	out, err := exec.Command("systemd-analyze", "syscall-filter", "--no-pager", word).Output()
	if err != nil {
		return nil, fmt.Errorf("systemd-analyze syscall-filter %s: %w", word, err)
	}
	var names []string
	for _, line := range strings.Split(string(out), "\n")[1:] {
		name := strings.TrimSpace(line)
		if name == "" || name[0] == '#' {
			continue
		}
		inner, err := expand(name)
		if err != nil {
			return nil, err
		}
		names = append(names, inner...)
	}
	return names, nil
}
