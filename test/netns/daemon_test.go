// Package netns_test runs the real nfguard against the real kernel, in
// throw-away network namespaces.
package netns_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// binary is nfguard, built once with the race detector off, as it is shipped.
var binary string

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) == roleWithoutBPF {
		fmt.Fprintln(os.Stderr, execWithoutBPF(os.Args[1:]))
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "nfguard-netns-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "nfguard")
	build := exec.Command("go", "build", "-o", binary, "github.com/nfguard/nfguard/cmd/nfguard")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build nfguard: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

const (
	roleEnv        = "NFGUARD_TEST_ROLE"
	roleWithoutBPF = "without BPF"
)

// execWithoutBPF executes the program with bpf(2) disabled. It returns only if that
// failed.
func execWithoutBPF(args []string) error {
	runtime.LockOSThread() // the thread that executes the program has the filter
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return unix.Exec(args[0], args, os.Environ())
}

// atMost is how long a test waits for what takes milliseconds on a quiet
// machine. How fast nfguard is, test/bench measures.
const atMost = 3 * time.Minute

// node is a network namespace with a bridge, with or without nfguard.
type node struct {
	*lab.Namespace
	t   *testing.T
	dir string

	withoutBPF    bool   // as on a kernel without BPF
	withoutCgroup bool   // cgroup v2 is not mounted
	program       string // another build of nfguard; "": as it is shipped

	command func(args ...string) *exec.Cmd // nfguard on this node
	cmd     *exec.Cmd
	ready   chan struct{}
	mu      sync.Mutex
	records []map[string]string
	talk    []string // lines that are not records
	states  []string // what the service manager was told
	ended   chan error
}

// newNode makes a node on which every key is 0.
func newNode(t *testing.T, config string) *node {
	t.Helper()
	n := untouchedNode(t, config)
	n.set("0", "0", "0")
	return n
}

// untouchedNode makes a node on which every key has the value that it comes with.
func untouchedNode(t *testing.T, config string) *node {
	t.Helper()
	n := &node{Namespace: lab.NewNamespace(t), t: t, dir: t.TempDir()}
	n.command = n.nfguard
	n.Run(t, "ip", "link", "add", "cnio0", "type", "bridge")
	n.Run(t, "ip", "link", "set", "cnio0", "up")
	n.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1") // as any worker has it
	if !strings.Contains(config, "[persist]") {
		config += fmt.Sprintf("\n[persist]\nmodules_load = %q\nsysctl = %q\n", n.file("modules.conf"), n.file("99-zz-nfguard.conf"))
	}
	n.write("nfguard.toml", config)
	return n
}

func (n *node) file(name string) string { return filepath.Join(n.dir, name) }

func (n *node) write(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(n.file(name), []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

var keys = []string{"iptables", "ip6tables", "arptables"}

func keyFile(key string) string { return "/proc/sys/net/bridge/bridge-nf-call-" + key }

func (n *node) set(values ...string) {
	n.t.Helper()
	n.Do(func() {
		for i, v := range values {
			if err := os.WriteFile(keyFile(keys[i]), []byte(v+"\n"), 0); err != nil {
				n.t.Error(err)
			}
		}
	})
}

// values returns the three keys, as "1 1 1".
func (n *node) values() string {
	var out []string
	n.Do(func() {
		for _, k := range keys {
			v, err := os.ReadFile(keyFile(k))
			if err != nil {
				n.t.Error(err)
			}
			out = append(out, strings.TrimSpace(string(v)))
		}
	})
	return strings.Join(out, " ")
}

// nfguard returns a command on the node.
func (n *node) nfguard(args ...string) *exec.Cmd {
	cmd := n.Command(cmp.Or(n.program, binary), append(args, "--config", n.file("nfguard.toml"))...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+n.file("run"), "NO_COLOR=1")
	return cmd
}

// start runs the daemon. wait for n.ready.
func (n *node) start(env ...string) {
	n.t.Helper()
	n.ready, n.ended = make(chan struct{}), make(chan error, 1)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.file("notify"), Net: "unixgram"})
	if err != nil {
		n.t.Fatal(err)
	}
	go n.listen(socket)
	n.cmd = n.command("run")
	if n.withoutBPF {
		self, err := os.Executable()
		if err != nil {
			n.t.Fatal(err)
		}
		n.cmd = n.Command(self, binary, "run", "--config", n.file("nfguard.toml"))
		n.cmd.Env = append(n.command().Env, roleEnv+"="+roleWithoutBPF)
	}
	if n.withoutCgroup {
		hidden := []string{"unshare", "-m", "--propagation", "private", "sh", "-c", `umount -l /sys/fs/cgroup && exec "$@"`, "sh"}
		n.cmd = n.Command(hidden[0], append(hidden[1:], binary, "run", "--config", n.file("nfguard.toml"))...)
		n.cmd.Env = n.command().Env
	}
	n.cmd.Env = append(append(n.cmd.Env, "NOTIFY_SOCKET="+n.file("notify")), env...)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	errs, err := n.cmd.StderrPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	// On the namespace's own thread, which lasts as long as the test: a process gets
	// its Pdeathsig when the thread that started it ends.
	n.Do(func() { err = n.cmd.Start() })
	if err != nil {
		n.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { defer close(read); n.read(bufio.NewScanner(errs)) }()
	go func() {
		<-read
		n.ended <- n.cmd.Wait()
		socket.Close()
	}()
	n.t.Cleanup(func() {
		if n.t.Failed() {
			n.mu.Lock()
			n.t.Logf("nfguard said: %q", n.talk)
			for _, r := range n.records {
				n.t.Logf("recorded: %s %s: %s", r["NFGUARD_SOURCE"], r["NFGUARD_EVENT"], r["MESSAGE"])
			}
			n.mu.Unlock()
		}
		n.stop()
	})
}

func (n *node) listen(c *net.UnixConn) {
	buf := make([]byte, 4096)
	for {
		size, err := c.Read(buf)
		if err != nil {
			return
		}
		n.mu.Lock()
		n.states = append(n.states, string(buf[:size]))
		n.mu.Unlock()
		if strings.HasPrefix(string(buf[:size]), "READY=1") {
			select {
			case <-n.ready:
			default:
				close(n.ready)
			}
		}
	}
}

func (n *node) read(sc *bufio.Scanner) {
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var r map[string]string
		n.mu.Lock()
		if json.Unmarshal(sc.Bytes(), &r) == nil {
			n.records = append(n.records, r)
		} else {
			n.talk = append(n.talk, sc.Text())
		}
		n.mu.Unlock()
	}
}

func (n *node) awaitReady() {
	n.t.Helper()
	select {
	case <-n.ready:
	case err := <-n.ended:
		n.ended <- err
		n.t.Fatalf("nfguard ended before it was ready: %v", err)
	case <-time.After(atMost):
		n.t.Fatal("nfguard is not ready after a minute")
	}
}

// stop ends the daemon by SIGTERM, and fails the test if that does not work. It can be
// called again.
func (n *node) stop() {
	n.t.Helper()
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case err := <-n.ended:
		n.ended <- err
		if err != nil {
			n.t.Errorf("nfguard: %v", err)
		}
	case <-time.After(atMost):
		n.t.Error("nfguard did not end within a minute of SIGTERM")
		_ = n.cmd.Process.Kill()
	}
	n.cmd = nil
}

