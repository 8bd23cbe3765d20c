package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base32"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"text/template"

	"github.com/nfguard/nfguard/test/demo/box"
)

const (
	bridge   = "cnio0"
	gateway  = "10.200.2.1"
	clientIP = "10.200.2.31"
	serverIP = "10.200.2.32"
	podNet   = "10.200.0.0/16"
)

// The Services of the worker. Their endpoint is the server pod, on the same
// node as the client pod: that is the case that needs br_netfilter.
var (
	web = service{"default/web:http", "tcp", netip.MustParseAddrPort("10.32.0.102:80"), netip.MustParseAddrPort(serverIP + ":80")}
	dns = service{"kube-system/kube-dns:dns", "udp", netip.MustParseAddrPort("10.32.0.10:53"), netip.MustParseAddrPort(serverIP + ":53")}
)

// service is a port of a Service with a single endpoint.
type service struct {
	Name      string // as kube-proxy writes it: namespace/name:port
	Proto     string
	ClusterIP netip.AddrPort
	Endpoint  netip.AddrPort
}

func (s service) PodNet() string       { return podNet }
func (s service) ServiceChain() string { return "KUBE-SVC-" + chainHash(s.Name+s.Proto) }
func (s service) EndpointChain() string {
	return "KUBE-SEP-" + chainHash(s.Name+s.Proto+s.Endpoint.String())
}

// chainHash is how kube-proxy makes a chain's name from what it is for.
func chainHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:])[:16]
}

//go:embed rules.tmpl
var rules string

// cluster is a worker node with a client and a server pod on one bridge.
type cluster struct {
	worker, client, server *box.Box
}

func newCluster(ctx context.Context) (*cluster, error) {
	c := &cluster{}
	for _, b := range []**box.Box{&c.worker, &c.client, &c.server} {
		var err error
		if *b, err = box.New(); err != nil {
			c.close()
			return nil, err
		}
	}
	if err := c.build(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *cluster) close() {
	for _, b := range []*box.Box{c.client, c.server, c.worker} {
		if b != nil {
			b.Close()
		}
	}
}

// build does the work of the CNI plugin and kube-proxy.
func (c *cluster) build(ctx context.Context) error {
	node := fmt.Sprintf(`
link set lo up
link add %[1]s type bridge
addr add %[2]s/24 dev %[1]s
link set %[1]s up
link add veth31 up master %[1]s type veth peer name eth0 netns %[3]s
link add veth32 up master %[1]s type veth peer name eth0 netns %[4]s
`, bridge, gateway, c.client.Netns(), c.server.Netns())
	pod := func(ip string) string {
		return fmt.Sprintf(`
link set lo up
addr add %s/24 dev eth0
link set eth0 up
route add default via %s
`, ip, gateway)
	}
	var nat strings.Builder
	if err := template.Must(template.New("rules").Parse(rules)).Execute(&nat, []service{web, dns}); err != nil {
		return err
	}
	for _, step := range []struct {
		in    *box.Box
		input string
		argv  []string
	}{
		{c.worker, node, []string{"ip", "-batch", "-"}},
		{c.client, pod(clientIP), []string{"ip", "-batch", "-"}},
		{c.server, pod(serverIP), []string{"ip", "-batch", "-"}},
		{c.worker, "", []string{"sysctl", "-w", "net.ipv4.ip_forward=1"}},
		{c.worker, nat.String(), []string{"iptables-nft-restore", "--noflush"}},
	} {
		if err := step.in.Must(ctx, step.input, step.argv[0], step.argv[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// keys are the three sysctls that decide whether bridged packets reach
// netfilter.
var keys = []string{
	"net.bridge.bridge-nf-call-iptables",
	"net.bridge.bridge-nf-call-ip6tables",
	"net.bridge.bridge-nf-call-arptables",
}

// foreign changes a key of the worker as other people would, with sysctl(8).
func (c *cluster) foreign(ctx context.Context, key, value string) error {
	return c.worker.Must(ctx, "", "sysctl", "-w", key+"="+value)
}

// values reads the keys in the calling thread's namespace: the host's or, with Do, a
// box's.
func values() (string, error) {
	var have []string
	for _, key := range keys {
		value, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
		if err != nil {
			return "", err
		}
		have = append(have, strings.TrimSpace(string(value)))
	}
	return strings.Join(have, " "), nil
}
