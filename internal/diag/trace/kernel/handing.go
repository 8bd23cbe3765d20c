package kernel

import (
	"context"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// handing reads whether bridges hand packets of the family over.
func handing(ctx context.Context, family byte) (trace.Handing, error) {
	h := trace.Handing{Flag: "nf_call_iptables", Bridges: map[string]bool{}}
	if family == unix.NFPROTO_IPV6 {
		h.Flag = "nf_call_ip6tables"
	}
	name := "bridge-" + strings.ReplaceAll(h.Flag, "_", "-")
	h.Key = "net.bridge." + name
	if b, err := os.ReadFile("/proc/sys/net/bridge/" + name); err == nil {
		h.Value = strings.TrimSpace(string(b))
	}
	bridges, err := rtnl.Bridges(ctx)
	for _, b := range bridges {
		h.Bridges[b.Name] = b.NFCallIPTables
		if family == unix.NFPROTO_IPV6 {
			h.Bridges[b.Name] = b.NFCallIP6Tables
		}
	}
	return h, err
}
