package sysctlhook

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// play is this program as another process, that holds a lock until it is
// killed: the role is the namespace's inode.
func play(role string) int {
	inode, err := strconv.ParseUint(role, 10, 32)
	if err != nil {
		return 2
	}
	h, err := Attach(Options{Keys: bridgeKeys, Answer: Refuse, Netns: uint32(inode)})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(h.How())
	select {}
}

func TestLockDiesWithItsOwner(t *testing.T) {
	ns := lab.NewNamespace(t)
	var inode uint32
	fd := -1
	ns.Do(func() {
		inode, _ = netnsInode()
		fd, _ = unix.Open(victim, unix.O_RDWR|unix.O_CLOEXEC, 0)
	})
	defer unix.Close(fd)
	owner := exec.Command("/proc/self/exe")
	owner.Env = append(os.Environ(), fmt.Sprintf("NFGUARD_TEST_ROLE=%d", inode))
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	t.Log(strings.TrimSpace(line))
	_, locked := put(fd, "0")
	began := time.Now()
	if err := owner.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	_ = owner.Wait()
	_, free := put(fd, "0")
	took := time.Since(began)
	if !errors.Is(locked, unix.EPERM) || free != nil {
		t.Errorf("while it lived (%q): %v, afterwards: %v", line, locked, free)
	}
	t.Logf("free %v after SIGKILL was sent", took)
}

func TestCloseLeavesNothing(t *testing.T) {
	r := locked(t, Options{}, Refuse)
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
		h, err := Attach(Options{Keys: bridgeKeys, Netns: 1})
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
	t.Logf("Attach takes %v", took/100)
}

// neighbour is another product's program, which lets everything pass.
func neighbour(t *testing.T) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSysctl, AttachType: ebpf.AttachCGroupSysctl, License: license,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, allow), asm.Return()},
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
	l, err := attach(cgroup, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

func TestBesideOthers(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	neighbour(t)
	first := locked(t, Options{}, Observe)
	second, err := Attach(Options{Keys: bridgeKeys[:1], Answer: Refuse, Netns: first.inode})
	if err != nil {
		t.Fatal(err)
	}
	neighbour(t)
	fd := first.open(ipTables)
	if _, err := put(fd, "0"); !errors.Is(err, unix.EPERM) {
		t.Errorf("the stricter does not win: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := put(fd, "0"); err != nil {
		t.Errorf("the stricter is gone: %v", err)
	}
	if ws := first.news(time.Second); len(ws) != 2 {
		t.Errorf("the other was told of %+v", ws)
	}
}

// Where the kernel lends less, the hook does less and says so.
func TestDoesWithLess(t *testing.T) {
	whole := "BPF cgroup/sysctl"
	for _, c := range []struct {
		name    string
		helpers bool // this kernel's are needed
		less    func(*kernel)
		asked   Answer
		given   Answer
		how     string
		wanted  string
	}{
		{"all there", false, func(*kernel) {}, Refuse, Refuse, whole, `bridge-nf-call-iptables "1"→"0" refused by sh`},
		{"no BTF", true, func(k *kernel) { k.observeOnly("no BTF") }, Refuse, Observe, whole + "; observes only: no BTF", `bridge-nf-call-iptables "1"→"0" allowed by sh`},
		{"no BTF, no helpers", false, func(k *kernel) {
			*k = kernel{without: []string{"observes only: no BTF"}}
		}, Rewrite, Observe, whole + "; observes only: no BTF", `bridge-nf-call-iptables "1"→"0" allowed by `},
		{"names by helpers", true, func(k *kernel) { k.pid, k.comm = fromHelper, fromHelper }, Refuse, Refuse, whole, `bridge-nf-call-iptables "1"→"0" refused by sh`},
		{"no rewrite", false, func(k *kernel) { k.rewrites = false }, Rewrite, Refuse, whole + "; refuses instead of rewriting: this kernel drops what a program puts in place of a value", `bridge-nf-call-iptables "1"→"0" refused by sh`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.helpers && (!lends(asm.FnGetCurrentPidTgid) || !lends(asm.FnGetCurrentComm)) {
				t.Skip("this kernel does not lend the helpers")
			}
			r := newRoom(t, Options{Answer: c.asked, ExemptSelf: true}, func(o Options) (*Hook, error) {
				cgroup, err := openCgroup("")
				if err != nil {
					return nil, err
				}
				defer cgroup.Close()
				k, err := examine()
				if err != nil {
					return nil, err
				}
				if err := k.rehearse(cgroup); err != nil {
					return nil, err
				}
				c.less(k)
				return k.guard(o, cgroup)
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
			if len(ws) != 1 || ws[0].summary() != c.wanted || ws[0].Uncertain == r.kernel.reads {
				t.Errorf("told %+v, want %s", ws, c.wanted)
			}
			// Another namespace's is another's, as far as one can know.
			out, err := lab.NewNamespace(t).Command("sh", "-c", "echo 0 > "+victim).CombinedOutput()
			if err != nil {
				t.Errorf("another namespace: %v: %s", err, out)
			}
		})
	}
}

// with runs f with these capabilities only, on a thread that dies with it.
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
			h, err := Attach(Options{Keys: bridgeKeys, Answer: Refuse, Netns: 1})
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
	if a, how := attachWith(unix.CAP_BPF, unix.CAP_NET_ADMIN); a != Observe || !strings.Contains(how, "observes only: programs may not read the kernel's memory") {
		t.Errorf("without CAP_PERFMON: %d, %s", a, how)
	}
	want := "load a BPF program of type cgroup/sysctl: load program: operation not permitted (it takes CAP_BPF and CAP_NET_ADMIN)"
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
