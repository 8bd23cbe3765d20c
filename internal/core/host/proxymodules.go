package host

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/files"
)

// maxIndex is how much of modules.dep is read: 0.5 MB for a distribution's kernel.
const maxIndex = 16 << 20

// proxyModules are those that kube-proxy's rules need, by its mode and then by the
// backend of iptables; where kernels have had several names for one, all of them
// (pkg/proxy in Kubernetes; xt_MASQUERADE and nft_chain_nat are of Linux 5.2).
var proxyModules = map[string][][]string{
	"iptables":  {{"xt_comment"}, {"xt_conntrack"}, {"xt_mark"}, {"xt_statistic"}, {"xt_MASQUERADE", "ipt_MASQUERADE"}, {"xt_nat"}},
	"nftables":  {{"nf_tables"}, {"nft_chain_nat", "nft_chain_nat_ipv4"}, {"nft_nat"}, {"nft_masq"}, {"nft_ct"}, {"nft_numgen"}},
	"ipvs":      {{"ip_vs"}, {"ip_vs_rr"}, {"ip_set"}, {"xt_set"}, {"xt_comment"}, {"xt_mark"}, {"xt_MASQUERADE", "ipt_MASQUERADE"}},
	"nf_tables": {{"nf_tables"}, {"nft_compat"}},
	"legacy":    {{"ip_tables"}, {"iptable_nat"}},
}

// lacks are the modules that kube-proxy's rules need and that other installed
// kernels than the running one do not have: in that, the rules are. A kernel whose
// lists cannot be read is passed over.
func (l *Linux) lacks(rules []guard.Rules) []guard.Lack {
	dir := filepath.Join(l.dir, "lib/modules")
	entries, err := os.ReadDir(dir)
	if err != nil || len(rules) == 0 {
		return nil
	}
	var list []guard.Lack
	for _, e := range entries {
		if e.Name() == l.release() {
			continue
		}
		dep, depErr := files.Read(filepath.Join(dir, e.Name(), "modules.dep"), maxIndex)
		builtin, builtinErr := files.Read(filepath.Join(dir, e.Name(), "modules.builtin"), maxIndex)
		if depErr != nil || builtinErr != nil {
			continue
		}
		has := func(names []string) bool {
			for _, name := range names {
				file := []byte("/" + name + ".ko")
				if bytes.Contains(dep, file) || bytes.Contains(builtin, file) {
					return true
				}
			}
			return false
		}
		told := make(map[string]bool)
		for _, r := range rules {
			for _, names := range slices.Concat(proxyModules[r.Mode], proxyModules[r.Backend]) {
				if !told[names[0]] && !has(names) {
					told[names[0]] = true
					list = append(list, guard.Lack{Module: names[0], Release: e.Name(), For: r.String()})
				}
			}
		}
	}
	return list
}
