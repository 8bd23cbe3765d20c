package readers_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/test/lab"
	"github.com/nfguard/nfguard/test/readers"
)

var trees = flag.Int("trees", 1000, "how many trees of each kind each suite's programs read")

// host is a host of a suite.
type host struct {
	*readers.Box
	t     *testing.T
	suite string
}

func newHost(t *testing.T, suite string) *host {
	t.Helper()
	lab.Need(t, lab.Readers)
	modules := t.TempDir()
	readers.MakeModules(t, modules)
	return &host{readers.Open(t, suite, filepath.Join(modules, "lib/modules")), t, suite}
}

// each runs f for trees that r makes, each in the box, and counts what agrees.
func (h *host) each(seed uint64, family string, make func(*rand.Rand, ...string) readers.Tree, f func(readers.Tree, readers.Inside) (really, foretold string, err error)) {
	h.t.Helper()
	r := rand.New(rand.NewPCG(seed, 2026))
	var lib []string
	if !h.Merged() {
		lib = []string{"lib/" + family}
	}
	agreed := 0
	for i := range *trees {
		tree := make(r, lib...)
		var really, foretold string
		if err := h.In(tree, func(in readers.Inside) (err error) {
			really, foretold, err = f(tree, in)
			return err
		}); err != nil {
			h.t.Fatalf("tree %d: %v", i, err)
		}
		if really == foretold {
			agreed++
		} else if i-agreed < 10 {
			h.t.Errorf("tree %d of %s:\n%s\nreally %s\nforetold %s", i, h.suite, tree, really, foretold)
		}
	}
	h.t.Logf("%s, %s: %d of %d trees as foretold", h.suite, family, agreed, *trees)
	if agreed != *trees {
		h.t.Fail()
	}
}

// suites runs f for each suite.
func suites(t *testing.T, f func(*host)) {
	for _, suite := range readers.Suites {
		t.Run(suite, func(t *testing.T) { f(newHost(t, suite)) })
	}
}

func settings() []guard.Setting {
	var all []guard.Setting
	for _, p := range readers.Probes {
		all = append(all, guard.Setting{Key: guard.Key(strings.ReplaceAll(p, "/", ".")), Value: "99"})
	}
	return append(all, guard.Setting{Key: guard.IPTables, Value: "1"})
}

// foretold is what a reader leaves of the keys.
func foretold(report *boot.Report, reader boot.Reader) string {
	var values []string
	for _, k := range report.Keys {
		value := k.Want
		for _, by := range k.By {
			if by.Reader == reader && by.File != "" {
				value = by.Effect
			}
		}
		values = append(values, value)
	}
	return strings.Join(values, " ")
}

// TestSysctl holds the forecast against systemd-sysctl and `sysctl --system`.
func TestSysctl(t *testing.T) {
	suites(t, func(h *host) {
		h.each(1, "sysctl.d", readers.SysctlTree, func(tree readers.Tree, in readers.Inside) (really, told string, err error) {
			report := boot.Forecast(boot.Options{Root: in.Root, Keys: settings()})
			for _, reader := range []struct {
				name boot.Reader
				run  []string
			}{{boot.SystemdSysctl, []string{"/lib/systemd/systemd-sysctl"}}, {boot.Procps, []string{"/sbin/sysctl", "--system"}}} {
				for _, s := range settings() {
					if err := in.Set(s.Key.Path(), s.Value); err != nil {
						return "", "", err
					}
				}
				if _, err := in.Run(reader.run[0], reader.run[1:]...); err != nil {
					return "", "", err
				}
				var values []string
				for _, s := range settings() {
					value, err := in.Get(s.Key.Path())
					if err != nil {
						return "", "", err
					}
					values = append(values, value)
				}
				really += fmt.Sprintf("%s: %s; ", reader.name, strings.Join(values, " "))
				told += fmt.Sprintf("%s: %s; ", reader.name, foretold(&report, reader.name))
			}
			return really, told, nil
		})
	})
}

// TestModprobe holds the verdict against `modprobe -b`.
func TestModprobe(t *testing.T) {
	suites(t, func(h *host) {
		h.each(2, "modprobe.d", readers.ModprobeTree, func(tree readers.Tree, in readers.Inside) (really, told string, err error) {
			said, err := in.Run("/sbin/modprobe", "-n", "-v", "-b", "-S", readers.Kernel, "br_netfilter")
			if err != nil {
				return "", "", err
			}
			really = strconv.FormatBool(strings.Contains(said, "bridge/br_netfilter.ko") && !strings.Contains(said, "install "))
			m := boot.Running(boot.Options{Root: in.Root, Release: readers.Kernel, Cmdline: tree.Cmdline})
			return really, strconv.FormatBool(m.State == boot.Loadable), nil
		})
	})
}

// TestModulesLoad holds what loads the module against systemd-modules-load's log: in the
// box it may load nothing.
func TestModulesLoad(t *testing.T) {
	suites(t, func(h *host) {
		loaded := 0
		h.each(3, "modules-load.d", readers.LoadTree, func(tree readers.Tree, in readers.Inside) (really, told string, err error) {
			said, err := in.Run("/lib/systemd/systemd-modules-load")
			if err != nil {
				return "", "", err
			}
			loads := false
			for line := range strings.Lines(said) {
				name, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "Loading module: ")
				loads = loads || ok && strings.ReplaceAll(name, "-", "_") == "br_netfilter"
			}
			if loads {
				loaded++
			}
			by := boot.Forecast(boot.Options{Root: in.Root, Cmdline: tree.Cmdline}).Module.LoadedBy
			return strconv.FormatBool(loads), strconv.FormatBool(by != boot.Place{}), nil
		})
		if loaded == 0 || loaded == *trees {
			h.t.Errorf("the module was loaded in %d of %d trees", loaded, *trees)
		}
	})
}

// TestUdevRule has udev say what the packaged rule runs as the module comes, and looks
// whether that is there.
func TestUdevRule(t *testing.T) {
	rule, err := os.ReadFile("../../systemd/nfguard.rules")
	if err != nil {
		t.Fatal(err)
	}
	// A kernel that has the module built in has no device for it.
	rules := strings.NewReplacer(`"module"`, `"mem"`, `"br_netfilter"`, `"null"`).Replace(string(rule))
	suites(t, func(h *host) {
		tree := readers.Tree{Files: map[string]string{"etc/udev/rules.d/99-nfguard.rules": rules}}
		if err := h.In(tree, func(in readers.Inside) error {
			said, err := in.Run("/bin/udevadm", "test", "--action=add", "/sys/devices/virtual/mem/null")
			if err != nil {
				return err
			}
			ran := regexp.MustCompile(`(/\S*/systemd-sysctl) --prefix=/net/bridge`).FindAllStringSubmatch(said, -1)
			programs := make(map[string]bool)
			for _, m := range ran {
				programs[m[1]] = true
			}
			if len(programs) != 1 {
				h.t.Errorf("%s: it runs %v:\n%s", h.suite, programs, said)
			}
			for program := range programs {
				if _, err := os.Stat(filepath.Join(in.Root, program)); err != nil {
					h.t.Errorf("%s: %v", h.suite, err)
				}
			}
			return nil
		}); err != nil {
			h.t.Fatal(err)
		}
	})
}
