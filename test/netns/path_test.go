package netns_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// TestPathOfOneWrite counts the files of nfguard that one foreign write passes,
// from the kernel's event to the record: those of which some block ran at least
// once more for each write than in a run without writes.
func TestPathOfOneWrite(t *testing.T) {
	lab.Need(t, lab.Path)
	covered := filepath.Join(t.TempDir(), "nfguard")
	build := exec.Command("go", "build", "-cover", "-covermode=atomic", "-coverpkg=github.com/nfguard/nfguard/...", "-ldflags", lab.Own, "-o", covered, "github.com/nfguard/nfguard/cmd/nfguard")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nfguard: %v\n%s", err, out)
	}
	const writes = 100 // so that what is done once a second, in a loop, is not taken for a part of each
	none, some := blocks(t, covered, 0), blocks(t, covered, writes)
	ran := make(map[string]int) // blocks, by file
	for block, n := range some {
		if n-none[block] >= writes {
			file, _, _ := strings.Cut(block, ":")
			ran[strings.TrimPrefix(file, "github.com/nfguard/nfguard/")]++
		}
	}
	var files, packages []string
	for file := range ran {
		files, packages = append(files, file), append(packages, path.Dir(file))
	}
	slices.Sort(files)
	slices.Sort(packages)
	packages = slices.Compact(packages)
	var list strings.Builder
	for _, file := range files {
		fmt.Fprintf(&list, "\n%4d blocks  %s", ran[file], file)
	}
	t.Logf("one foreign write passes %d files in %d packages:%s", len(files), len(packages), list.String())
	// As many as there were when this was written. Two are of records that go to
	// standard error, because there is no journal, and one of other files that change in
	// the test's directory.
	const most = 30
	if len(files) == 0 || len(files) > most {
		t.Errorf("a write passes %d files, want some and at most %d", len(files), most)
	}
}

// blocks runs the daemon until it has recorded so many foreign writes, and
// returns how often each of its blocks ran.
func blocks(t *testing.T, binary string, writes int) map[string]int {
	t.Helper()
	counters := t.TempDir()
	n := newNode(t, "[contention]\nlimit = 1000\n") // none of it is a fight
	n.program = binary
	n.start("GOCOVERDIR=" + counters)
	n.awaitReady()
	n.recorded("start", func(r map[string]string) bool { return r["NFGUARD_EVENT"] == "start" })
	before, _ := n.tally()
	for i := range writes {
		n.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
		n.recorded("a drift", func(map[string]string) bool {
			records, _ := n.tallied()
			return records-before > i
		})
		time.Sleep(20 * time.Millisecond) // so that each has its own wake-up
	}
	n.stop()
	text := filepath.Join(counters, "text")
	if out, err := exec.Command("go", "tool", "covdata", "textfmt", "-i="+counters, "-o="+text).CombinedOutput(); err != nil {
		t.Fatalf("covdata: %v\n%s", err, out)
	}
	f, err := os.Open(text)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ran := make(map[string]int)
	for s := bufio.NewScanner(f); s.Scan(); {
		var statements, count int
		block, rest, _ := strings.Cut(s.Text(), " ")
		if _, err := fmt.Sscan(rest, &statements, &count); err == nil {
			ran[block] = count
		}
	}
	return ran
}
