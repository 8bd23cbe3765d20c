// Kubeproxy is a stand-in for kube-proxy in tests, to be built with the name kube-proxy.
// It writes rules for made-up Services and runs until it is told to end. Its rules stay,
// as with the real one.
//
//	kube-proxy [-mode iptables|nftables] [-backend nft|legacy] [-family both|ipv4|ipv6]
//	           [-services N] [-resync D] [-syncs N] | -cleanup
//
// As in kube-proxy 1.33 are the names of tables, chains, maps and sets, how they refer to
// each other, and the programs that write them, in the same order: chains and jumps one
// by one, then all Services in one iptables-restore --noflush; "nft -f" in mode nftables.
// Different are: the Services have one port and one endpoint each and come from no API;
// node ports, load balancers, affinity and firewalls have chains but no rules; a resync in
// mode nftables recreates the table. It loads no module itself, sets no sysctl and listens
// on no port.
//
// It prints "synced" after each time that it has written everything.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// proxy is the settings for one IP family.
type proxy struct {
	v6       bool
	ip       string       // in nft's words
	services netip.Prefix // addresses of the Services
	pods     netip.Prefix // addresses of their endpoints
}

var (
	ipv4 = &proxy{ip: "ip", services: netip.MustParsePrefix("10.96.0.0/12"), pods: netip.MustParsePrefix("10.244.0.0/16")}
	ipv6 = &proxy{v6: true, ip: "ip6", services: netip.MustParsePrefix("fd00:96::/112"), pods: netip.MustParsePrefix("fd00:244::/64")}
)

// service is a Service default/svc-N with the port http and one endpoint.
type service struct {
	name      string // as in a comment
	clusterIP netip.AddrPort
	endpoint  netip.AddrPort
}

// serviceList invents n Services, at most 60,000.
func (p *proxy) serviceList(n int) []service {
	list := make([]service, n)
	cluster, pod := p.services.Addr().Next(), p.pods.Addr().Next()
	for i := range list {
		list[i] = service{
			name:      fmt.Sprintf("default/svc-%d:http", i),
			clusterIP: netip.AddrPortFrom(cluster, 80),
			endpoint:  netip.AddrPortFrom(pod, 8080),
		}
		cluster, pod = cluster.Next(), pod.Next()
	}
	return list
}

// syncer writes one family's rules in one mode.
type syncer interface {
	sync(ctx context.Context, services []service) error
	cleanup(ctx context.Context) error
}

func main() {
	mode := flag.String("mode", "iptables", "iptables or nftables")
	backend := flag.String("backend", "nft", "of mode iptables: nft or legacy")
	family := flag.String("family", "both", "both, ipv4 or ipv6")
	services := flag.Int("services", 10, "how many Services")
	resync := flag.Duration("resync", 0, "write everything again this often (0: only once)")
	syncs := flag.Int("syncs", 0, "stop writing after so many times (0: never)")
	cleanup := flag.Bool("cleanup", false, "remove what another kube-proxy of this mode left, and end")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	proxies := map[string][]*proxy{"both": {ipv4, ipv6}, "ipv4": {ipv4}, "ipv6": {ipv6}}[*family]
	if err := run(ctx, *mode, *backend, proxies, *services, *resync, *syncs, *cleanup); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "kube-proxy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, mode, backend string, proxies []*proxy, n int, resync time.Duration, syncs int, cleanup bool) error {
	for done := 0; ; {
		for _, p := range proxies {
			s, err := p.syncer(mode, backend)
			if err != nil {
				return err
			}
			if cleanup {
				err = s.cleanup(ctx)
			} else {
				err = s.sync(ctx, p.serviceList(n))
			}
			if err != nil {
				return err
			}
		}
		if cleanup {
			return nil
		}
		fmt.Println("synced")
		if done++; resync == 0 || done == syncs {
			<-ctx.Done()
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(resync):
		}
	}
}

func (p *proxy) syncer(mode, backend string) (syncer, error) {
	switch mode {
	case "iptables":
		return newIPTables(p, backend)
	case "nftables":
		return &nfTables{p}, nil
	}
	return nil, errors.New("no such mode: " + mode)
}

// program runs a program with input, and returns its output.
func program(ctx context.Context, input, name string, args ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said.String())
	}
	return out.String(), nil
}
