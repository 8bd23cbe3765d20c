package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is the limit for anything that takes a second on a quiet machine.
const patience = 3 * time.Minute

// A Node is a machine made of namespaces: it has its own network, mounts, host name and
// control groups, but sees the host's processes. Its files are in the directory of the
// run.
type Node struct {
	t     testing.TB
	Name  string
	V4    netip.Addr
	V6    netip.Addr
	Pods4 netip.Prefix // of its pods
	Pods6 netip.Prefix

	dir    string
	holder int // the process that keeps its namespaces
	groups []string
}

// hidden are the sysctls of the whole host that the kubelet sets, with the values that it
// wants.
var hidden = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// newNode makes the n-th node.
func newNode(t testing.TB, name string, n int) *Node {
	t.Helper()
	node := &Node{
		t: t, Name: name,
		V4: netip.AddrFrom4([4]byte{10, 240, 0, byte(10 + n)}), V6: netip.MustParseAddr(fmt.Sprintf("fd00:240::%d", 10+n)),
		Pods4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200, byte(n), 0}), 24), Pods6: netip.MustParsePrefix(fmt.Sprintf("fd00:200:0:%d::/64", n)),
		dir: filepath.Join(dir, name),
	}
	for _, d := range []string{"log", "containerd", "kubelet", "sysctl"} {
		if err := os.MkdirAll(filepath.Join(node.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	var setup strings.Builder
	do := func(format string, args ...any) { fmt.Fprintf(&setup, format+"\n", args...) }
	do("set -eu")
	do("hostname %s", name)
	do("mount --make-rshared /") // as systemd has it; nothing of it reaches the host, whose own are private here
	do("mount -t sysfs sysfs /sys")
	for _, h := range hierarchies() {
		group := filepath.Join(h.own, filepath.Base(dir), name)
		node.makeGroup(group)
		node.groups = append(node.groups, group)
		if len(node.groups) == 1 && h.mount != "/sys/fs/cgroup" {
			do("mount -t tmpfs tmpfs /sys/fs/cgroup")
		}
		if h.v2 {
			do("mkdir -p %[1]s; mount -t cgroup2 cgroup2 %[1]s", h.mount)
		} else {
			do("mkdir -p %[1]s; mount -t cgroup -o %[2]s cgroup %[1]s", h.mount, h.options)
		}
	}
	for _, d := range []string{"etc", "var", "opt"} { // its own, over those of the host
		do("mkdir -p %[1]s/%[2]s %[1]s/%[2]s.work", node.dir, d)
		do("mount -t overlay -o lowerdir=/%[2]s,upperdir=%[1]s/%[2]s,workdir=%[1]s/%[2]s.work overlay /%[2]s", node.dir, d)
	}
	do("mount -t tmpfs tmpfs /run")
	do("mount -t tmpfs tmpfs /var/log")
	for _, d := range []string{"containerd", "kubelet"} { // no overlay below that of a container
		do("mkdir -p /var/lib/%[2]s; mount --bind %[1]s/%[2]s /var/lib/%[2]s", node.dir, d)
	}
	for key, value := range hidden {
		file := filepath.Join(node.dir, "sysctl", filepath.Base(key))
		do("echo %s >%s; mount --bind %s /proc/sys/%s", value, file, file, key)
	}
	do("ip link set lo up")
	do("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 net.bridge.bridge-nf-call-arptables=0")
	do("echo ready")
	do("exec sleep infinity")

	script := `for g in "$@"; do echo $$ >$g/cgroup.procs; done
		exec unshare --mount --net --uts --cgroup --propagation private sh -c "$SETUP"`
	cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, node.groups...)...)
	cmd.Env = append(os.Environ(), "SETUP="+setup.String())
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = startTied(cmd)
	}
	if err != nil {
		t.Fatal(err)
	}
	node.holder = cmd.Process.Pid
	if _, err := out.Read(make([]byte, 16)); err != nil { // it says "ready"
		_ = cmd.Wait()
		t.Fatalf("set up %s: %v\n%s", name, err, said.String())
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return node
}

