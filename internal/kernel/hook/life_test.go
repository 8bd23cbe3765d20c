package hook

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// play is the main function of this program as a second process, which uses what
// it is sent until it is killed. A role says what it must not do: if it calls
// bpf(2), the kernel kills it.
func play(role string) int {
	fail := func(err error) int {
		fmt.Println("failed:", err)
		return 1
	}
	if err := forbidBPF(); err != nil {
		return fail(err)
	}
	l, netns, err := receive(os.NewFile(3, "socket"))
	if err != nil {
		return fail(err)
	}
	if role == "exec" {
		e, err := OpenExec(l)
		if err != nil {
			return fail(err)
		}
		fmt.Println("ready")
		for {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(e.FD()), Events: unix.POLLIN}}, -1)
			if err := e.Read(func(pid int, comm string) { fmt.Println(pid, comm) }); err != nil {
				return fail(err)
			}
		}
	}
	h, err := Open(l, Use{Answer: Refuse, Netns: netns})
	if err != nil {
		return fail(err)
	}
	fmt.Println(h.How())
	for {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(h.FD()), Events: unix.POLLIN}}, -1)
		if err := h.Read(func(w Write) { fmt.Println(w.summary()) }); err != nil {
			return fail(err)
		}
	}
}

// forbidBPF has the kernel end this process at bpf(2).
func forbidBPF() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// sent is the message that goes with the files.
type sent struct {
	Facts Facts
	Netns uint32
}

