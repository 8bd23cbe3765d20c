package dns

import (
	"context"
	"net"
	"net/netip"
)

// Namespace is the network namespace that asks. Its methods are as those of
// net.Dialer and net.ListenConfig, and are safe together.
type Namespace interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error)
}

// Own is the network namespace of the process.
type Own struct{}

// Dial is as [Namespace] has it.
func (Own) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// ListenPacket is as [Namespace] has it.
func (Own) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	return (&net.ListenConfig{}).ListenPacket(ctx, network, address)
}

// Networks are those on the links of the calling thread's network namespace.
func Networks() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	list := []netip.Prefix{}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && !p.Addr().IsLoopback() && !p.IsSingleIP() {
			list = append(list, p.Masked())
		}
	}
	return list, nil
}