// makeGroup creates a control group and the run's own groups above it.
func (n *Node) makeGroup(group string) {
	n.t.Helper()
	top := strings.Index(group, filepath.Base(dir))
	for end := top; end < len(group); end++ {
		if end+1 < len(group) && group[end+1] != '/' {
			continue
		}
		g := group[:end+1]
		if err := os.Mkdir(g, 0o755); err != nil && !os.IsExist(err) {
			n.t.Fatal(err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // while they are empty, the group accepts no process
			if text, err := os.ReadFile(filepath.Join(filepath.Dir(g), file)); err == nil {
				if err := os.WriteFile(filepath.Join(g, file), text, 0); err != nil {
					n.t.Fatal(err)
				}
			}
		}
	}
}

// startTied starts a process that is killed when this one ends.
func startTied(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	errc := make(chan error)
	starter <- func() { errc <- cmd.Start() }
	return <-errc
}

// starter is a thread that lasts as long as this process: a process gets its Pdeathsig
// when the thread that started it ends.
var starter = func() chan func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
}()

// Command returns a program on the node, in the control group system.slice/unit.
func (n *Node) Command(unit, name string, args ...string) *exec.Cmd {
	return n.command(unit, "--cgroup", append([]string{name}, args...)...)
}

// onHost returns a program on the node that sees the control groups of the whole host.
func (n *Node) onHost(unit string, args ...string) *exec.Cmd {
	var mounts strings.Builder
	for _, h := range hierarchies() {
		if h.v2 {
			fmt.Fprintf(&mounts, "umount %[1]s && mount -t cgroup2 cgroup2 %[1]s && ", h.mount)
		} else {
			fmt.Fprintf(&mounts, "umount %[1]s && mount -t cgroup -o %[2]s cgroup %[1]s && ", h.mount, h.options)
		}
	}
	return n.command(unit, "", append([]string{"unshare", "--mount", "--propagation", "slave", "sh", "-c", mounts.String() + `exec "$@"`, "sh"}, args...)...)
}

func (n *Node) command(unit, cgroup string, args ...string) *exec.Cmd {
	script := `for g in $GROUPS_OF_NODE; do mkdir -p $g/system.slice/$UNIT 2>/dev/null; 
			for f in cpuset.cpus cpuset.mems; do [ ! -e $g/$f ] || { cat $g/$f >$g/system.slice/$f; cat $g/$f >$g/system.slice/$UNIT/$f; }; done
			echo $$ >$g/system.slice/$UNIT/cgroup.procs; done
		unset GROUPS_OF_NODE UNIT
		exec nsenter --target ` + fmt.Sprint(n.holder) + ` --mount --net --uts ` + cgroup + ` -- "$@"`
	cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "GROUPS_OF_NODE="+strings.Join(n.groups, " "), "UNIT="+unit,
		"PATH="+bin+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NO_COLOR=1")
	return cmd
}

// Run runs a program on the node and fails the test with its output if it does
// not exit 0.
func (n *Node) Run(name string, args ...string) string {
	n.t.Helper()
	out, err := n.Command("test.service", name, args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %s %v: %v\n%s", n.Name, name, args, err, out)
	}
	return string(out)
}

// A Process runs on a node.
type Process struct {
	node  *Node
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed
}

// Start starts a program as a service of the node. It ends with the test.
func (n *Node) Start(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	return n.start(t, n.Command(filepath.Base(name)+".service", name, args...), filepath.Base(name))
}

func (n *Node) start(t testing.TB, cmd *exec.Cmd, name string) *Process {
	t.Helper()
	p := &Process{node: n, cmd: cmd, log: filepath.Join(n.dir, "log", name), ended: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	err = startTied(p.cmd)
	log.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // it is told to end
		close(p.ended)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s on %s said: %s", name, n.Name, tail(p.log, 30))
		}
		p.Stop()
	})
	return p
}

// PID is the process's.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop ends it, by SIGTERM if that does it.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// tail returns the last n lines of a file, or why it cannot.
func tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// await waits until f returns "", and not what is missing.
func await(t testing.TB, what string, f func() string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		missing := f()
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s after %v: %s", what, patience, missing)
		}
	}
}

// Dial connects from the node.
func (n *Node) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread in the other namespace ends
		if err = n.enter(); err == nil {
			conn, err = new(net.Dialer).DialContext(ctx, network, address)
		}
	}()
	<-done
	return conn, err
}

// enter moves the calling thread into the node's network namespace.
func (n *Node) enter() error {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.holder))
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}