// recorded waits for a record that matches.
func (n *node) recorded(what string, match func(map[string]string) bool) map[string]string {
	n.t.Helper()
	for deadline := time.Now().Add(atMost); ; time.Sleep(5 * time.Millisecond) {
		n.mu.Lock()
		for _, r := range n.records {
			if match(r) {
				n.mu.Unlock()
				return r
			}
		}
		n.mu.Unlock()
		if time.Now().After(deadline) {
			n.t.Fatalf("no record: %s", what)
		}
	}
}

// becomes waits until the keys are as wanted, and returns how long that took.
func (n *node) becomes(want string, limit time.Duration) time.Duration {
	n.t.Helper()
	start := time.Now()
	for ; n.values() != want; time.Sleep(time.Millisecond) {
		if time.Since(start) > limit {
			n.t.Errorf("the keys are %s after %v, want %s", n.values(), limit, want)
			break
		}
	}
	return time.Since(start)
}

// tally returns how many corrections the records stand for.
func (n *node) tally() (records, counted int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tallied()
}

// tallied is tally for callers that hold the lock.
func (n *node) tallied() (records, counted int) {
	for _, r := range n.records {
		switch r["NFGUARD_EVENT"] {
		case "drift":
			records++
		case "contention":
			c, _ := strconv.Atoi(r["NFGUARD_SUPPRESSED"])
			counted += c
		}
	}
	return records, counted
}
