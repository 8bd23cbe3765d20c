package main

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"os/exec"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// ipTables writes the rules of mode iptables.
type ipTables struct {
	*proxy
	*iptables.IPTables
	program string // "iptables-nft"
}

func newIPTables(p *proxy, backend string) (*ipTables, error) {
	name, family := "iptables-"+backend, iptables.ProtocolIPv4
	if p.v6 {
		name, family = "ip6tables-"+backend, iptables.ProtocolIPv6
	}
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		return nil, err
	}
	t, err := iptables.New(iptables.IPFamily(family), iptables.Path(path), iptables.Timeout(5))
	return &ipTables{p, t, path}, err
}

// jump is a rule that leads to one of kube-proxy's chains.
type jump struct{ table, to, from, state, comment string }

const newOnly = "NEW" // of conntrack's states

var jumps = []jump{
	{"filter", "KUBE-EXTERNAL-SERVICES", "INPUT", newOnly, "kubernetes externally-visible service portals"},
	{"filter", "KUBE-EXTERNAL-SERVICES", "FORWARD", newOnly, "kubernetes externally-visible service portals"},
	{"filter", "KUBE-NODEPORTS", "INPUT", "", "kubernetes health check service ports"},
	{"filter", "KUBE-SERVICES", "FORWARD", newOnly, "kubernetes service portals"},
	{"filter", "KUBE-SERVICES", "OUTPUT", newOnly, "kubernetes service portals"},
	{"filter", "KUBE-FORWARD", "FORWARD", "", "kubernetes forwarding rules"},
	{"filter", "KUBE-PROXY-FIREWALL", "INPUT", newOnly, "kubernetes load balancer firewall"},
	{"filter", "KUBE-PROXY-FIREWALL", "OUTPUT", newOnly, "kubernetes load balancer firewall"},
	{"filter", "KUBE-PROXY-FIREWALL", "FORWARD", newOnly, "kubernetes load balancer firewall"},
	{"nat", "KUBE-SERVICES", "OUTPUT", "", "kubernetes service portals"},
	{"nat", "KUBE-SERVICES", "PREROUTING", "", "kubernetes service portals"},
	{"nat", "KUBE-POSTROUTING", "POSTROUTING", "", "kubernetes postrouting rules"},
}

const canary = "KUBE-PROXY-CANARY"

func (j jump) rule() []string {
	rule := []string{"-m", "comment", "--comment", j.comment, "-j", j.to}
	if j.state != "" {
		rule = append([]string{"-m", "conntrack", "--ctstate", j.state}, rule...)
	}
	return rule
}

// ensureChain creates a chain unless it exists.
func (t *ipTables) ensureChain(table, chain string) error {
	exists, err := t.ChainExists(table, chain)
	if exists || err != nil {
		return err
	}
	return t.NewChain(table, chain)
}

func (t *ipTables) sync(ctx context.Context, services []service) error {
	for _, table := range []string{"mangle", "nat", "filter"} {
		if err := t.ensureChain(table, canary); err != nil {
			return err
		}
	}
	for _, j := range jumps {
		if err := t.ensureChain(j.table, j.to); err != nil {
			return err
		}
		if err := t.InsertUnique(j.table, j.from, 1, j.rule()...); err != nil {
			return err
		}
	}
	return t.restore(ctx, t.rules(services))
}

func (t *ipTables) restore(ctx context.Context, rules string) error {
	_, err := program(ctx, rules, t.program+"-restore", "-w", "5", "--noflush", "--counters")
	return err
}

// rules returns the input for iptables-restore: everything but the jumps.
func (t *ipTables) rules(services []service) string {
	var chains, rules strings.Builder
	chain := func(name string) { fmt.Fprintf(&chains, ":%s - [0:0]\n", name) }
	rule := func(format string, args ...any) { fmt.Fprintf(&rules, "-A "+format+"\n", args...) }

	chains.WriteString("*filter\n")
	for _, name := range []string{"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"} {
		chain(name)
	}
	chains.WriteString("-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n" +
		"-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT\n" +
		"-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n" +
		"COMMIT\n*nat\n")
	for _, name := range []string{"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"} {
		chain(name)
	}
	rule("KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN")
	rule("KUBE-POSTROUTING -j MARK --xor-mark 0x4000")
	rule(`KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`)
	rule("KUBE-MARK-MASQ -j MARK --or-mark 0x4000")
	for _, s := range services {
		svc, sep := "KUBE-SVC-"+hash(s.name), "KUBE-SEP-"+hash(s.name+s.endpoint.String())
		chain(svc)
		chain(sep)
		rule(`KUBE-SERVICES -m comment --comment "%s cluster IP" -m tcp -p tcp -d %s --dport 80 -j %s`, s.name, s.clusterIP.Addr(), svc)
		rule(`%s -m comment --comment "%s cluster IP" -m tcp -p tcp -d %s --dport 80 ! -s %s -j KUBE-MARK-MASQ`, svc, s.name, s.clusterIP.Addr(), t.pods)
		rule(`%s -m comment --comment "%s -> %s" -j %s`, svc, s.name, s.endpoint, sep)
		rule(`%s -m comment --comment %s -s %s -j KUBE-MARK-MASQ`, sep, s.name, s.endpoint.Addr())
		rule(`%s -m comment --comment %s -m tcp -p tcp -j DNAT --to-destination %s`, sep, s.name, s.endpoint)
	}
	rule(`KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`)
	return chains.String() + rules.String() + "COMMIT\n"
}

func (t *ipTables) cleanup(ctx context.Context) error {
	for _, j := range jumps {
		_ = t.DeleteIfExists(j.table, j.from, j.rule()...) // the chain may be gone
	}
	for _, table := range []string{"mangle", "nat", "filter"} {
		chains, err := t.ListChains(table)
		if err != nil {
			return err
		}
		var flush, remove strings.Builder
		for _, c := range chains {
			if own(c) {
				fmt.Fprintf(&flush, ":%s - [0:0]\n", c)
				fmt.Fprintf(&remove, "-X %s\n", c)
			}
		}
		if err := t.restore(ctx, "*"+table+"\n"+flush.String()+remove.String()+"COMMIT\n"); err != nil {
			return err
		}
	}
	return nil
}

// own reports whether a chain is kube-proxy's and not the kubelet's.
func own(chain string) bool {
	switch chain {
	case "KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT", "KUBE-MARK-DROP":
		return false
	}
	return strings.HasPrefix(chain, "KUBE-")
}

// hash has the form of the hashes in the names of kube-proxy's chains.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:])[:16]
}
