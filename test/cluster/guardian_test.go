package cluster

import (
	"flag"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

var kills = flag.Int("kills", 3, "how many runs are killed at a random moment")

// TestNothingIsLeft: the guardian of a run, its tests, or both are killed, and nothing is
// left; if both were killed, nothing is left after the next run.
func TestNothingIsLeft(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns, lab.Cluster)
	before := traces(t)
	for i := range *kills {
		whom := []string{"the tests", "the guardian", "both"}[i%3]
		moment := rand.N(15 * time.Second)
		t.Logf("%s killed after %v", whom, moment.Round(time.Millisecond))
		run := again("^TestStandalone$")
		var said strings.Builder
		run.Stdout, run.Stderr = &said, &said
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		var tests int
		await(t, "the tests", func() string {
			for _, pid := range childrenOf(run.Process.Pid) {
				tests = pid
				return ""
			}
			return "not started"
		})
		time.Sleep(moment)                                                                 // it is the moment that is tested
		if whom != "the guardian" && slices.Contains(childrenOf(run.Process.Pid), tests) { // it may have ended
			_ = syscall.Kill(tests, syscall.SIGKILL)
		}
		if whom != "the tests" {
			_ = run.Process.Kill()
		}
		_ = run.Wait() // killed
		if whom == "both" {
			if out, err := again("^$").CombinedOutput(); err != nil {
				t.Errorf("the next run: %v\n%s", err, out)
			}
		}
		await(t, "the end of all that a killed run left", func() string { return cmp.Diff(before, traces(t)) })
		if t.Failed() {
			t.Fatal(said.String())
		}
	}
}

// again is another run of these tests.
func again(run string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run="+run)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, guarded+"=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}

func childrenOf(pid int) (list []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // a constant pattern
	for _, path := range stats {
		text, _ := os.ReadFile(path) // gone: empty
		f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(f) > 1 && f[0] != "Z" && f[1] == strconv.Itoa(pid) {
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			list = append(list, n)
		}
	}
	return list
}

// traces returns what a run could leave on the host: directories, control groups,
// processes in them or that have the directory in their arguments, mounts, links, and
// changed sysctls.
func traces(t *testing.T) (list []string) {
	t.Helper()
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*")) // a constant pattern
	list = append(list, dirs...)
	for _, h := range hierarchies() {
		_ = filepath.WalkDir(h.mount, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil //nolint:nilerr // it has gone
			}
			if strings.HasPrefix(d.Name(), prefix) {
				list = append(list, path)
				return fs.SkipDir
			}
			return nil
		})
	}
	groups, _ := filepath.Glob("/proc/[0-9]*/cgroup") // a constant pattern
	for _, path := range groups {
		text, _ := os.ReadFile(path) // gone: empty
		state, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "stat"))
		ended := strings.Contains(string(state), ") Z ") // its parent is this process, which does not ask
		args, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if strings.Contains(string(text)+string(args), prefix) && !ended {
			list = append(list, path)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, string(mounts))
	links, _ := filepath.Glob("/sys/class/net/*") // a constant pattern
	list = append(list, links...)
	for key := range hidden {
		value, _ := os.ReadFile("/proc/sys/" + key)
		list = append(list, key+" = "+string(value))
	}
	sort.Strings(list)
	return list
}
