package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/demo/box"
	"github.com/nfguard/nfguard/test/lab"
	"github.com/nfguard/nfguard/test/markdown"
)

var update = flag.Bool("update", false, "have TestPages write what the commands print into the pages")

const (
	root    = "../.."
	machine = "0123456789abcdef0123456789abcdef"
	boot    = "fedcba9876543210fedcba9876543210"
)

// TestPages enters what the pages show after a prompt, each block on a new worker, and
// compares what is printed. With a block that has no prompt, each line is a command that
// has to end with exit code 0.
func TestPages(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	for _, tool := range []string{"systemd-journal-remote", "jq"} {
		lab.Tool(t, lab.Root, tool)
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "nfguard"), "./cmd/nfguard")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	pages, err := markdown.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, page := range pages {
		blocks, err := markdown.Blocks(root, page)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(blocks) // so that an update moves none that is still to be read
		for _, b := range blocks {
			if b.Kind != "run" {
				continue
			}
			count++
			t.Run(b.String(), func(t *testing.T) { enter(t, bin, b) })
		}
	}
	if count < 10 {
		t.Errorf("the pages have %d blocks with commands to enter", count)
	}
}

// enter runs the commands of a block. On a machine that stalls, a probe can find silence
// where there is none, so what differs is entered again on a new worker, twice at most.
func enter(t *testing.T, bin string, b *markdown.Block) {
	var wrong []string
	for range 3 {
		session := b.Session()
		if wrong = try(t, bin, b, session); len(wrong) == 0 {
			return
		}
		if *update && session != nil {
			if err := b.Rewrite(root, session); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Error(strings.Join(wrong, "\n"))
}

// try runs the commands once and says what is not as on the page. The session then has
// what was printed, but where the page has only a part of it.
func try(t *testing.T, bin string, b *markdown.Block, session []markdown.Command) (wrong []string) {
	world, tolerated, _ := strings.Cut(b.Args, ", ")
	n := newNode(t, bin, world)
	defer n.end(t)
	if session == nil {
		for _, line := range b.Lines {
			var exit *exec.ExitError
			out, err := n.sh(t, line)
			if errors.As(err, &exit) && exit.ExitCode() == 1 && tolerated == "exit code 0 or 1" {
				err = nil
			}
			if err != nil {
				wrong = append(wrong, fmt.Sprintf("%s: %v\n%s", line, err, out))
			}
		}
		return wrong
	}
	for i, c := range session {
		out, _ := n.sh(t, c.Input)
		got := strings.Split(strings.TrimRight(out, "\n"), "\n")
		if out == "" {
			got = nil
		}
		want := c.Output
		for len(want) > 0 && want[len(want)-1] == "" {
			want = want[:len(want)-1] // an empty line between two commands
		}
		if alike(want, got) {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s\nthe page has\n%s\nbut it prints\n%s", c.Input, strings.Join(want, "\n"), strings.Join(got, "\n")))
		if slices.Contains(want, "…") {
			if !*update {
				continue
			}
			t.Errorf("%s: write by hand what the page shows a part of; it prints\n%s", c.Input, strings.Join(got, "\n"))
			continue
		}
		session[i].Output = got
	}
	return wrong
}

// alike compares two outputs but for what differs from run to run. "…" in want stands for
// any lines.
func alike(want, got []string) bool {
	if len(want) > 0 && want[0] == "…" {
		for i := range len(got) + 1 {
			if alike(want[1:], got[i:]) {
				return true
			}
		}
		return false
	}
	if len(want) == 0 || len(got) == 0 {
		return len(want) == len(got)
	}
	return steady(want[0]) == steady(got[0]) && alike(want[1:], got[1:])
}

// varies is what differs from run to run, and from machine to machine.
var varies = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\(Linux [^)]+\)`), "(Linux X)"},
	{regexp.MustCompile(`(?:[0-9a-f]{2}:){5}[0-9a-f]{2}`), "MAC"},
	{regexp.MustCompile(`\b[a-z-]+\[\d+\]`), "PROCESS[PID]"},
	{regexp.MustCompile(`^\d+ (events,|records) `), "N $1 "}, // a bridge can be told of before the end or not
	{regexp.MustCompile(`\brecords 1 to \d+,`), "records 1 to N,"},
	{regexp.MustCompile(`\bpid \d+, `), "pid PID, "},
	{regexp.MustCompile(`\blook \d+ ended `), "look N ended "},
	{regexp.MustCompile(`\bsubscribed: .*`), "subscribed"}, // by what the kernel has
	{regexp.MustCompile(`\bnet:\[\d+\]`), "NETNS"},
	{regexp.MustCompile(`\(and \d+ more packets? this way\)`), ""},
	{regexp.MustCompile(`\b(OBJECT_PID|_PID)=\d+`), "$1=PID"},
	{regexp.MustCompile(`\b[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?\b`), "TIME"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ns|µs|ms|s|m|h)\b`), "DURATION"},
	{regexp.MustCompile(`\bnfguard (devel\S*|v\S+)|\(devel[^,]*,|\b[0-9a-f]{7,12}(-dirty)?\b`), "VERSION"},
	{regexp.MustCompile(`:\d{5}\b`), ":PORT"},
	{regexp.MustCompile(`next boot: (built in|by .*)`), "next boot: loaded"},
	// A kernel that does not keep what a program stores in place of a value has it put right.
	{regexp.MustCompile(`was 0, set back to 1 after DURATION \(written by (PROCESS\[PID\])\)|stays 1: (PROCESS\[PID\]) wrote 0, which was rewritten`), "KEPT from $1$2"},
	{regexp.MustCompile(`  +`), "  "},
}

