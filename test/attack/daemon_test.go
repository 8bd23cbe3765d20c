package attack

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

const nobody = 65534

// The capabilities that the packaged unit gives the daemon.
const packagedCaps = ",+net_admin,+bpf,+perfmon,+sys_admin"

// watched is a daemon in its own network and mount namespace. The tests here check what
// status says about it.
type watched struct {
	*lab.Namespace
	t   *testing.T
	dir string

	caps  string // capabilities of the daemon, as for setpriv
	cmd   *exec.Cmd
	ended chan error
}

func newWatched(t *testing.T, config string) *watched {
	t.Helper()
	lab.Need(t, lab.Root, lab.Netns)
	if err := os.Chmod(filepath.Dir(binary), 0o755); err != nil { // user nobody runs it too
		t.Fatal(err)
	}
	w := &watched{Namespace: lab.NewNamespace(t), t: t, dir: t.TempDir(), caps: packagedCaps}
	if err := errors.Join(os.Mkdir(w.file("disk"), 0o755), os.Chmod(filepath.Dir(w.dir), 0o755)); err != nil { // user nobody asks too
		t.Fatal(err)
	}
	config += fmt.Sprintf("\n[persist]\nmodules_load = %q\nsysctl = %q\n", w.file("disk/modules.conf"), w.file("disk/99-zz-nfguard.conf"))
	if err := os.WriteFile(w.file("nfguard.toml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *watched) file(name string) string { return filepath.Join(w.dir, name) }

// start starts the daemon, after running a shell command in its mount namespace.
func (w *watched) start(before string) {
	w.t.Helper()
	w.cmd = w.Command("unshare", "-m", "--propagation", "private", "sh", "-ec", before+"\nexec \"$@\"", "sh",
		"setpriv", "--bounding-set=-all"+w.caps, "--inh-caps=-all", "--no-new-privs", binary, "run", "--config", w.file("nfguard.toml"))
	w.cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+w.file("run"), "NOTIFY_SOCKET="+w.file("notify"), "NO_COLOR=1")
	talk, err := os.Create(w.file("talk"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer talk.Close()
	w.cmd.Stderr = talk // a file: with a pipe, Wait would wait for a modprobe that is left behind
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	w.Do(func() { err = w.cmd.Start() }) // its thread lasts as long as the test
	if err != nil {
		w.t.Fatal(err)
	}
	cmd, ended := w.cmd, make(chan error, 1)
	w.ended = ended
	go func() { ended <- cmd.Wait(); close(ended) }()
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
}

// talk is what the daemon has written to standard error.
func (w *watched) talk() string {
	text, err := os.ReadFile(w.file("talk"))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func (w *watched) pid() int { return w.cmd.Process.Pid }

// end signals the daemon and waits for its end.
func (w *watched) end(sig os.Signal) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(sig); err != nil {
		w.t.Fatal(err)
	}
	select {
	case <-w.ended:
	case <-time.After(time.Minute):
		w.t.Fatalf("%v does not end it", sig)
	}
}

// health is what nfguard status says.
type health struct {
	PID      int
	State    string
	Sentence string
	Look     struct {
		Late        bool
		Step        string
		ReloadWaits bool `json:"reload_waits"`
	}
	Now struct {
		Process string
		Sysctls []struct{ Key, Have, Verdict string }
	}
	exit int
	said string // on stderr
}

// status asks as uid.
func (w *watched) status(uid int) (h health) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "--net="+w.Path(), "--", "setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid), "--clear-groups",
		binary, "status", "-o", "json")
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+w.file("run"))
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		h.exit = exit.ExitCode()
	} else if err != nil {
		w.t.Fatalf("status: %v", err)
	}
	h.said = said.String()
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &h); err != nil {
			w.t.Fatalf("status: %v\n%s", err, out.Bytes())
		}
	}
	return h
}

// becomes waits until status, asked by root, is as wanted.
func (w *watched) becomes(what string, is func(health) bool) health {
	w.t.Helper()
	var h health
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if h = w.status(0); is(h) {
			return h
		}
		select {
		case err := <-w.ended:
			w.t.Fatalf("the daemon ended: %v\n%s", err, w.talk())
		default:
		}
	}
	w.t.Fatalf("it does not become %s: %+v", what, h)
	return h
}

