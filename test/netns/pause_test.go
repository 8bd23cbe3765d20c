package netns_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/kernel/monotonic"
	"github.com/nfguard/nfguard/test/lab"
)

// said runs nfguard on the node, and returns what it printed and its exit code.
func (n *node) said(args ...string) (out, errs string, code int) {
	n.t.Helper()
	cmd := n.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		n.t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// pause has the daemon paused.
func (n *node) pause(length string) {
	n.t.Helper()
	out, errs, code := n.said("pause", length, "--reason", "a new CNI plugin")
	if code != 0 || !strings.HasPrefix(out, "paused until ") {
		n.t.Fatalf("pause: exit %d: %s%s", code, out, errs)
	}
}

// paused is the status of the node: its exit code, and its pause as JSON has it.
type paused struct {
	State, Sentence string
	Pass            uint64
	Pause           *struct {
		Reason string
		By     struct {
			Comm string
			UID  string
			Seen bool
		}
	}
}

func (n *node) status() (s paused) {
	n.t.Helper()
	out, errs, _ := n.said("status", "-o", "json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		n.t.Fatalf("status: %v: %s", err, errs)
	}
	lab.Schema(n.t, "status", []byte(out))
	return s
}

// stays waits for two more looks at everything, and checks that the keys are as wanted
// all the time.
func (n *node) stays(want string) {
	n.t.Helper()
	first := n.status().Pass
	for deadline := time.Now().Add(atMost); ; time.Sleep(20 * time.Millisecond) {
		if got := n.values(); got != want {
			n.t.Fatalf("the keys are %s, want them to stay %s", got, want)
		}
		if n.status().Pass >= first+2 {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatal("no two looks within a minute")
		}
	}
}

// about returns what tells a record of a kind whose message contains a text.
func about(event, text string) func(map[string]string) bool {
	return func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == event && strings.Contains(r["MESSAGE"], text)
	}
}

// some returns those fields of a record.
func some(r map[string]string, names ...string) map[string]string {
	out := map[string]string{}
	for _, name := range names {
		out[name] = r[name]
	}
	return out
}

const oftenLooks = "[timing]\naudit = \"1s\"\n"

// TestPause is a maintenance: what is changed meanwhile stays, and is recorded; also
// while the daemon is started again; and the end puts all right.
func TestPause(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	t.Parallel()
	for _, mode := range []string{"enforce", "lock"} {
		t.Run(mode, func(t *testing.T) {
			n := newNode(t, fmt.Sprintf("mode = %q\n[metrics]\ntextfile = %q\n", mode, t.TempDir()+"/nfguard.prom")+oftenLooks)
			if err := os.Mkdir(n.file("conf.d"), 0o755); err != nil {
				t.Fatal(err)
			}
			n.start()
			n.awaitReady()
			n.becomes("1 1 1", atMost)
			n.pause("1h")
			begun := n.recorded("the pause", about("pause", "paused for 1h"))
			if diff := cmp.Diff(map[string]string{
				"NFGUARD_OUTCOME": "paused", "NFGUARD_REASON": "a new CNI plugin", "OBJECT_COMM": "nfguard", "NFGUARD_UID": "0",
				"NFGUARD_NEXT": "nfguard resume ends it", "NFGUARD_SOURCE": "pause", "NFGUARD_SUBJECT": "nfguard",
			}, some(begun, "NFGUARD_OUTCOME", "NFGUARD_REASON", "OBJECT_COMM", "NFGUARD_UID", "NFGUARD_NEXT", "NFGUARD_SOURCE", "NFGUARD_SUBJECT")); diff != "" {
				t.Error(diff)
			}
			if free := strings.Contains(begun["MESSAGE"], "writers are let through"); free != (mode == "lock") {
				t.Errorf("mode %s: %s", mode, begun["MESSAGE"])
			}
			n.write("conf.d/more.toml", "[sysctl]\n\"net.ipv4.ip_forward\" = 1\n") // which takes another program
			n.recorded("the reload", about("config", "the configuration was reloaded"))
			n.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
			left := n.recorded("what was left so", about("drift", "net.bridge.bridge-nf-call-iptables is 0, wanted 1"))
			if left["NFGUARD_OUTCOME"] != "paused" || left["OBJECT_COMM"] != "sysctl" || !strings.HasSuffix(left["MESSAGE"], "; left so: nfguard is paused") {
				t.Errorf("%v", left)
			}
			n.stays("0 1 1")

			s := n.status()
			if s.State != "degraded" || s.Pause == nil || s.Pause.Reason != "a new CNI plugin" || s.Pause.By.Comm != "nfguard" || !s.Pause.By.Seen {
				t.Errorf("status: %+v", s)
			}
			if out, _, code := n.said("status"); code != 1 || !strings.HasPrefix(out, "degraded: paused until ") {
				t.Errorf("status: exit %d: %s", code, out)
			}
			out, _, code := n.said("check")
			if code != 1 || !strings.Contains(out, "nfguard is paused until ") || !strings.Contains(out, "a new CNI plugin") ||
				!strings.Contains(out, "nfguard resume ends the pause, and puts it right; nfguard apply puts it right once") || strings.Contains(out, "systemctl start") {
				t.Errorf("check: exit %d: %s", code, out)
			}
			out, _, _ = n.said("check", "-o", "json")
			lab.Schema(t, "check", []byte(out))
			if !strings.Contains(out, `"reason": "a new CNI plugin"`) {
				t.Errorf("check: %s", out)
			}
			n.mu.Lock()
			told := strings.Join(n.states, "\n")
			n.mu.Unlock()
			if !strings.Contains(told, "STATUS=paused until ") {
				t.Errorf("the service manager was told: %s", told)
			}

			n.stop()
			if err := os.Remove(n.file("notify")); err != nil {
				t.Fatal(err)
			}
			n.start()
			n.awaitReady()
			n.recorded("the pause after a start", about("pause", "still paused after a start, until "))
			n.stays("0 1 1")

			if out, errs, code := n.said("resume"); code != 0 || !strings.HasPrefix(out, "the pause has ended after ") {
				t.Errorf("resume: exit %d: %s%s", code, out, errs)
			}
			n.becomes("1 1 1", atMost)
			if r := n.recorded("what is put right", about("drift", "at the end of a pause")); r["NFGUARD_OUTCOME"] != "corrected" || r["NFGUARD_SOURCE"] != "pause" {
				t.Errorf("%v", r)
			}
			ended := n.recorded("the end of the pause", about("pause", `"nfguard resume" was asked for by nfguard[`))
			if ended["NFGUARD_OUTCOME"] != "corrected" || !strings.HasSuffix(ended["MESSAGE"], "; put right, as it was at its end: net.bridge.bridge-nf-call-iptables was 0") {
				t.Errorf("%v", ended)
			}
			if out, _, code := n.said("resume"); code != 0 || out != "nfguard is not paused\n" {
				t.Errorf("resume again: exit %d: %s", code, out)
			}
			if s := n.status(); s.Pause != nil {
				t.Errorf("status: %+v", s)
			}
			if mode == "lock" {
				if err := n.Command("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0").Run(); err == nil {
					t.Error("after the pause a writer is let through")
				}
				n.recorded("the refusal", func(r map[string]string) bool { return r["NFGUARD_EVENT"] == "denied" })
			}
		})
	}
}

