package netns_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// patience is how long a request between pods waits for its answer.
const patience = 500 * time.Millisecond

// The two addresses of a Service, and those of the pod behind it.
var (
	services  = []netip.Addr{netip.MustParseAddr("10.32.0.10"), netip.MustParseAddr("fd00:32::10")}
	endpoints = []string{"10.200.2.32", "fd00:200::32"}
)

// pods puts a client and a server pod on cni0, with kube-proxy's part for a
// Service whose endpoint is the server.
func (n *node) pods() (client *lab.Namespace) {
	n.t.Helper()
	client, server := lab.NewNamespace(n.t), lab.NewNamespace(n.t)
	ip := func(ns *lab.Namespace, lines string) {
		n.t.Helper()
		cmd := ns.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(lines)
		if out, err := cmd.CombinedOutput(); err != nil {
			n.t.Fatalf("ip -batch: %v\n%s", err, out)
		}
	}
	ip(n.Namespace, fmt.Sprintf(`link set lo up
link add cni0 type bridge
addr add 10.200.2.1/24 dev cni0
addr add fd00:200::1/64 dev cni0 nodad
link set cni0 up
link add veth31 up master cni0 type veth peer name eth0 netns %s
link add veth32 up master cni0 type veth peer name eth0 netns %s
`, client.Path(), server.Path()))
	for i, pod := range []*lab.Namespace{client, server} {
		ip(pod, fmt.Sprintf(`link set lo up
addr add 10.200.2.3%[1]d/24 dev eth0
addr add fd00:200::3%[1]d/64 dev eth0 nodad
link set eth0 up
route add default via 10.200.2.1
route add default via fd00:200::1
`, i+1))
	}
	n.Run(n.t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for i, tables := range []string{"iptables-nft", "ip6tables-nft"} {
		for _, proto := range []string{"tcp", "udp"} {
			n.Run(n.t, tables, "-t", "nat", "-A", "PREROUTING", "-d", services[i].String(), "-p", proto, "--dport", "53",
				"-j", "DNAT", "--to-destination", net.JoinHostPort(endpoints[i], "53"))
		}
	}
	server.Do(func() { serve(n.t) })
	// It can take a second until a new device carries IPv6.
	for _, from := range []*lab.Namespace{client, n.Namespace} {
		for i, gateway := range []string{"10.200.2.1", "fd00:200::1"} {
			n.reaches(from, endpoints[i], nil)
			n.reaches(from, gateway, unix.ECONNREFUSED)
		}
	}
	return client
}

// reaches waits until a connection to port 53 of ip ends as wanted.
func (n *node) reaches(from *lab.Namespace, ip string, want error) {
	n.t.Helper()
	for deadline := time.Now().Add(atMost); ; time.Sleep(20 * time.Millisecond) {
		var err error
		from.Do(func() {
			var c net.Conn
			if c, err = net.DialTimeout("tcp", net.JoinHostPort(ip, "53"), patience); err == nil {
				c.Close()
			}
		})
		if errors.Is(err, want) {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%s is not reached: %v", ip, err)
		}
	}
}

// serve answers on port 53, TCP and UDP, IPv4 and IPv6, as long as the test lasts.
func serve(t *testing.T) {
	web, err := net.Listen("tcp", ":53")
	if err != nil {
		t.Error(err)
		return
	}
	dns, err := net.ListenUDP("udp", &net.UDPAddr{Port: 53})
	if err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(func() { web.Close(); dns.Close() })
	go func() {
		for {
			c, err := web.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("hello\n"))
			c.Close()
		}
	}()
	go func() {
		b := make([]byte, 512)
		for {
			size, from, err := dns.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = dns.WriteToUDPAddrPort(b[:size], from)
		}
	}()
}

// requests asks the Service by its cluster IPs, and returns what went wrong.
func requests(client *lab.Namespace) (wrong []string) {
	client.Do(func() {
		for _, ip := range services {
			to := netip.AddrPortFrom(ip, 53)
			if err := dial(to); err != nil {
				wrong = append(wrong, fmt.Sprintf("tcp %v: %v", to, err))
			}
			if err := ask(to); err != nil {
				wrong = append(wrong, fmt.Sprintf("udp %v: %v", to, err))
			}
		}
	})
	return wrong
}

func dial(to netip.AddrPort) error {
	c, err := net.DialTimeout("tcp", to.String(), patience)
	if err != nil {
		return errors.New("no connection")
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 16)
	_, err = c.Read(b)
	return err
}

// ask accepts an answer from anywhere, so that it notices a wrong source.
func ask(to netip.AddrPort) error {
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.WriteToUDPAddrPort([]byte("?"), to); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 16)
	_, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return errors.New("no answer")
	}
	if from.Addr().Unmap() != to.Addr() {
		return fmt.Errorf("reply from unexpected source %v", from.Addr().Unmap())
	}
	return nil
}