func steady(line string) string {
	for _, v := range varies {
		line = v.pattern.ReplaceAllString(line, v.by)
	}
	return strings.TrimRight(line, " ")
}

// node is the demo's worker with an /etc, a host name and a journal of its own.
type node struct {
	*cluster
	bin    string
	log    records
	daemon *box.Daemon
	stop   func()      // ends the servers and the pods' processes
	pods   []*exec.Cmd // their processes
	drifts int         // those that have to be in the log
	starts []start     // of nfguard
}

// start is where the records of a process begin in the log.
type start struct{ offset, pid int }

// newNode makes a worker as a mark asks for:
//
//	bare      the drop-ins are there, but one key is 0, and no nfguard runs
//	tree      the tree of an image is in /srv/tree
//	guarded   nfguard runs, and has put nothing right yet
//	observed  the same in mode observe
//	history   nfguard has had something to do, and has been started again
func newNode(t *testing.T, bin, mark string) *node {
	t.Helper()
	c, err := newCluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := &node{cluster: c, bin: bin}
	var ctx context.Context
	ctx, n.stop = context.WithCancel(t.Context())
	t.Cleanup(func() { n.end(t) })
	if err := serve(ctx, c.server); err != nil {
		t.Fatal(err)
	}
	for _, pod := range []*box.Box{c.client, c.server} { // so that a process is there, as in a pod
		sleep := pod.Command(ctx, "sleep", "inf")
		if err := pod.Start(sleep); err != nil {
			t.Fatal(err)
		}
		n.pods = append(n.pods, sleep)
	}
	if err := c.worker.Do(n.furnish); err != nil {
		t.Fatal(err)
	}
	n.must(t, "journalctl --update-catalog")
	n.must(t, "nfguard apply")
	switch mark {
	case "bare":
		n.must(t, "{ yes '# hardening' | head -n 11; echo '"+keys[0]+" = 0'; } >/etc/sysctl.conf")
		n.must(t, "sysctl -w "+keys[0]+"=0")
	case "tree":
		n.must(t, "mkdir -p /srv/tree/etc")
	case "guarded":
		n.start(t)
	case "observed":
		n.must(t, "echo 'mode = \"observe\"' >/etc/nfguard/conf.d/observe.toml")
		n.start(t)
	case "history":
		n.must(t, "sysctl -w "+keys[2]+"=0") // found at start
		n.start(t)
		n.must(t, "sysctl -w "+keys[0]+"=0")
		n.await(t, func(r record) bool { return r["NFGUARD_EVENT"] == "drift" && r["NFGUARD_SUBJECT"] == keys[0] })
		n.must(t, "sysctl -w "+keys[1]+"=0x0")
		n.must(t, "echo 'mode = \"enfroce\"' >/run/typo && mv /run/typo /etc/nfguard/conf.d/60-typo.toml")
		n.await(t, func(r record) bool { return r["NFGUARD_EVENT"] == "config" && r["NFGUARD_OUTCOME"] == "failed" })
		n.must(t, "rm /etc/nfguard/conf.d/60-typo.toml")
		n.await(t, func(r record) bool { return r["NFGUARD_EVENT"] == "config" && r["NFGUARD_OUTCOME"] != "failed" })
		n.await(t, func(r record) bool { return r["NFGUARD_EVENT"] == "drift" && r["NFGUARD_SUBJECT"] == keys[1] })
		if err := n.daemon.Stop(); err != nil {
			t.Fatal(err)
		}
		n.start(t)
	default:
		t.Fatalf("no such worker: %s", mark)
	}
	return n
}

// start starts nfguard with the worker's own configuration; the shell leaves out the one
// that a box has for its daemons.
func (n *node) start(t *testing.T) {
	t.Helper()
	var err error
	offset := len(n.log.String())
	n.daemon, err = n.worker.StartDaemon(context.Background(), &n.log, filepath.Join(n.bin, "nfguard"), "sh", "-c", `exec "$0" run`)
	if err != nil {
		t.Fatalf("%v\n%s", err, n.log.String())
	}
	n.starts = append(n.starts, start{offset, n.daemon.PID()})
}

// end ends what runs on the worker, and the worker. It can be called again.
func (n *node) end(t *testing.T) {
	t.Helper()
	if n.cluster == nil {
		return
	}
	if n.daemon != nil {
		if err := n.daemon.Stop(); err != nil {
			t.Error(err)
		}
	}
	n.stop()
	for _, pod := range n.pods {
		_ = pod.Wait() // it was stopped
	}
	n.close()
	n.cluster = nil
}

