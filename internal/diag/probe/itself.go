package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// How the port of a pod is that asks itself.
const (
	InHairpin = "in hairpin mode"
	NoHairpin = "no hairpin mode"
)

// AskItself has the pod ask a Service whose only endpoint is the pod: with its
// port in hairpin mode and, where both is true, first without. The Service is of
// rules of our own, at an address for documentation, which nobody else meets and
// which the kernel removes with the process. Where there can be none, the cells
// are [Absent] and say why. It is not to be called again.
func (a *Attachment) AskItself(ctx context.Context, both bool) []Cell {
	var families []Family
	for _, p := range a.Addresses {
		families = append(families, familyOf(p.Addr()))
	}
	stop, err := a.answerItself(ctx, families)
	if err != nil {
		return itself(families, InHairpin, err)
	}
	defer stop()
	ask := func(port string) []Cell {
		cells := itself(families, port, nil)
		round(ctx, realPatience, cells, a.askTimes, func(*Cell) bool { return true })
		round(ctx, lastPatience, cells, a.askTimes, (*Cell).silent)
		return cells
	}
	var cells []Cell
	if both {
		cells = ask(NoHairpin)
		if p, _, err := rtnl.PortNamed(a.port.Attrs().Name); err == nil && p.Hairpin { // nfguard keeps it on here
			for i := range cells {
				cells[i].Port = InHairpin
			}
			return cells
		}
	}
	if err := rtnl.SetHairpin(a.bridge, a.port.Attrs().Index, a.port.Attrs().Name); err != nil {
		return append(cells, itself(families, InHairpin, fmt.Errorf("set hairpin mode: %w", err))...)
	}
	return append(cells, ask(InHairpin)...)
}

// itself are the questions of a pod to itself; with an error it is why they
// cannot be asked.
func itself(families []Family, port string, err error) []Cell {
	var cells []Cell
	for _, f := range families {
		for _, p := range []Protocol{TCP, UDP} {
			c := Cell{Path: Hairpin, To: ClusterIP, Family: f, Protocol: p, Port: port, Asked: netip.AddrPortFrom(clientService.of(f), ownPort)}
			if err != nil {
				c.Outcome, c.Error = Absent, err.Error()
			}
			cells = append(cells, c)
		}
	}
	return cells
}

// ownPort is where the pod answers itself: that of echo (RFC 862).
const ownPort = port

// answerItself has the pod answer, and makes it the endpoint of a Service.
func (a *Attachment) answerItself(ctx context.Context, families []Family) (stop func(), err error) {
	c, err := nfnl.Dial()
	if err != nil {
		return nil, err
	}
	for _, p := range a.Addresses {
		if err = ownService(c, "nfguard-"+a.port.Attrs().Name, p.Addr()); err != nil {
			break
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	silence, err := serve(ctx, families, a.Pod)
	if err != nil {
		c.Close()
		return nil, err
	}
	return func() { silence(); c.Close() }, nil
}

// ownService does in the calling process's namespace what kube-proxy does for a
// Service whose only endpoint is own, for that pod only. The rules go with the
// connection.
func ownService(c *nfnl.Conn, name string, own netip.Addr) error {
	f := familyOf(own)
	t := nfnl.Table{Family: unix.NFPROTO_IPV4, Name: name}
	if f == IPv6 {
		t.Family = unix.NFPROTO_IPV6
	}
	source, destination := nfnl.Source(f == IPv6), nfnl.Destination(f == IPv6)
	pod := own.AsSlice()
	err := c.Commit(
		t.Create(nfnl.Owner),
		t.CreateChain("services", "nat", nfnl.Prerouting, -100),     // NF_IP_PRI_NAT_DST
		t.CreateChain("masquerading", "nat", nfnl.Postrouting, 100), // NF_IP_PRI_NAT_SRC
		t.CreateRule("services", nfnl.Exprs{}.Equal(source, pod).Equal(destination, clientService.of(f).AsSlice()).DNAT(t.Family, pod)),
		t.CreateRule("masquerading", nfnl.Exprs{}.Equal(source, pod).Equal(destination, pod).Masquerade()),
	)
	if err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w that goes with its maker (Linux 5.12): %w", ErrNoNAT, err)
	}
	return err
}