// taps puts two virtual machines on virbr0, each a tap whose frames we write
// and read ourselves.
func (n *node) taps() (from, to *os.File) {
	n.t.Helper()
	n.Run(n.t, "ip", "link", "add", "virbr0", "type", "bridge")
	n.Run(n.t, "ip", "link", "set", "virbr0", "up")
	var err error
	tap := func(name string) (f *os.File) {
		n.Do(func() {
			var fd int
			if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
				return
			}
			var req *unix.Ifreq
			if req, err = unix.NewIfreq(name); err == nil {
				req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
				err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
			}
			f = os.NewFile(uintptr(fd), name)
		})
		if err != nil {
			n.t.Fatalf("make %s: %v", name, err)
		}
		n.t.Cleanup(func() { f.Close() })
		n.Run(n.t, "ip", "link", "set", name, "master", "virbr0", "up")
		return f
	}
	return tap("tap0"), tap("tap1")
}

// crosses sends an IPv4 and an IPv6 datagram from one machine to the other,
// and reports whether both arrive.
func crosses(from, to *os.File) bool { return cross(from, to, 2*time.Second) }

// cross is crosses with a limit of its own.
func cross(from, to *os.File, limit time.Duration) bool {
	ethernet := func(kind ...byte) []byte {
		return append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7}, kind...)
	}
	udp := []byte{0x30, 0x39, 0x30, 0x39, 0, 8, 0, 0} // port 12345, no checksum
	v4 := append(ethernet(8, 0), 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 122, 2, 192, 168, 122, 3)
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(v4[i])<<8 | uint32(v4[i+1])
	}
	sum = sum>>16 + sum&0xffff
	v4[24], v4[25] = byte(^sum>>8), byte(^sum)
	v6 := append(ethernet(0x86, 0xdd), 0x60, 0, 0, 0, 0, 8, 17, 64)
	for _, host := range []byte{2, 3} {
		v6 = append(v6, 0xfd, 0, 0, 0x22, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host)
	}
	want := map[string]bool{string(append(v4, udp...)): true, string(append(v6, udp...)): true}
	for frame := range want {
		if _, err := from.Write([]byte(frame)); err != nil {
			return false
		}
	}
	_ = to.SetReadDeadline(time.Now().Add(limit))
	for b := make([]byte, 2048); len(want) > 0; {
		size, err := to.Read(b)
		if err != nil {
			return false
		}
		delete(want, string(b[:size])) // the host also sends something
	}
	return true
}

// met says how many packets the FORWARD rules for virbr0 have matched.
func (n *node) met() string {
	n.t.Helper()
	var out []string
	for _, tables := range []string{"iptables-nft-save", "ip6tables-nft-save"} {
		for line := range strings.Lines(n.Run(n.t, tables, "-c", "-t", "filter")) {
			if strings.Contains(line, "virbr0") {
				count, _, _ := strings.Cut(strings.TrimPrefix(line, "["), ":")
				out = append(out, count)
			}
		}
	}
	return strings.Join(out, " ")
}

// Services work on the bridge of the pods, while no frame of the virtual machines on the
// same host reaches a rule. The sysctls are 0 throughout.
func TestPodsAndVMsOnOneHost(t *testing.T) {
	n := newScopedNode(t, "")
	client := n.pods()
	from, to := n.taps()
	for _, tables := range []string{"iptables-nft", "ip6tables-nft"} {
		n.Run(t, tables, "-A", "FORWARD", "-i", "virbr0", "-j", "ACCEPT")
	}
	if wrong := requests(client); len(wrong) != 4 {
		t.Errorf("without nfguard, of 4 requests to be wrong: %q", wrong)
	}
	n.start()
	n.awaitReady()
	for range 3 {
		if wrong := requests(client); len(wrong) > 0 {
			t.Errorf("with nfguard: %q", wrong)
		}
		if !crosses(from, to) {
			t.Error("frames of the virtual machines do not cross their bridge")
		}
	}
	if got := n.met(); got != "0 0" {
		t.Errorf("frames of the virtual machines met %s rules", got)
	}
	if got := n.flags("virbr0"); got != "0 0 0" {
		t.Errorf("virbr0 was touched: %s", got)
	}
	if got := n.values(); got != "0 0 0" {
		t.Errorf("the sysctls are %s", got)
	}
	n.stop()
	if wrong := requests(client); len(wrong) > 0 {
		t.Errorf("after nfguard has stopped: %q", wrong)
	}
	// The counters work.
	n.Run(t, "ip", "link", "set", "virbr0", "type", "bridge", "nf_call_iptables", "1", "nf_call_ip6tables", "1")
	if !crosses(from, to) {
		t.Error("with its flags frames do not cross virbr0")
	}
	if got := n.met(); got == "0 0" {
		t.Error("with its flags no frame of virbr0 meets a rule: the test proves nothing")
	}
}
