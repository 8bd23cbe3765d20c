package packaging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// debian copies the small Debian 12 of debian.sh.
func debian(t testing.TB) string {
	t.Helper()
	return lab.Debian(t, "debian.sh")
}

// files lists what is below dirs, with the targets of links.
func files(t testing.TB, tree string, dirs ...string) string {
	t.Helper()
	var list strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(tree, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fmt.Fprint(&list, strings.TrimPrefix(path, tree))
			if d.Type() == fs.ModeSymlink {
				target, _ := os.Readlink(path)
				fmt.Fprint(&list, " -> ", target)
			}
			fmt.Fprintln(&list)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list.String()
}

// box is a running Debian with its own systemd, journal and network.
type box struct {
	t      testing.TB
	leader string // its pid 1, as seen from here
}

func boot(t testing.TB, tree string) *box {
	t.Helper()
	write(t, tree+"/etc/nfguard/conf.d/00-here.toml", "namespace = \"own\"\n") // it is a container
	cmd := exec.Command(lab.Tool(t, lab.Root, "systemd-nspawn"),
		"--quiet", "--boot", "--directory="+tree, fmt.Sprint("--machine=nfguard-", os.Getpid()),
		"--private-network", "--register=no", "--keep-unit", "--link-journal=no", "--console=pipe", "--settings=no",
		// As on a host: nspawn otherwise keeps fanotify and modules from root.
		"--capability=CAP_SYS_MODULE", "--system-call-filter=fanotify_init fanotify_mark init_module finit_module")
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "SYSTEMD_NSPAWN_LOCK=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // its PID 1 ends with it
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	lab.RemoveGroups(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	b := &box{t: t}
	t.Cleanup(func() {
		if b.leader != "" {
			_ = b.command("systemctl poweroff --force").Run()
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("console:\n%s", console.Bytes())
		}
	})
	b.until("the system runs", func() bool {
		if b.leader == "" {
			out, _ := exec.Command("pgrep", "-P", strconv.Itoa(cmd.Process.Pid)).Output()
			b.leader = strings.TrimSpace(string(out))
			return false
		}
		out, _ := b.command("systemctl is-system-running").Output()
		return string(out) == "running\n"
	})
	return b
}

// until waits, for as long as a slow machine may take.
func (b *box) until(what string, is func() bool) {
	b.t.Helper()
	const limit = 5 * time.Minute
	for deadline := time.Now().Add(limit); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("after %v still not so: %s", limit, what)
		}
	}
}

func (b *box) command(script string) *exec.Cmd {
	return exec.Command("nsenter", "--target", b.leader, "--all", "sh", "-c", script)
}

// sh runs a script in the box, and returns its output without the last newline.
func (b *box) sh(script string) string {
	b.t.Helper()
	out, err := b.command(script).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// is fails the test if script does not print want.
func (b *box) is(want, script string) {
	b.t.Helper()
	out, _ := b.command(script).CombinedOutput()
	if got := strings.TrimSuffix(string(out), "\n"); got != want {
		b.t.Errorf("%s: want %q, got %q", script, want, got)
	}
}

// record waits for a record of nfguard that matches, and returns the last one.
func (b *box) record(match string) map[string]any {
	b.t.Helper()
	var last map[string]any
	b.until("there is a record with "+match, func() bool {
		for line := range strings.Lines(b.sh("journalctl -u nfguard -o json -n 1 --no-pager " + match)) {
			last = map[string]any{}
			if err := json.Unmarshal([]byte(line), &last); err != nil {
				b.t.Fatalf("%v: %s", err, line)
			}
		}
		return last != nil
	})
	return last
}
