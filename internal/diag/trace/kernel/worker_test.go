package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// worker is a node with two pods behind the bridge cnio0. The server's
// addresses are those of the first endpoint of the stand-in for kube-proxy.
type worker struct {
	*lab.Namespace
	t              *testing.T
	client, server *lab.Namespace
}

// addresses of one family.
type addresses struct{ client, service, endpoint netip.AddrPort }

var (
	v4 = addresses{netip.MustParseAddrPort("10.244.0.31:0"), netip.MustParseAddrPort("10.96.0.1:80"), netip.MustParseAddrPort("10.244.0.1:8080")}
	v6 = addresses{netip.MustParseAddrPort("[fd00:244::31]:0"), netip.MustParseAddrPort("[fd00:96::1]:80"), netip.MustParseAddrPort("[fd00:244::1]:8080")}
)

// newWorker makes a node whose bridge hands packets over, or does not.
func newWorker(t *testing.T, handing bool) *worker {
	t.Helper()
	w := &worker{Namespace: lab.NewNamespace(t), t: t, client: lab.NewNamespace(t), server: lab.NewNamespace(t)}
	for _, ns := range []*lab.Namespace{w.Namespace, w.client, w.server} {
		// Neighbours are not asked for from an address that is still in doubt.
		ns.Run(t, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
	}
	w.batch(w.Namespace, fmt.Sprintf(`
link set lo up
link add cnio0 type bridge
addr add 10.244.0.254/24 dev cnio0
addr add fd00:244::fe/64 dev cnio0 nodad
link set cnio0 up
link add veth31 up master cnio0 type veth peer name eth0 netns %s
link add veth1 up master cnio0 type veth peer name eth0 netns %s
`, w.client.Path(), w.server.Path()))
	for ns, host := range map[*lab.Namespace]string{w.client: "31", w.server: "1"} {
		w.batch(ns, fmt.Sprintf(`
link set lo up
addr add 10.244.0.%[1]s/24 dev eth0
addr add fd00:244::%[1]s/64 dev eth0 nodad
link set eth0 up
route add default via 10.244.0.254
route add ::/0 via fd00:244::fe
`, host))
	}
	value := map[bool]string{false: "0", true: "1"}[handing]
	w.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
		"net.bridge.bridge-nf-call-iptables="+value, "net.bridge.bridge-nf-call-ip6tables="+value)
	w.serveIn(w.server)
	for _, a := range []addresses{v4, v6} {
		w.await(w.client, a.endpoint)
		w.await(w.Namespace, a.endpoint)
	}
	return w
}

// await waits until a pod can be reached: a port forwards a moment after it is
// up, and neighbours get to know each other.
func (w *worker) await(from *lab.Namespace, endpoint netip.AddrPort) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); w.get(from, endpoint) != nil; {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s cannot be reached", endpoint)
		}
	}
}

func (w *worker) batch(ns *lab.Namespace, commands string) {
	w.t.Helper()
	cmd := ns.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("ip -batch: %v\n%s", err, out)
	}
}

// serveIn answers on port 8080 of a pod, by HTTP and by UDP.
func (w *worker) serveIn(pod *lab.Namespace) {
	w.t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	var err, err2 error
	pod.Do(func() {
		tcp, err = net.Listen("tcp", ":8080")
		udp, err2 = net.ListenPacket("udp", ":8080")
	})
	if err != nil || err2 != nil {
		w.t.Fatal(err, err2)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, "hello") })}
	server.SetKeepAlivesEnabled(false)
	go server.Serve(tcp)
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(b[:n], from)
		}
	}()
	w.t.Cleanup(func() {
		server.Close()
		udp.Close()
	})
}

// proxy writes kube-proxy's rules by the stand-in.
func (w *worker) proxy(program string, args ...string) {
	w.t.Helper()
	standin.Start(w.t, w.Namespace, program, append(args, "-services", "3")...)
}

// load gives rules to nft(8).
func (w *worker) load(rules string) {
	w.t.Helper()
	cmd := w.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("nft: %v\n%s", err, out)
	}
}

// get asks for a page once, and waits for it no longer than it takes to see
// that there is no answer.
func (w *worker) get(from *lab.Namespace, to netip.AddrPort) error {
	errc := make(chan error, 1)
	from.Go(func() { errc <- get(to) }) // whatever its own thread is at
	return <-errc
}

func get(to netip.AddrPort) error {
	conn, err := net.DialTimeout("tcp", to.String(), 300*time.Millisecond)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	_, err = io.ReadAll(conn)
	return err
}

// send sends one datagram and waits for what comes back, from wherever.
func (w *worker) send(from *lab.Namespace, to netip.AddrPort) (answer string, err error) {
	from.Do(func() {
		var conn *net.UDPConn
		if conn, err = net.ListenUDP("udp", nil); err != nil {
			return
		}
		defer conn.Close()
		if _, err = conn.WriteToUDPAddrPort([]byte("question"), to); err != nil {
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		var source netip.AddrPort
		_, source, err = conn.ReadFromUDPAddrPort(make([]byte, 512))
		answer = netip.AddrPortFrom(source.Addr().Unmap(), source.Port()).String()
	})
	return answer, err
}

// ping sends one echo request from the client, and waits a second for what
// comes back.
func (w *worker) ping(to string) {
	w.t.Helper()
	var exit *exec.ExitError
	if out, err := w.client.Command("busybox", "ping", "-c", "1", "-W", "1", to).CombinedOutput(); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		w.t.Errorf("ping: %v\n%s", err, out)
	}
}

// follow traces while do makes the traffic.
func (w *worker) follow(client, server string, do func()) *trace.Record {
	w.t.Helper()
	q, err := trace.ParseQuery(client, server)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	done := make(chan struct{})
	var r *trace.Record
	w.Do(func() {
		r, err = Follow(ctx, q, Options{For: time.Minute, Packets: 1000, Ready: func() {
			go func() {
				defer close(done)
				do()
				cancel()
			}()
		}})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	<-done
	return r
}

// ruleset is all that nf_tables has, in the words of nft, without counters.
func (w *worker) ruleset() string { return w.Run(w.t, "nft", "--stateless", "list", "ruleset") }
