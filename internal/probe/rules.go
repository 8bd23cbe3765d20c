package probe

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ErrNoNAT says that the kernel has no nf_tables, or none that translates
// addresses.
var ErrNoNAT = errors.New("this kernel has no address translation by nf_tables")

// addRules does in the calling thread's namespace what kube-proxy does for
// three Services with an endpoint each: the destination is translated, and
// the source as well where an endpoint asks itself.
func addRules(f Family) error {
	nft, err := nftables.New()
	if err != nil {
		return err
	}
	t := nft.AddTable(&nftables.Table{Name: "nfguard-probe", Family: tableFamily(f)})
	pre := nft.AddChain(&nftables.Chain{
		Name: "services", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	post := nft.AddChain(&nftables.Chain{
		Name: "masquerading", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	for _, s := range []struct{ service, endpoint addresses }{
		{serverService, serverAddresses}, {remoteService, remoteAddresses}, {clientService, clientAddresses},
	} {
		nft.AddRule(&nftables.Rule{Table: t, Chain: pre, Exprs: append(destination(s.service.of(f)),
			&expr.Immediate{Register: 1, Data: s.endpoint.of(f).AsSlice()},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(tableFamily(f)), RegAddrMin: 1})})
	}
	itself := clientAddresses.of(f)
	nft.AddRule(&nftables.Rule{Table: t, Chain: post, Exprs: append(append(source(itself), destination(itself)...), &expr.Masq{})})
	if err := nft.Flush(); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("make rules: %w", err)
		}
		return fmt.Errorf("%w: %w", ErrNoNAT, err)
	}
	return nil
}

func tableFamily(f Family) nftables.TableFamily {
	if f == IPv6 {
		return nftables.TableFamilyIPv6
	}
	return nftables.TableFamilyIPv4
}

// source and destination match an address by its place in the IP header.
func source(a netip.Addr) []expr.Any {
	if a.Is6() {
		return field(8, a)
	}
	return field(12, a)
}

func destination(a netip.Addr) []expr.Any {
	if a.Is6() {
		return field(24, a)
	}
	return field(16, a)
}

func field(offset uint32, a netip.Addr) []expr.Any {
	b := a.AsSlice()
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(b))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b},
	}
}
