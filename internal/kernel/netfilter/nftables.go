package netfilter

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

// nftRules finds what kube-proxy has in nf_tables: the tables of its mode
// nftables, and the chains in which iptables-nft keeps the others. Each is
// asked for by its name.
func nftRules(chains Mode) ([]Rules, error) {
	if !nfnl.Loaded() {
		return nil, nil
	}
	byChain := Rules{Mode: chains, Backend: NFT}
	byTable := Rules{Mode: NFTables}
	for _, f := range []struct {
		nfproto        byte
		chains, tables *bool
	}{
		{unix.NFPROTO_IPV4, &byChain.IPv4, &byTable.IPv4},
		{unix.NFPROTO_IPV6, &byChain.IPv6, &byTable.IPv6},
	} {
		c, err := nfnl.Dial()
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			return nil, nil // no nfnetlink, no nf_tables
		}
		if err != nil {
			return nil, err
		}
		if *f.tables, err = c.Any(nfnl.Table{Family: f.nfproto, Name: proxyTable}.Get()); err != nil {
			err = fmt.Errorf("ask nf_tables for the table %s: %w", proxyTable, err)
		} else if *f.chains, err = c.Any(nfnl.Table{Family: f.nfproto, Name: natTable}.Rules(servicesChain)); err != nil {
			err = fmt.Errorf("ask nf_tables for the chain %s: %w", servicesChain, err)
		}
		c.Close()
		if err != nil {
			return nil, err // the other family would say the same
		}
	}
	return appendSome(appendSome(nil, byChain), byTable), nil
}
