package kernel

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/xtables"
)

// parseRule reads of a rule its comment, and what it does with a packet. What
// it asks of the packet it leaves out: it has matched.
func parseRule(v6 bool, b []byte) (r trace.Rule) {
	r.Comment = nfnl.Comment(b)
	var actions []string
	for e := range nfnl.Expressions(b) {
		switch string(e.Name) {
		case "target":
			name, revision, info := e.Target()
			actions = append(actions, target(v6, name, revision, info))
		case "immediate":
			if v := e.Verdict(); v != nil {
				actions = append(actions, verdict(v))
			}
		case "nat":
			actions = append(actions, translation(&e))
		case "lookup":
			if m := e.Map(); m != "" {
				actions = append(actions, "look up @"+m)
			}
		case "masq":
			actions = append(actions, "masquerade")
		case "redir":
			actions = append(actions, "redirect")
		case "reject":
			actions = append(actions, "reject")
		case "meta":
			if e.Find(unix.NFTA_META_SREG) == nil {
				break
			}
			switch nfnl.Number(e.Find(unix.NFTA_META_KEY)) {
			case unix.NFT_META_MARK:
				actions = append(actions, "set the mark")
			case unix.NFT_META_NFTRACE:
				actions = append(actions, "trace")
			}
		}
	}
	r.Action = strings.Join(actions, ", ")
	return r
}

// translation is a native nat expression: type 0 is of the source, 1 of the
// destination.
func translation(e *nfnl.Expr) string {
	word := "snat"
	if nfnl.Number(e.Find(unix.NFTA_NAT_TYPE)) == unix.NFT_NAT_DNAT {
		word = "dnat"
	}
	to, port := e.Translation()
	if !to.IsValid() {
		return word // to what a map says
	}
	return word + where(to, port)
}

// target is one of x_tables', in the words of nft(8) where it has some.
func target(v6 bool, name string, revision uint8, info []byte) string {
	switch name {
	case "DNAT", "SNAT":
		return strings.ToLower(name) + where(xtables.NAT(v6, revision, info))
	case "MASQUERADE", "REDIRECT", "REJECT", "DROP", "ACCEPT", "RETURN":
		return strings.ToLower(name)
	case "MARK", "CONNMARK":
		return "set the mark"
	}
	return name
}

// where is what is translated to: " to 10.200.2.32:80".
func where(to netip.Addr, port uint16) string {
	switch {
	case to.IsValid() && port != 0:
		return " to " + netip.AddrPortFrom(to, port).String()
	case to.IsValid():
		return " to " + to.String()
	case port != 0:
		return fmt.Sprintf(" to port %d", port)
	}
	return ""
}