func (w *watched) healthy() {
	w.t.Helper()
	w.becomes("healthy", func(h health) bool { return h.State == "healthy" && h.exit == 0 && h.PID == w.pid() })
}

const iptables = "/proc/sys/net/bridge/bridge-nf-call-iptables"

func (w *watched) write(value string) {
	w.t.Helper()
	var err error
	w.Do(func() { err = os.WriteFile(iptables, []byte(value), 0) })
	if err != nil {
		w.t.Fatal(err)
	}
}

// isPutRight waits until the sysctl is 1.
func (w *watched) isPutRight() {
	w.t.Helper()
	var text []byte
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var err error
		if w.Do(func() { text, err = os.ReadFile(iptables) }); err != nil {
			w.t.Fatal(err)
		}
		if string(text) == "1\n" {
			return
		}
	}
	w.t.Fatalf("the sysctl stays %s", text)
}

// hold has user nobody lock a file until the end of the test, and returns the result.
func (w *watched) hold(path string) (what string) {
	w.t.Helper()
	program := filepath.Join(filepath.Dir(binary), "holder")
	build := exec.Command("go", "build", "-o", program, "./holder")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("build the holder: %v\n%s", err, out)
	}
	cmd := exec.Command(program, path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // the result does not matter
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		w.t.Fatalf("the holder does not say what it holds: %v", err)
	}
	return strings.TrimSpace(line)
}

// H1: a lock that another user holds keeps no daemon from starting, and does not count
// as a running daemon.
func TestH1LockIsNotOthers(t *testing.T) {
	w := newWatched(t, "")
	if err := os.Mkdir(w.file("run"), 0o755); err != nil {
		t.Fatal(err)
	}
	lock := w.file("run/lock")
	if err := os.WriteFile(lock, []byte("1\n"), 0o644); err != nil { // as an earlier version left it
		t.Fatal(err)
	}
	if got := w.hold(lock); got != "<nil>" {
		t.Fatalf("user nobody cannot hold the lock of an earlier version: %s", got)
	}
	w.start("")
	w.healthy()
	if h := w.status(nobody); h.State != "healthy" || h.exit != 0 || len(h.Now.Sysctls) != 3 {
		t.Errorf("asked by nobody: %+v", h)
	}
	if info, err := os.Stat(lock); err != nil || info.Mode() != 0o600 {
		t.Errorf("the lock: %v, %v; want mode 0600", info.Mode(), err)
	}
	if got := w.hold(lock); got == "<nil>" {
		t.Error("user nobody holds the lock")
	}

	second := w.Command(binary, "run", "--config", w.file("nfguard.toml"))
	second.Env = w.cmd.Env
	out, err := second.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 ||
		!strings.Contains(string(out), fmt.Sprintf("another nfguard[%d] holds %s", w.pid(), lock)) {
		t.Errorf("a second daemon: %v\n%s", err, out)
	}
	w.healthy() // its status is the first one's

	w.end(syscall.SIGTERM)
	for _, uid := range []int{0, nobody} {
		if h := w.status(uid); h.exit != 2 || h.State != "" {
			t.Errorf("after the end, asked by %d: %+v", uid, h)
		}
	}
	w.start("") // the restart of an upgrade
	w.healthy()
}

