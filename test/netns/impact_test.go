package netns_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// flows is a kind of connection: what is asked, and whether nfguard impact is to count
// it while the bridge hands nothing over.
type flows struct {
	name     string
	service  [2]string // by IPv4 and by IPv6
	endpoint [2]string
	port     int
	bypassed bool
}

var kindsOfFlows = []flows{
	{"to a pod on this node", [2]string{"10.96.0.1", "fd00:96::1"}, [2]string{"10.244.0.1", "fd00:244::1"}, 8080, true},
	{"to a pod elsewhere", [2]string{"10.96.0.2", "fd00:96::2"}, [2]string{"10.244.1.1", "fd00:244:1::1"}, 8080, false},
	{"refused elsewhere", [2]string{"10.96.0.3", "fd00:96::3"}, [2]string{"10.244.1.1", "fd00:244:1::1"}, 9, false},
	{"to a pod that is gone", [2]string{"10.96.0.4", "fd00:96::4"}, [2]string{"10.244.0.99", "fd00:244::99"}, 8080, false},
	{"to a silent host elsewhere", [2]string{"10.96.0.5", "fd00:96::5"}, [2]string{"10.244.1.1", "fd00:244:1::1"}, 7, false},
}

// TestImpact counts every connection whose answers bypass netfilter, of 1,000 of many
// kinds, and no other; and none once the bridge hands its packets over.
func TestImpact(t *testing.T) {
	const each = 50
	n := newNode(t, "")
	n.set("0", "0", "1")
	client, near, far := lab.NewNamespace(t), lab.NewNamespace(t), lab.NewNamespace(t)
	ip := func(ns *lab.Namespace, commands ...string) {
		t.Helper()
		cmd := ns.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v\n%s", commands, err, out)
		}
	}
	ip(n.Namespace, "link set lo up", "addr add 10.244.0.254/24 dev cnio0", "addr add fd00:244::fe/64 dev cnio0 nodad", "link set cnio0 up",
		"link add veth31 up master cnio0 type veth peer name eth0 netns "+client.Path(),
		"link add veth1 up master cnio0 type veth peer name eth0 netns "+near.Path(),
		"link add far up type veth peer name eth0 netns "+far.Path(), "addr add 10.244.1.254/24 dev far", "addr add fd00:244:1::fe/64 dev far nodad")
	for _, pod := range []struct {
		ns     *lab.Namespace
		v4, v6 string
	}{{client, "10.244.0.31", "fd00:244::31"}, {near, "10.244.0.1", "fd00:244::1"}, {far, "10.244.1.1", "fd00:244:1::1"}} {
		ip(pod.ns, "link set lo up", "link set eth0 up", "addr add "+pod.v4+"/24 dev eth0", "addr add "+pod.v6+"/64 dev eth0 nodad",
			"route add default via "+pod.v4[:strings.LastIndexByte(pod.v4, '.')]+".254", "route add default via "+pod.v6[:strings.LastIndex(pod.v6, "::")]+"::fe")
	}
	n.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	n.Run(t, "sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=600", "net.netfilter.nf_conntrack_tcp_timeout_syn_sent=600") // for a slow machine
	far.Run(t, "nft", "add table inet silent; add chain inet silent in { type filter hook input priority 0; }; add rule inet silent in meta l4proto { tcp, udp } th dport 7 drop")
	rules := new(strings.Builder)
	for i, family := range []string{"ip", "ip6"} {
		fmt.Fprintf(rules, "table %s service {\n chain pre { type nat hook prerouting priority dstnat;\n", family)
		for _, k := range kindsOfFlows {
			fmt.Fprintf(rules, "  %s daddr %s meta l4proto { tcp, udp } dnat to %s\n", family, k.service[i], netip.AddrPortFrom(netip.MustParseAddr(k.endpoint[i]), uint16(k.port)))
		}
		rules.WriteString(" }\n}\n")
	}
	cmd := n.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	echo(t, near)
	echo(t, far)
	for _, to := range []string{"10.244.0.1", "fd00:244::1", "10.244.1.1", "fd00:244:1::1"} { // the links take a moment
		for deadline := time.Now().Add(atMost); connect(client, net.JoinHostPort(to, "8080")) != nil; {
			if time.Now().After(deadline) {
				t.Fatalf("%s cannot be reached", to)
			}
		}
	}

	want, all := 0, 0
	for _, k := range kindsOfFlows {
		for _, service := range k.service {
			for _, protocol := range []int{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
				begin(t, client, protocol, netip.AddrPortFrom(netip.MustParseAddr(service), 80), each)
				all += each
				if k.bypassed {
					want += each
				}
			}
		}
	}
	if all != 1000 {
		t.Fatalf("%d connections were begun", all)
	}
	type found struct {
		Connections int      `json:"connections"`
		Pods        int      `json:"pods"`
		Bypassing   []string `json:"bypassing"`
		Groups      []struct {
			Address     string `json:"address"`
			Client      string `json:"client"`
			Protocol    string `json:"protocol"`
			Connections int    `json:"connections"`
		} `json:"groups"`
	}
	impact := func(wantCode int) (f found) {
		t.Helper()
		out, err := n.nfguard("impact", "-o", "json").Output()
		code := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		if code != wantCode {
			t.Fatalf("exit code %d, want %d: %v\n%s", code, wantCode, err, out)
		}
		lab.Schema(t, "impact", out)
		if err := json.Unmarshal(out, &f); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return f
	}
	out, _ := n.nfguard("check").Output()
	if line := fmt.Sprintf("\nnow      %d connections of 1 pod through Services: unreplied while bypassing netfilter\n", want); !strings.Contains(string(out), line) {
		t.Errorf("check does not say %q:\n%s", line, out)
	}
	f := impact(1)
	if f.Connections != want || f.Pods != 1 {
		t.Errorf("of 1,000 connections %d of %d pods were counted, want %d of one: %+v", f.Connections, f.Pods, want, f)
	}
	for _, g := range f.Groups {
		if (g.Address != "10.96.0.1:80" && g.Address != "[fd00:96::1]:80") || g.Connections != each {
			t.Errorf("counted: %+v", g)
		}
	}

	n.set("1", "0", "1")
	if f := impact(1); f.Connections != want/2 {
		t.Errorf("with IPv4 handed over, %d were counted, want %d of IPv6", f.Connections, want/2)
	}
	// The daemon finds it so, puts it right, and says what it has cost. Requests that are
	// sent once more meanwhile are answered.
	n.set("0", "0", "1")
	begin(t, client, unix.IPPROTO_UDP, netip.MustParseAddrPort("10.96.0.1:80"), each)
	n.start()
	n.awaitReady()
	r := n.recorded("the drift of IPv4", func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == "drift" && r["NFGUARD_SUBJECT"] == "net.bridge.bridge-nf-call-iptables"
	})
	lost, _ := strconv.Atoi(r["NFGUARD_UNREPLIED"])
	if lost < each || lost > 3*each || r["NFGUARD_UNREPLIED_PODS"] != "1" ||
		!strings.HasSuffix(r["MESSAGE"], fmt.Sprintf("; %d connections of 1 pod through Services had no reply", lost)) {
		t.Errorf("of %d to %d connections, the record says %q: %s", each, 3*each, r["NFGUARD_UNREPLIED"], r["MESSAGE"])
	}
	n.stop()

	if f := impact(0); f.Connections != 0 || len(f.Bypassing) != 0 {
		t.Errorf("with all handed over: %+v", f)
	}
}

