package probe

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

// ErrNoNAT says that the kernel has no nf_tables, or none that translates
// addresses.
var ErrNoNAT = errors.New("this kernel has no address translation by nf_tables")

// addRules does in the calling thread's namespace what kube-proxy does for
// three Services with an endpoint each: the destination is translated, and
// the source as well where an endpoint asks itself. With drop, what one
// pod of the bridge sends another is dropped where it is forwarded.
func addRules(f Family, drop bool) error {
	c, err := nfnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	v6 := f == IPv6
	t := nfnl.Table{Family: unix.NFPROTO_IPV4, Name: "nfguard-probe"}
	if v6 {
		t.Family = unix.NFPROTO_IPV6
	}
	source, destination := nfnl.Source(v6), nfnl.Destination(v6)
	messages := []nfnl.Message{
		t.Create(0),
		t.CreateChain("services", "nat", nfnl.Prerouting, -100),     // NF_IP_PRI_NAT_DST
		t.CreateChain("masquerading", "nat", nfnl.Postrouting, 100), // NF_IP_PRI_NAT_SRC
	}
	for _, s := range []struct{ service, endpoint addresses }{
		{serverService, serverAddresses}, {remoteService, remoteAddresses}, {clientService, clientAddresses},
	} {
		messages = append(messages, t.CreateRule("services",
			nfnl.Exprs{}.Equal(destination, s.service.of(f).AsSlice()).DNAT(t.Family, s.endpoint.of(f).AsSlice())))
	}
	if drop {
		messages = append(messages, t.CreateChain("forward", "filter", nfnl.Forward, 0), t.CreateRule("forward",
			nfnl.Exprs{}.Meta(unix.NFT_META_IIFNAME, device(bridgeName)).Meta(unix.NFT_META_OIFNAME, device(bridgeName)).Drop()))
	}
	itself := clientAddresses.of(f).AsSlice()
	messages = append(messages, t.CreateRule("masquerading",
		nfnl.Exprs{}.Equal(source, itself).Equal(destination, itself).Masquerade()))
	if err := c.Commit(messages...); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("make rules: %w", err)
		}
		return fmt.Errorf("%w: %w", ErrNoNAT, err)
	}
	return nil
}

// device is a name as the kernel compares it.
func device(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