// TestPauseEndsByItself: nobody has to do anything at its end. A second pause takes the
// place of the first.
func TestPauseEndsByItself(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	t.Parallel()
	n := newNode(t, oftenLooks)
	n.start()
	n.awaitReady()
	for _, command := range [][]string{{"pause", "1h", "--reason", "x"}, {"resume"}, {"resume"}} {
		out, errs, code := n.said(append(command, "-o", "json")...)
		if code != 0 {
			t.Errorf("%q: exit %d: %s", command, code, errs)
		}
		lab.Schema(t, "pause", []byte(out))
	}
	for length := 2 * time.Second; ; length *= 2 { // a slow machine may come too late
		n.pause("1h")
		n.forget()
		n.pause(length.String())
		n.recorded("the change", about("pause", "the pause was changed: it ends at "))
		n.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-arptables=0x0")
		r := n.recorded("what was written", func(r map[string]string) bool { return r["NFGUARD_EVENT"] == "drift" })
		if r["NFGUARD_OUTCOME"] == "paused" {
			break
		}
		if length > atMost {
			t.Fatalf("the write came too late again and again: %v", r)
		}
	}
	n.becomes("1 1 1", atMost)
	ended := n.recorded("the end", about("pause", ": its time was over; put right, as it was at its end: net.bridge.bridge-nf-call-arptables was 0"))
	if ended["OBJECT_PID"] != "" {
		t.Errorf("nobody asked for the end: %v", ended)
	}
	n.forget()
	n.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-arptables=0x0")
	n.becomes("1 1 1", atMost)
	n.recorded("a correction as before", func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == "drift" && r["NFGUARD_OUTCOME"] == "corrected" && r["OBJECT_COMM"] == "sysctl"
	})
}

