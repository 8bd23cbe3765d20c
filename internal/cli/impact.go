package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/run"
	"github.com/nfguard/nfguard/internal/diag/services"
	"github.com/nfguard/nfguard/internal/kernel/conntrack"
	"github.com/nfguard/nfguard/internal/kernel/netfilter"
	"github.com/nfguard/nfguard/internal/kernel/pods"
	"github.com/nfguard/nfguard/internal/printable"
)

// impactDocument is what nfguard impact found.
type impactDocument struct {
	Schema      int           `json:"schema"` // 1
	Time        time.Time     `json:"time"`
	Bypassing   []string      `json:"bypassing"` // bridges that hand nothing of some family over
	Connections int           `json:"connections"`
	Pods        int           `json:"pods"` // that began them, as far as groups tells
	Groups      []impactGroup `json:"groups"`
	Beyond      int           `json:"beyond"` // connections that are in no group: there are too many
	More        bool          `json:"more"`   // there are more connections than were looked at
}

// impactGroup are the connections of one pod to one port of a Service.
type impactGroup struct {
	Service     string `json:"service,omitempty"` // of kube-proxy's rules: "namespace/name:port"
	Address     string `json:"address"`
	Protocol    string `json:"protocol"`
	Pod         string `json:"pod,omitempty"` // "namespace/name"
	Client      string `json:"client"`
	Bridge      string `json:"bridge"`
	Connections int    `json:"connections"`
}

func (a *app) impactCommand() *cobra.Command {
	var form format
	var watch bool
	cmd := &cobra.Command{
		Use:   "impact",
		Short: "Count the connections that get no reply because it bypasses netfilter",
		Long: `Counts the connections through Services that are unreplied while the bridge of
their pods hands nothing to netfilter, by Service and pod: those that conntrack
has as translated and not answered, at two looks a quarter of a second apart. It
sends nothing and changes nothing. A pod that is dead looks the same; where the
bridge hands its packets over, there is nothing to count.

Exit codes: 0 there are none, 1 there are some, 2 could not tell.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if watch {
				return a.watchImpact(form)
			}
			d, err := a.impact()
			if err != nil {
				return err
			}
			if d.Connections > 0 {
				a.code = exitNo
			}
			return a.show(form, d)
		},
	}
	outputFlag(cmd, &form)
	cmd.Flags().BoolVar(&watch, "watch", false, "look each second until interrupted, and say what has changed")
	return cmd
}

// impact looks once.
func (a *app) impact() (*impactDocument, error) {
	if a.root != "" {
		return nil, errTree
	}
	s, _, err := a.settings()
	if err != nil {
		return nil, err
	}
	m := run.NewMachine(a.ctx)
	defer m.Close()
	o := m.Survey(a.ctx, &s.Policy, 0)
	switch {
	case o.Bridging != nil:
		return nil, o.Bridging
	case o.Module.State == guard.Unknown:
		return nil, o.Module.Err
	}
	bypassing := o.Bypassing()
	found, err := host.Impact(a.ctx, bypassing)
	switch {
	case a.ctx.Err() != nil:
		return nil, context.Cause(a.ctx)
	case errors.Is(err, conntrack.ErrNotLoaded):
		return nil, &hintError{err, "modprobe nf_conntrack_netlink; kube-proxy loads it, too"}
	case errors.Is(err, unix.EPERM):
		return nil, &hintError{err, "run it as root, on the host"}
	case err != nil:
		return nil, fmt.Errorf("read the connections that conntrack has: %w", err)
	}
	d := &impactDocument{
		Schema: 1, Time: time.Now(), Bypassing: []string{},
		Connections: found.Connections, Pods: found.Pods, Beyond: found.Beyond, More: found.More, Groups: []impactGroup{},
	}
	for _, b := range bypassing {
		d.Bypassing = append(d.Bypassing, b.Bridge)
	}
	if found.Connections > 0 {
		d.name(a.ctx, found.Groups, a.services)
	}
	return d, nil
}

// name gives the groups the names of Services and pods, where they can be had.
func (d *impactDocument) name(ctx context.Context, groups []guard.Group, rules func() ([]services.Service, []netfilter.Rules, error)) {
	list, _, _ := rules() // without names, the addresses have to do
	byAddress := make(map[netip.Addr]string)
	running, _ := pods.Running("/sys/fs/cgroup")
	names, _ := pods.ReadNames(run.PodLogs)
	for _, p := range running {
		if ctx.Err() != nil {
			break
		}
		for _, a := range pods.Addresses(p.PID) {
			byAddress[a] = names.Of(p.UID, "").String()
		}
	}
	for _, g := range groups {
		protocol := protocolName(g.Protocol)
		s, _ := services.Find(list, g.Service, services.Protocol(protocol))
		d.Groups = append(d.Groups, impactGroup{
			Service: s.Name, Address: g.Service.String(), Protocol: protocol,
			Pod: byAddress[g.Client], Client: g.Client.String(), Bridge: g.Bridge, Connections: g.Connections,
		})
	}
}

func protocolName(n uint8) string {
	switch n {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol %d", n)
}

// summary is the document in one sentence.
func (d *impactDocument) summary() string {
	switch {
	case len(d.Bypassing) == 0:
		return "no bridge with pods bypasses netfilter, so no reply does"
	case d.Connections == 0:
		return "no connection is unreplied while bypassing netfilter on " + strings.Join(d.Bypassing, ", ")
	}
	found := guard.Impact{Connections: d.Connections, Pods: d.Pods, More: d.More}
	return fmt.Sprintf("%s: unreplied while bypassing netfilter on %s", found.Describe(), strings.Join(d.Bypassing, ", "))
}

func (d *impactDocument) write(w io.Writer, _ style) {
	fmt.Fprintln(w, d.summary())
	if d.Connections == 0 {
		return
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CONNECTIONS\tPROTOCOL\tSERVICE\tPOD")
	for i := range d.Groups {
		g := &d.Groups[i]
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\n", g.Connections, g.Protocol, both(g.Service, g.Address), both(g.Pod, g.Client))
	}
	_ = table.Flush()
	if d.Beyond > 0 {
		fmt.Fprintf(w, "and %d more, of other pods and Services\n", d.Beyond)
	}
	fmt.Fprintf(w, "\nnext: nfguard check says what is not set; a pod that is dead looks the same, and\nnfguard probe --bridge %s tells by packets\n", d.Groups[0].Bridge)
}

// both is a name and an address, where there is a name.
func both(name, address string) string {
	if name == "" {
		return address
	}
	return name + " " + address
}

// watchImpact says each second what has changed, until it is interrupted.
func (a *app) watchImpact(form format) error {
	last := ""
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		d, err := a.impact()
		if a.ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if d.Connections > 0 {
			a.code = exitNo
		}
		if s := d.summary(); form == jsonForm || s != last {
			last = s
			if form == jsonForm {
				line, err := printable.Marshal(d, "")
				if err != nil {
					return err
				}
				if _, err := a.Out.Write(append(line, '\n')); err != nil {
					return err
				}
			} else {
				fmt.Fprintf(a.Out, "%s  %s\n", d.Time.Format(time.TimeOnly), s)
			}
		}
		select {
		case <-a.ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
