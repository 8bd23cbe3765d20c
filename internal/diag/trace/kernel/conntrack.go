package kernel

import (
	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/conntrack"
)

// parseConntrack reads a message of one of conntrack's groups. It is false for
// what is of another protocol than can be followed.
func parseConntrack(b []byte) (c trace.Connection, ok bool) {
	is, ok := conntrack.Parse(b)
	c = trace.Connection{
		ID: is.ID, Protocol: trace.Protocol(is.Protocol), Original: trace.Tuple(is.Original), Reply: trace.Tuple(is.Reply),
		Replied: is.Replied, Ended: is.Ended,
	}
	return c, ok && (c.Protocol == trace.TCP || c.Protocol == trace.UDP || c.Protocol.Echo())
}