// H1, the other order: the lock is held while no daemon runs, and a status is left.
func TestH1HeldLockIsNoDaemon(t *testing.T) {
	w := newWatched(t, "")
	w.start("")
	w.healthy()
	w.end(syscall.SIGKILL)
	lock := w.file("run/lock")
	if err := os.Chmod(lock, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := w.hold(lock); got != "<nil>" {
		t.Fatal(got)
	}
	for _, uid := range []int{0, nobody} {
		if h := w.status(uid); h.exit != 2 || !strings.Contains(h.said, "nfguard is not running") {
			t.Errorf("asked by %d: %+v", uid, h)
		}
	}
}

// B3: a daemon that is stopped is not healthy, and the sysctl that it cannot put right
// is reported as it is.
func TestB3StoppedIsNotHealthy(t *testing.T) {
	w := newWatched(t, "")
	w.caps = ",+net_admin" // not BPF: with it the kernel would keep the sysctl even then
	w.start("")
	w.becomes("running", func(h health) bool { return h.PID == w.pid() && len(h.Now.Sysctls) == 3 })
	if err := w.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.becomes("stopped", func(h health) bool { return h.Now.Process == "stopped" })
	w.write("0")
	for _, uid := range []int{0, nobody} {
		h := w.status(uid)
		want := fmt.Sprintf("nfguard[%d] is stopped, and corrects and records nothing: kill -CONT %d has it go on; "+
			"net.bridge.bridge-nf-call-iptables is 0, wanted 1; nfguard said at ", w.pid(), w.pid())
		if h.exit != 1 || h.State != "degraded" || !strings.HasPrefix(h.Sentence, want) {
			t.Errorf("asked by %d: %+v", uid, h)
		}
	}
	if err := w.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.isPutRight()
}

// B3: a daemon that was killed leaves a status, which no longer counts. Nor does a file
// that somebody puts back, nor one whose PID is used again.
func TestB3KilledIsNotRunning(t *testing.T) {
	w := newWatched(t, "")
	w.start("")
	w.healthy()
	file := w.file("run/status.json")
	left, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w.end(syscall.SIGKILL)
	for _, uid := range []int{0, nobody} {
		if h := w.status(uid); h.exit != 2 || !strings.Contains(h.said, "nfguard is not running") {
			t.Errorf("killed, asked by %d: %+v", uid, h)
		}
	}
	var pid struct{ PID int }
	if err := json.Unmarshal(left, &pid); err != nil {
		t.Fatal(err)
	}
	again := bytes.ReplaceAll(left, fmt.Appendf(nil, `"pid": %d`, pid.PID), fmt.Appendf(nil, `"pid": %d`, os.Getpid()))
	if err := os.WriteFile(file, again, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []int{0, nobody} {
		if h := w.status(uid); h.exit != 2 || !strings.Contains(h.said, "nfguard is not running") {
			t.Errorf("with the PID of another process, asked by %d: %+v", uid, h)
		}
	}

	w.start("")
	w.healthy()
	if err := os.WriteFile(file, left, 0o644); err != nil { // while another one runs
		t.Fatal(err)
	}
	if h := w.status(0); h.exit != 1 || h.Sentence != fmt.Sprintf("nfguard[%d] runs and has published nothing", w.pid()) {
		t.Errorf("with the status of an earlier one: %+v", h)
	}
	if h := w.status(nobody); h.exit != 2 {
		t.Errorf("with the status of an earlier one, asked by nobody: %+v", h)
	}
}

// B3: between the end of one daemon and the first look of the next, none is healthy.
func TestB3RestartShowsNoEarlierStatus(t *testing.T) {
	w := newWatched(t, "")
	w.start("")
	w.healthy()
	for range 3 {
		w.end(syscall.SIGKILL)
		w.start("sleep 0.3") // here, no daemon has begun yet
		seen := map[int]int{}
		for healthy := false; !healthy; {
			uid := nobody * ((seen[0] + seen[1] + seen[2]) % 2)
			h := w.status(uid)
			seen[h.exit]++
			if healthy = h.State == "healthy"; healthy && h.PID != w.pid() {
				t.Fatalf("while nfguard[%d] starts, asked by %d: %+v", w.pid(), uid, h)
			}
		}
		if seen[2] == 0 {
			t.Errorf("want \"not running\" at first, got these exit codes: %v", seen)
		}
	}
}

// B3, M8: a start that hangs shows what it is waiting for, and nothing of an earlier
// daemon. Here modprobe hangs, because the module's sysctls are hidden from the daemon.
func TestB3StartThatHangs(t *testing.T) {
	w := newWatched(t, "")
	w.start("")
	w.healthy()
	w.end(syscall.SIGKILL)
	if err := os.WriteFile(w.file("modprobe"), []byte("#!/bin/sh\nwhile kill -0 $PPID; do sleep 0.1; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: w.file("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	w.caps += ",+sys_module" // without it, the helper would be asked
	w.start("mount -t overlay -o lowerdir=" + w.loadable() + ":/usr/lib none /usr/lib; mount -t tmpfs none /proc/sys/net/bridge; PATH=" + w.dir + ":$PATH")
	h := w.becomes("a start that hangs", func(h health) bool { return h.Look.Step == "running modprobe br_netfilter" })
	if h.exit != 1 || h.State != "degraded" || h.PID != w.pid() || !strings.HasPrefix(h.Sentence, "starting: the first look has run since ") {
		t.Errorf("%+v", h)
	}
	if h := w.status(nobody); h.exit != 1 || h.PID != w.pid() {
		t.Errorf("asked by nobody: %+v", h)
	}
	told, want := "", []string{
		"STATUS=starting: reading the configuration\n", "EXTEND_TIMEOUT_USEC=20000000\n",
		"STATUS=starting: the first look has run since ", ": running modprobe br_netfilter",
	}
	text := make([]byte, 4096)
	for _, part := range want {
		for !strings.Contains(told, part) {
			_ = manager.SetReadDeadline(time.Now().Add(time.Minute)) // it is open
			n, err := manager.Read(text)
			if err != nil {
				t.Fatalf("the service manager was told %q, and not %q: %v", told, part, err)
			}
			told += string(text[:n]) + "\n"
		}
	}
	if strings.Contains(told, "READY=1") {
		t.Errorf("it says that it is ready: %q", told)
	}
	w.end(syscall.SIGTERM)
}

// loadable returns a directory to be laid over /usr/lib: the module is one that can be
// loaded, whatever this kernel has built in.
func (w *watched) loadable() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		w.t.Fatal(err)
	}
	lib := w.file("lib")
	dir := filepath.Join(lib, "modules", unix.ByteSliceToString(u.Release[:]))
	const module = "kernel/net/bridge/br_netfilter.ko"
	for name, text := range map[string]string{module: "", "modules.dep": module + ":\n"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			w.t.Fatal(err)
		}
	}
	return lib
}

// hang mounts a file system over a directory in the daemon's mount namespace that never
// answers, like a disk or a server that hangs. release makes it return an error.
func (w *watched) hang(dir string) (release func()) {
	w.t.Helper()
	lab.Need(w.t, lab.FUSE)
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.within(func() error {
		return unix.Mount("hang", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	})
	release = func() {
		unix.Close(fd)
		w.within(func() error { return unix.Unmount(dir, unix.MNT_DETACH) })
	}
	return release
}

// within runs f in the daemon's mount namespace.
func (w *watched) within(f func() error) {
	w.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with f
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", w.pid()))
		if err == nil {
			err = unix.Unshare(unix.CLONE_FS)
		}
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

// M4, B2: a look that hangs is reported, with the path, and the sysctls are kept
// meanwhile. A requested reload is done when the look has ended.
func TestM4LookThatHangs(t *testing.T) {
	w := newWatched(t, "[timing]\naudit = \"1s\"\n")
	w.start("")
	w.healthy()
	release := w.hang(w.file("disk"))
	h := w.becomes("late", func(h health) bool { return h.Look.Late })
	if h.exit != 1 || h.State != "degraded" || !strings.HasPrefix(h.Look.Step, "reading "+w.file("disk/")) ||
		!strings.Contains(h.Sentence, "; no look has ended since ") || !strings.Contains(h.Sentence, h.Look.Step) {
		t.Errorf("%+v", h)
	}
	w.write("0")
	w.isPutRight()
	if err := w.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	w.becomes("told that the reload waits", func(h health) bool { return h.Look.ReloadWaits })
	release()
	w.healthy()
	w.end(syscall.SIGTERM)
	talk := w.talk()
	for _, part := range []string{
		"no look has ended for ", "a reload was asked for, and waits for a look that has run for ",
		"the configuration was read again: nothing has changed", "a look has ended, ",
	} {
		if n := strings.Count(talk, part); n != 1 {
			t.Errorf("%d records say %q, want 1\n%s", n, part, talk)
		}
	}
}

// M4: SIGTERM ends a daemon whose look hangs.
func TestM4HungLookIsEnded(t *testing.T) {
	w := newWatched(t, "[timing]\naudit = \"1s\"\n")
	w.start("")
	w.healthy()
	release := w.hang(w.file("disk"))
	w.becomes("late", func(h health) bool { return h.Look.Late })
	w.end(syscall.SIGTERM)
	_ = release // the mount has ended with its namespace
	if h := w.status(0); h.exit != 2 {
		t.Errorf("after the end: %+v", h)
	}
}