// TestPauseIsRefused: where it is not what it should be, and where there is nothing
// that could be paused.
func TestPauseIsRefused(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	t.Parallel()
	n := newNode(t, `mode = "observe"`+"\n")
	try := func(name string, want string, wantCode int, args ...string) {
		t.Helper()
		out, errs, code := n.said(args...)
		if code != wantCode || !strings.Contains(out+errs, want) {
			t.Errorf("%s: exit %d, want %d and %q: %s%s", name, code, wantCode, want, out, errs)
		}
	}
	try("no daemon", "nfguard is not running", 2, "pause", "1h", "--reason", "x")
	n.start()
	n.awaitReady()
	try("no reason", "it has no reason", 2, "pause", "1h")
	try("an empty reason", "it has no reason", 2, "pause", "1h", "--reason", " ")
	try("a reason of two lines", "characters that can't be printed", 2, "pause", "1h", "--reason", "a\nb")
	try("no end", "accepts 1 arguments", 2, "pause", "--reason", "x")
	try("no length", "it has no end", 2, "pause", "0s", "--reason", "x")
	try("a week", "it takes more than 24h", 2, "pause", "168h", "--reason", "x")
	try("a tree", "no daemon runs in a tree", 2, "pause", "1h", "--reason", "x", "--root", t.TempDir())
	try("observe", "not paused: in mode observe nothing is corrected anyway\n", 1, "pause", "1h", "--reason", "x")
	if s := n.status(); s.Pause != nil {
		t.Errorf("status: %+v", s)
	}
	if _, err := os.Stat(n.file("run/pause.json")); err == nil {
		t.Error("a refused request is still there")
	}
}

// TestPauseFileOfOthers: what is no request, or asks for too much, is recorded and pauses
// nothing; and one that takes the place of a pause ends it.
func TestPauseFileOfOthers(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	t.Parallel()
	n := newNode(t, oftenLooks)
	n.start()
	n.awaitReady()
	self, err := instance.Self()
	if err != nil {
		t.Fatal(err)
	}
	path := n.file("run/pause.json")
	request := func(change func(r map[string]any)) string {
		r := map[string]any{
			"schema": 1, "verb": "pause", "boot_id": self.Boot, "asked_boottime_usec": monotonic.Boot() / 1000, "for_usec": int64(time.Hour / time.Microsecond),
			"reason": "x", "process": self, "by": map[string]any{},
		}
		change(r)
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	put := func(text string, mode os.FileMode, uid int) func() error {
		return func() error {
			return errors.Join(os.WriteFile(path+".new", []byte(text), mode), os.Chmod(path+".new", mode), os.Chown(path+".new", uid, 0), os.Rename(path+".new", path))
		}
	}
	valid := request(func(map[string]any) {})
	for _, tt := range []struct {
		name string
		make func() error
		want string
	}{
		{"not JSON", put("pause please\n", 0o600, 0), "it is no request of nfguard"},
		{"an unknown field", put(request(func(r map[string]any) { r["exec"] = "sh" }), 0o600, 0), `unknown field "exec"`},
		{"two", put(valid+valid, 0o600, 0), "it is not one JSON object"},
		{"too long", put(strings.Repeat(" ", 5000)+valid, 0o600, 0), "is larger than 4 KiB"},
		{"of two days", put(request(func(r map[string]any) { r["for_usec"] = int64(48 * time.Hour / time.Microsecond) }), 0o600, 0), "it takes more than 24h"},
		{"without end", put(request(func(r map[string]any) { delete(r, "for_usec") }), 0o600, 0), "it has no end"},
		{"without a reason", put(request(func(r map[string]any) { r["reason"] = "" }), 0o600, 0), "it has no reason"},
		{"of the future", put(request(func(r map[string]any) { r["asked_boottime_usec"] = monotonic.Boot()/1000 + 3600e6 }), 0o600, 0), "it was asked for in the future"},
		{"everybody's", put(valid, 0o666, 0), "is writable by everyone"},
		{"another user's", put(valid, 0o600, 1000), "is owned by uid 1000"},
		{"a link", func() error {
			return errors.Join(put(valid, 0o600, 0)(), os.Rename(path, path+".there"), os.Symlink(path+".there", path))
		}, "is a symbolic link"},
		{"a FIFO", func() error { return syscall.Mkfifo(path, 0o600) }, "is a FIFO"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n.pause("1h")
			if err := os.Remove(path); err != nil { // the end of it
				t.Fatal(err)
			}
			n.becomesPaused(false)
			n.forget()
			if err := tt.make(); err != nil {
				t.Fatal(err)
			}
			r := n.recorded("the refusal", about("pause", tt.want))
			if r["NFGUARD_OUTCOME"] != "failed" || !strings.HasPrefix(r["MESSAGE"], "a pause ") || !strings.Contains(r["MESSAGE"], "refused: ") {
				t.Errorf("%v", r)
			}
			n.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0x0")
			n.becomes("1 1 1", atMost)
			if s := n.status(); s.Pause != nil {
				t.Errorf("status: %+v", s)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		})
	}
	n.pause("1h")
	n.forget()
	if err := put("{}", 0o600, 0)(); err != nil {
		t.Fatal(err)
	}
	n.recorded("the end", about("pause", "; the one before has ended with it, after "))
	n.becomesPaused(false)
	n.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0x0")
	n.becomes("1 1 1", atMost)
}

// becomesPaused waits until the daemon is paused, or not.
func (n *node) becomesPaused(want bool) {
	n.t.Helper()
	for deadline := time.Now().Add(atMost); (n.status().Pause != nil) != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("paused is not %v after %v", want, atMost)
		}
	}
}

// forget leaves out the records so far.
func (n *node) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records = nil
}