func receive(socket *os.File) (*Loaded, uint32, error) {
	text, rights := make([]byte, 1<<16), make([]byte, unix.CmsgSpace(16*4))
	n, rn, _, _, err := unix.Recvmsg(int(socket.Fd()), text, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, 0, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil || len(messages) != 1 {
		return nil, 0, fmt.Errorf("%d messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, 0, err
	}
	var s sent
	if err := json.Unmarshal(text[:n], &s); err != nil {
		return nil, 0, err
	}
	l := &Loaded{Facts: s.Facts}
	for _, fd := range fds {
		l.Files = append(l.Files, os.NewFile(uintptr(fd), "received"))
	}
	return l, s.Netns, nil
}

// user starts a process without any capability that uses what was loaded here, and
// returns it with its output.
func user(t *testing.T, role string, l *Loaded, netns uint32) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(lab.Tool(t, lab.Netns, "setpriv"), "--bounding-set=-all", "--inh-caps=-all", self)
	cmd.Env = append(os.Environ(), "NFGUARD_TEST_ROLE="+role)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	text, err := json.Marshal(sent{l.Facts, netns})
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	for _, f := range l.Files {
		fds = append(fds, int(f.Fd()))
	}
	if err := unix.Sendmsg(pair[0], text, unix.UnixRights(fds...), nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

func line(t *testing.T, s *bufio.Scanner) string {
	t.Helper()
	if !s.Scan() {
		t.Fatal("the user has ended: ", s.Err())
	}
	return s.Text()
}

// One process loads the program. Another uses it, which can neither load it nor
// call bpf(2). The lock ends with the second process, even by SIGKILL.
func TestUsedByAnotherProcess(t *testing.T) {
	ns := lab.NewNamespace(t)
	var inode uint32
	fd := -1
	ns.Do(func() {
		inode, _ = netnsInode()
		fd, _ = unix.Open(victim, unix.O_RDWR|unix.O_CLOEXEC, 0)
	})
	defer unix.Close(fd)
	l, err := Load(Options{Keys: bridgeKeys})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(fd, "0"); err != nil {
		t.Errorf("a loaded program that nobody uses refused a write: %v", err)
	}
	_, _ = put(fd, "1")
	process, says := user(t, "sysctl", l, inode)
	if how := line(t, says); how != "BPF cgroup/sysctl" {
		t.Errorf("how: %s", how)
	}
	_, locked := put(fd, "0")
	if got, want := line(t, says), `bridge-nf-call-iptables "1"→"0" refused by hook.test`; got != want {
		t.Errorf("told %s, want %s", got, want)
	}
	began := time.Now()
	if err := process.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	_ = process.Wait()
	_, free := put(fd, "0")
	took := time.Since(began)
	if !errors.Is(locked, unix.EPERM) || free != nil {
		t.Errorf("while it lived: %v, afterwards: %v", locked, free)
	}
	t.Logf("free %v after SIGKILL was sent", took)
}

// If nobody is sent the link, the program ends with its loader.
func TestLoaderEnds(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	before := attached(t)
	l, err := Load(Options{Keys: bridgeKeys})
	if err != nil {
		t.Fatal(err)
	}
	if n := attached(t); n != before+1 {
		t.Errorf("%d programs are attached, want %d", n, before+1)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := attached(t); n != before {
		t.Errorf("%d programs are attached afterwards, want %d", n, before)
	}
}

// attached is the number of sysctl programs on the root of cgroup v2.
func attached(t *testing.T) int {
	t.Helper()
	cgroup, err := openCgroup("")
	if err != nil {
		t.Fatal(err)
	}
	defer cgroup.Close()
	all, err := link.QueryPrograms(link.QueryOptions{Target: int(cgroup.Fd()), Attach: ebpf.AttachCGroupSysctl})
	if err != nil {
		t.Fatal(err)
	}
	return len(all.Programs)
}

func TestCloseLeavesNothing(t *testing.T) {
	r := locked(t, nil, Use{}, Refuse)
	fd := r.open(ipTables)
	if _, err := put(fd, "0"); err == nil {
		t.Error("not locked")
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := put(fd, "0"); err != nil {
		t.Errorf("closed, and still locked: %v", err)
	}
}

func TestDescriptorsAreGivenBack(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	var before int
	var took time.Duration
	for i := range 101 {
		began := time.Now()
		h, err := attach(bridgeKeys, Use{Netns: 1})
		if err != nil {
			t.Fatal(err)
		}
		took += time.Since(began)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			before, took = open(), 0
		}
	}
	if after := open(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	t.Logf("loading and opening take %v", took/100)
}

// neighbour attaches a program of another product, which allows everything.
func neighbour(t *testing.T) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSysctl, AttachType: ebpf.AttachCGroupSysctl, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	cgroup, err := openCgroup("")
	if err != nil {
		t.Fatal(err)
	}
	defer cgroup.Close()
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: int(cgroup.Fd()), Program: p, Attach: ebpf.AttachCGroupSysctl})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

func TestBesideOthers(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	neighbour(t)
	first := locked(t, nil, Use{}, Observe)
	second, err := attach(bridgeKeys[:1], Use{Answer: Refuse, Netns: first.inode})
	if err != nil {
		t.Fatal(err)
	}
	neighbour(t)
	fd := first.open(ipTables)
	if _, err := put(fd, "0"); !errors.Is(err, unix.EPERM) {
		t.Errorf("the stricter program does not win: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := put(fd, "0"); err != nil {
		t.Errorf("the stricter program is closed, but the write fails: %v", err)
	}
	if ws := first.news(time.Second); len(ws) != 2 {
		t.Errorf("the other program reported %+v", ws)
	}
}

// Where the kernel offers less, the hook does less and says so.
func TestDoesWithLess(t *testing.T) {
	whole := "BPF cgroup/sysctl"
	for _, c := range []struct {
		name     string
		programs []string
		asked    Answer
		given    Answer
		how      string
		wanted   string
	}{
		{"all there", []string{sysctlProgGuards}, Refuse, Refuse, whole, `bridge-nf-call-iptables "1"→"0" refused by sh`},
		{"memory unread", []string{sysctlProgObserves}, Refuse, Observe, whole + "; observes only: it was not tried", `bridge-nf-call-iptables "1"→"0" allowed by sh`},
		{"nor helpers", []string{sysctlProgObservesUnnamed}, Rewrite, Observe, whole + "; observes only: it was not tried; no names and PIDs of writers: the kernel does not offer them to programs of this type", `bridge-nf-call-iptables "1"→"0" allowed by `},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRoom(t, nil, Use{Answer: c.asked, ExemptSelf: true}, func(o Options) (*Loaded, error) {
				l, err := load(o, c.programs...)
				if c.programs[0] == sysctlProgObserves && errors.Is(err, ErrNotSupported) {
					t.Skip("this kernel does not offer the helpers: ", err)
				}
				return l, err
			})
			if r.Answer() != c.given || r.How() != c.how {
				t.Errorf("answer %d, %s", r.Answer(), r.How())
			}
			cmd := r.Command("sh", "-c", "echo 0 > "+victim+"; read wait")
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ws := r.news(5 * time.Second)
			in.Close()
			_ = cmd.Wait()
			if len(ws) != 1 || ws[0].summary() != c.wanted || ws[0].Uncertain == r.found.reads {
				t.Errorf("told %+v, want %s", ws, c.wanted)
			}
			// A write in another namespace is not reported, as far as that can be known.
			out, err := lab.NewNamespace(t).Command("sh", "-c", "echo 0 > "+victim).CombinedOutput()
			if err != nil {
				t.Errorf("another namespace: %v: %s", err, out)
			}
		})
	}
}

// The verifier's errors are explained: without CAP_PERFMON, and with a kernel that
// is locked down for confidentiality (Linux 6.1).
func TestLessSaysWhy(t *testing.T) {
	for _, said := range []string{
		"load program: invalid argument: program of this type cannot use helper bpf_get_current_task#35",
		"load program: invalid argument: unknown func bpf_probe_read_kernel#113",
		"load program: invalid argument: unknown func bpf_probe_read#4",
	} {
		got := less(sysctlProgObserves, []error{errors.New(said)})
		if len(got) != 1 || !strings.HasPrefix(got[0], "observes only: programs cannot read the kernel's memory: ") {
			t.Errorf("%s: %q", said, got)
		}
	}
}

// with runs f with only these capabilities, on a thread that ends with it.
func with(t *testing.T, f func(), caps ...uint) {
	t.Helper()
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		for _, c := range caps {
			data[c/32].Effective |= 1 << (c % 32)
			data[c/32].Permitted |= 1 << (c % 32)
		}
		err := unix.Capset(&hdr, &data[0])
		if err == nil {
			f()
		}
		errc <- err
	}()
	if err := <-errc; err != nil {
		t.Fatal(err)
	}
}

func TestCapabilities(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	_ = unlimitMemory() // before 5.11, as LimitMEMLOCK=infinity does in a unit
	attachWith := func(caps ...uint) (answer Answer, how string) {
		with(t, func() {
			h, err := attach(bridgeKeys, Use{Answer: Refuse, Netns: 1})
			if err != nil {
				how = err.Error()
				var log *ebpf.VerifierError
				if errors.As(err, &log) && len(log.Log) > 0 {
					how = fmt.Sprintf("%s\n%+v", how, log)
				}
				return
			}
			defer h.Close()
			answer, how = h.Answer(), h.How()
		}, caps...)
		return answer, how
	}
	if a, how := attachWith(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN); a != Refuse || how != "BPF cgroup/sysctl" {
		t.Errorf("all that it takes: %d, %s", a, how)
	}
	if a, how := attachWith(unix.CAP_BPF, unix.CAP_NET_ADMIN); a != Observe || !strings.Contains(how, "observes only: programs cannot read the kernel's memory") {
		t.Errorf("without CAP_PERFMON: %d, %s", a, how)
	}
	want := "load a BPF program: operation not permitted (it takes CAP_BPF and CAP_NET_ADMIN)"
	if _, how := attachWith(unix.CAP_BPF, unix.CAP_PERFMON); how != want {
		t.Errorf("without CAP_NET_ADMIN: %s", how)
	}
	if _, how := attachWith(); how != want {
		t.Errorf("without any: %s", how)
	}
	if _, how := attachWith(unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN); how != "BPF cgroup/sysctl" {
		t.Errorf("with CAP_SYS_ADMIN, as before 5.8: %s", how)
	}
}