// echo answers on port 8080 of a pod, by TCP and UDP and both families.
func echo(t *testing.T, pod *lab.Namespace) {
	t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	var err, err2 error
	pod.Do(func() {
		tcp, err = net.Listen("tcp", ":8080")
		udp, err2 = net.ListenPacket("udp", ":8080")
	})
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	t.Cleanup(func() {
		tcp.Close()
		udp.Close()
	})
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(b[:n], from)
		}
	}()
}

// begin begins so many connections from a pod, and waits for none of them.
func begin(t *testing.T, pod *lab.Namespace, protocol int, to netip.AddrPort, n int) {
	t.Helper()
	var fail error
	pod.Do(func() {
		domain, at := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
		if to.Addr().Is4() {
			domain, at = unix.AF_INET, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
		}
		kind := unix.SOCK_STREAM
		if protocol == unix.IPPROTO_UDP {
			kind = unix.SOCK_DGRAM
		}
		for range n {
			fd, err := unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
			if err != nil {
				fail = err
				return
			}
			t.Cleanup(func() { unix.Close(fd) })
			if err := unix.Connect(fd, at); err != nil && !errors.Is(err, unix.EINPROGRESS) {
				fail = err
				return
			}
			if protocol == unix.IPPROTO_UDP {
				if _, err := unix.Write(fd, []byte("?")); err != nil {
					fail = err
					return
				}
			}
		}
	})
	if fail != nil {
		t.Fatalf("begin connections to %s: %v", to, fail)
	}
}
