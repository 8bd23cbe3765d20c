package drops

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

// childVariable has the test's binary watch instead of testing, so that it can be
// killed.
const childVariable = "NFGUARD_TEST_DROPS"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		w, err := Open()
		if err == nil {
			fmt.Println(w.programID())
		}
		fmt.Println(err)
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// programID is the kernel's number of the program.
func (w *Watch) programID() ebpf.ProgramID {
	info, err := w.collection.Programs[dropsProgDropped].Info()
	if err != nil {
		return 0
	}
	id, _ := info.ID()
	return id
}

func open(t *testing.T) *Watch {
	t.Helper()
	lab.Need(t, lab.Root, lab.Netns)
	w, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// TestRefused: a connection to a port that nobody listens on, in a namespace of
// its own, by IPv4 and IPv6.
func TestRefused(t *testing.T) {
	w := open(t)
	ns := lab.NewNamespace(t)
	ns.Run(t, "ip", "link", "set", "lo", "up")
	for _, a := range []string{"127.0.0.77", "::1"} {
		address := netip.MustParseAddr(a)
		if err := w.Add(address); err != nil {
			t.Fatal(err)
		}
		var failed error
		var inode uint64
		ns.Do(func() {
			if _, failed = net.Dial("tcp", netip.AddrPortFrom(address, 9).String()); failed != nil {
				inode = inodeOfThread(t)
			}
		})
		if failed == nil {
			t.Fatal("somebody listens")
		}
		for {
			d, err := w.Read()
			if err != nil {
				t.Fatal(err)
			}
			if d.Netns[0] != uint32(inode) { // others on this machine ask ::1, too
				continue
			}
			names, err := Symbols(map[uint64]bool{d.Location: true})
			if err != nil {
				t.Fatal(err)
			}
			function := map[bool]string{true: "tcp_v4_rcv", false: "tcp_v6_rcv"}[address.Is4()]
			header := map[bool]int{true: 20, false: 40}[address.Is4()]
			got := fmt.Sprint(d.Reason, " ", names[d.Location], " ", binary.BigEndian.Uint16(d.Headers[header+2:]))
			if want := "NO_SOCKET " + function + " 9"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			break
		}
	}
}

// inodeOfThread is that of the network namespace of the calling thread.
func inodeOfThread(t *testing.T) uint64 {
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Error(err)
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(link, "net:["), "]"), 10, 64)
	if err != nil {
		t.Error(err)
	}
	return n
}

// TestEnd: Read ends with the watch.
func TestEnd(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	w, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := w.Read()
		ended <- err
	}()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestKilled: the kernel has no program any more once its process is gone.
func TestKilled(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 32)
	if err != nil {
		t.Fatalf("it said %q", line)
	}
	there := func() bool {
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(n))
		if err == nil {
			p.Close()
		}
		return err == nil
	}
	if !there() {
		t.Error("the program is not there while its process runs")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	for deadline := time.Now().Add(time.Minute); there(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the program is still there")
		}
	}
}

func TestSymbols(t *testing.T) {
	const text = `0000000000000000 A hidden
ffffffff81000000 T _text
ffffffff81000100 t first
ffffffff81000180 d data
ffffffff81000200 T second	[a_module]
ffffffff81000150 W between
`
	got, err := symbols(strings.NewReader(text), map[uint64]bool{0xffffffff81000140: true, 0xffffffff81000190: true, 0xffffffff81000210: true, 0x10: true})
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint64]string{0xffffffff81000140: "first", 0xffffffff81000190: "between", 0xffffffff81000210: "second"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
