package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// TestAskHoldsNoThread: who waits for an answer waits outside of the pod. A
// Service can be asked 64 times at once.
func TestAskHoldsNoThread(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	const n = 64
	pod, err := newPod()
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	var out []byte
	err = pod.do(func() (err error) { // all goes to a link behind which there is nobody
		out, err = exec.Command("sh", "-ec", `ip link add eth0 type veth peer name nobody
			ip addr add 192.0.2.2/24 dev eth0
			ip link set nobody up
			ip link set eth0 up
			ip route add default via 192.0.2.1
			ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev eth0`).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	inPod := func() (n int) { // of this process's threads
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		var home, at unix.Stat_t
		if err := unix.Fstat(pod.fd, &home); err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks { // one that has ended meanwhile is in no namespace
			err := unix.Stat("/proc/self/task/"+task.Name()+"/ns/net", &at)
			if err == nil && at.Ino == home.Ino && at.Dev == home.Dev {
				n++
			}
		}
		return n
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	outcomes := make([]Outcome, n)
	for i := range n {
		all.Go(func() {
			outcomes[i] = pod.ask(ctx, TCP, netip.AddrPortFrom(serverService.of(IPv4), port), datagram{}).Outcome
		})
	}
	connecting := func() (n int) {
		var err error
		_ = pod.do(func() error {
			var list []byte
			list, err = os.ReadFile("/proc/thread-self/net/tcp")
			n = strings.Count(string(list), " 02 ") // TCP_SYN_SENT
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// A thread that has done its work in the pod ends a moment later.
	for deadline := time.Now().Add(time.Minute); connecting() < n || inPod() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d connect, %d threads wait in the pod", connecting(), n, inPod())
		}
	}
	cancel()
	all.Wait()
	for i, o := range outcomes {
		if o != TimedOut {
			t.Errorf("question %d: %s", i, o)
		}
	}
}

// TestDial connects to another pod, is refused, and gives up with ctx.
func TestDial(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	s := with("1", "1", Flags{})
	w, err := newWorld(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for _, f := range []Family{IPv4, IPv6} {
		at := netip.AddrPortFrom(serverAddresses.of(f), port)
		l, err := w.server.Listen(t.Context(), network("tcp", at), at.String())
		if err != nil {
			t.Fatal(err)
		}
		dial := func(ctx context.Context) string {
			t.Helper()
			c, err := w.client.Dial(ctx, "tcp", at.String())
			if err != nil {
				return err.Error()
			}
			defer c.Close()
			if c.RemoteAddr().String() != at.String() {
				t.Errorf("connected to %s and not to %s", c.RemoteAddr(), at)
			}
			return "connected"
		}
		if got := dial(t.Context()); got != "connected" {
			t.Errorf("%s: %s", at, got)
		}
		l.Close()
		if got := dial(t.Context()); got != "connect: connection refused" {
			t.Errorf("%s, where nobody listens: %s", at, got)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		if got := dial(ctx); got != "enough" {
			t.Errorf("%s, given up: %s", at, got)
		}
	}
	if _, err := w.client.Dial(t.Context(), "udp", "192.0.2.3:7"); err == nil || err.Error() != "unknown network udp" {
		t.Errorf("by UDP: %v", err)
	}
}

// TestAskReset: who takes a connection and resets it has answered.
func TestAskReset(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	s := with("1", "1", Flags{})
	w, err := newWorld(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	at := netip.AddrPortFrom(serverAddresses.of(IPv4), port)
	l, err := w.server.Listen(t.Context(), "tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	var rude sync.WaitGroup
	rude.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			_ = c.(*net.TCPConn).SetLinger(0) // Close is a reset, then
			c.Close()
		}
	})
	for range 200 {
		if a := w.client.ask(t.Context(), TCP, at, datagram{}); a.Outcome != Answered {
			t.Errorf("%s (%s)", a.Outcome, a.Error)
			break
		}
	}
	l.Close()
	rude.Wait()
}

func TestReply(t *testing.T) {
	segment := func(port uint16, flags byte) []byte {
		return []byte{0, 80, byte(port >> 8), byte(port), 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0}
	}
	for _, tt := range []struct {
		name  string
		b     []byte
		match bool
	}{
		{"SYN-ACK", segment(4660, 0x12), true},
		{"reset", segment(4660, 0x14), true},
		{"data", segment(4660, 0x18), false},
		{"SYN", segment(4660, 0x02), false},
		{"another port", segment(4661, 0x12), false},
		{"cut off", segment(4660, 0x12)[:13], false},
	} {
		v6 := &unix.SockaddrInet6{Addr: netip.MustParseAddr("2001:db8::1").As16()}
		if got, ok := reply(tt.b, v6, 4660); ok != tt.match || ok && got.String() != "[2001:db8::1]:80" {
			t.Errorf("%s over IPv6: %v %v", tt.name, got, ok)
		}
		v4 := &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}}
		header := append([]byte{0x46}, make([]byte, 23)...) // with an option
		if got, ok := reply(append(header, tt.b...), v4, 4660); ok != tt.match || ok && got.String() != "192.0.2.1:80" {
			t.Errorf("%s over IPv4: %v %v", tt.name, got, ok)
		}
	}
}

// TestAskWithoutRoute: what can't be sent is told, and is not silence.
func TestAskWithoutRoute(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	pod, err := newPod()
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	for p, want := range map[Protocol]string{TCP: "connect: network is unreachable", UDP: "sendto: network is unreachable"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		a := pod.ask(ctx, p, netip.AddrPortFrom(serverAddresses.of(IPv4), port), datagram{[]byte("nfguard"), 20 * time.Millisecond})
		cancel()
		if a.Outcome != Failed || !strings.HasSuffix(a.Error, want) {
			t.Errorf("%s: %s (%s)", p, a.Outcome, a.Error)
		}
	}
}
