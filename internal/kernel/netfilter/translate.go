package netfilter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/xtables"
)

// Translators says what translates destinations beside kube-proxy, in words: base
// chains of nf_tables that are for that, with rules; iptables-legacy; IPVS. That
// of a table that kube-proxy writes to is not among them, nor what leads ports of the
// host to containers. With an error, others may
// be there.
func Translators(ctx context.Context) (list []string, err error) {
	runtime.LockOSThread() // for /proc/thread-self and the sockets' namespace
	defer runtime.UnlockOSThread()

	if nfnl.Loaded() {
		list, err = nftTranslators(ctx)
	}
	for _, f := range []*xtables.Family{xtables.IPv4, xtables.IPv6} {
		if there, hasErr := hasNAT(f); !there || hasErr != nil {
			err = errors.Join(err, hasErr)
			continue
		}
		program := "iptables-legacy"
		if f == xtables.IPv6 {
			program = "ip6tables-legacy"
		}
		_, readErr := f.Read(ctx, natTable, xtables.Info{}, func(x *xtables.Table) error {
			used, err := x.Uses(servicesChain)
			if err != nil || used {
				return err
			}
			rules, err := x.Rules()
			if slices.ContainsFunc(rules, func(r xtables.Rule) bool {
				chain, jumps := strings.CutPrefix(r.Verdict, "jump ")
				return r.Chain == "PREROUTING" && (r.Target != "" || jumps && !isHostport(chain))
			}) {
				list = append(list, "the table nat of "+program)
			}
			return err
		})
		err = errors.Join(err, readErr)
	}
	there, ipvsErr := hasIPVS()
	if there {
		list = append(list, "IPVS")
	}
	return list, errors.Join(err, ipvsErr)
}

// nftTranslators are the base chains of the type nat at the hook prerouting.
func nftTranslators(ctx context.Context) (list []string, err error) {
	c, err := nfnl.Dial()
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_INET} {
		var bases, proxies []string
		err := c.List(ctx, nfnl.Chains(family), func() { bases, proxies = nil, nil }, func(in []byte) {
			table, name := nfnl.Text(nfnl.Find(in, unix.NFTA_CHAIN_TABLE)), nfnl.Text(nfnl.Find(in, unix.NFTA_CHAIN_NAME))
			if name == servicesChain || table == proxyTable {
				proxies = append(proxies, table)
			}
			hook := nfnl.Find(in, unix.NFTA_CHAIN_HOOK, unix.NFTA_HOOK_HOOKNUM)
			if len(hook) > 0 && nfnl.Hook(nfnl.Number(hook)) == nfnl.Prerouting && nfnl.Text(nfnl.Find(in, unix.NFTA_CHAIN_TYPE)) == "nat" {
				bases = append(bases, table+" "+name)
			}
		})
		if err != nil {
			return list, fmt.Errorf("list the chains of nf_tables that translate: %w", err)
		}
		for _, b := range bases {
			table, name, _ := strings.Cut(b, " ")
			where := "the table " + nfnl.FamilyWord(family) + " " + table + " of nf_tables"
			if slices.Contains(proxies, table) || slices.Contains(list, where) || isHostport(table) {
				continue
			}
			found := false
			err := c.List(ctx, nfnl.Table{Family: family, Name: table}.Rules(name), func() { found = false }, func(in []byte) {
				for e := range nfnl.Expressions(in) {
					_, chain, decides := nfnl.Verdict(e.Verdict())
					target, _, _ := e.Target()
					found = found || decides && chain != "" && !isHostport(chain) || target != "" || string(e.Name) == "nat" || e.Map() != "" ||
						string(e.Name) == "lookup" && e.Find(unix.NFTA_LOOKUP_DREG) != nil
				}
			})
			if err != nil {
				return list, fmt.Errorf("read the rules of %s: %w", where, err)
			}
			if found {
				list = append(list, where)
			}
		}
	}
	return list, nil
}

// isHostport reports whether a chain or a table has that name by which ports of the
// host lead to containers: those of Docker, Podman and the CNI plugin portmap.
func isHostport(name string) bool {
	for _, prefix := range []string{"DOCKER", "docker-bridges", "NETAVARK", "netavark", "CNI-HOSTPORT", "CNI-DN-", "cni_hostport"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// hasIPVS looks for a service of IPVS behind the three lines of its head.
func hasIPVS() (bool, error) {
	text, err := os.ReadFile("/proc/thread-self/net/ip_vs")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return strings.Count(string(text), "\n") > 3, err
}