// await waits for a record.
func (n *node) await(t *testing.T, wanted func(record) bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for line := range strings.Lines(n.log.String()) {
			var rec record
			if json.Unmarshal([]byte(line), &rec) == nil && wanted(rec) {
				return
			}
		}
	}
	t.Fatalf("no such record within a minute:\n%s", n.log.String())
}

func (n *node) must(t *testing.T, line string) {
	t.Helper()
	if out, err := n.sh(t, line); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// furnish gives the worker what a host has. It runs on the thread of the box.
func (n *node) furnish() error {
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("worker-3")); err != nil {
		return err
	}
	for _, dir := range []string{"/run/etc/upper", "/run/etc/work"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work"); err != nil {
		return fmt.Errorf("mount /etc: %w", err)
	}
	for _, dir := range []string{"/etc/sysctl.d", "/etc/modules-load.d", "/etc/modprobe.d", "/etc/nfguard", "/etc/cni/net.d", "/run/home"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	// A stand-in: nothing here is a cluster.
	if err := os.WriteFile("/run/home/kubectl", []byte("#!/bin/sh\n"), 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/var/log", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /var/log: %w", err)
	}
	for _, dir := range []string{"/srv", "/mnt", "/usr/lib/systemd/catalog", "/var/lib/systemd/catalog"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	catalog, err := os.ReadFile(root + "/systemd/nfguard.catalog")
	if err != nil {
		return err
	}
	for _, dir := range []string{"/etc/nfguard/conf.d", "/run/log/journal/" + machine} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	cni := `{"cniVersion": "0.4.0", "name": "pods", "type": "bridge", "bridge": "cnio0", "isGateway": true,
"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.200.2.0/24", "rangeStart": "10.200.2.64"}]], "dataDir": "/run/cni"}}`
	for path, text := range map[string]string{
		"/etc/machine-id":                          machine + "\n",
		"/etc/sysctl.conf":                         "",
		"/etc/cni/net.d/10-bridge.conf":            cni,
		"/usr/lib/systemd/catalog/nfguard.catalog": string(catalog),
	} {
		os.Remove(path) // it can be a link out of /etc
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// sh has a shell of the worker run a line.
func (n *node) sh(t *testing.T, line string) (string, error) {
	t.Helper()
	if n.daemon != nil && regexp.MustCompile(`journalctl|nfguard events`).MatchString(line) {
		writer := n.keep(t)
		line = regexp.MustCompile(`OBJECT_PID=\d+`).ReplaceAllString(line, "OBJECT_PID="+writer)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := n.worker.Run(ctx, "", "env", "PATH="+n.bin+":/run/home:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "NO_COLOR=1", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=",
		"sh", "-c", "cd /run/home; "+line)
	if n.daemon != nil && strings.HasPrefix(line, "sysctl -w net.bridge") {
		n.drifts++
	}
	return out, err
}

// keep puts the records into the worker's journal, when those of all writes are there, and
// returns the PID of the first writer. As there is no systemd, it notes what journald would
// have noted of the unit.
func (n *node) keep(t *testing.T) (writer string) {
	t.Helper()
	var export strings.Builder
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		seen := 0
		export.Reset()
		writer = ""
		begun, offset, starts := 0, 0, n.starts
		for line := range strings.Lines(n.log.String()) {
			if offset += len(line); len(starts) > 1 && offset > starts[1].offset {
				starts = starts[1:]
			}
			var rec record
			if json.Unmarshal([]byte(line), &rec) != nil {
				continue
			}
			if rec["NFGUARD_EVENT"] == "start" {
				begun++
			}
			if rec["NFGUARD_EVENT"] == "drift" && rec["NFGUARD_SOURCE"] == "sysctl" {
				seen++
				writer = cmp.Or(writer, fmt.Sprint(rec["OBJECT_PID"]))
			}
			at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(rec["NFGUARD_TIME"]))
			if err != nil {
				at = time.Now() // a line of the log
			}
			fmt.Fprintf(&export, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\n_MACHINE_ID=%s\n_HOSTNAME=worker-3\n_TRANSPORT=journal\n_UID=0\n_PID=%d\n_COMM=nfguard\n_SYSTEMD_UNIT=nfguard.service\n",
				at.UnixMicro(), at.UnixMicro(), boot, machine, starts[0].pid)
			for name, value := range rec {
				if strings.HasPrefix(name, "_") {
					continue
				}
				fmt.Fprintf(&export, "%s=%s\n", name, strings.ReplaceAll(fmt.Sprint(value), "\n", " "))
			}
			export.WriteString("\n")
		}
		if seen >= n.drifts && begun == len(n.starts) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d records within a minute:\n%s", seen, n.drifts, n.log.String())
		}
	}
	file := "/run/log/journal/" + machine + "/system.journal"
	remote := lab.Tool(t, lab.Root, "systemd-journal-remote")
	if out, err := n.worker.Run(t.Context(), export.String(), "sh", "-c", "rm -f "+file+"; exec "+remote+" --output="+file+" -"); err != nil {
		t.Fatalf("systemd-journal-remote: %v\n%s", err, out)
	}
	return writer
}
