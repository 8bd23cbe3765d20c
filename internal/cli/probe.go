package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/diag/probe"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// errTree is what there is to say to --root.
var errTree error = &hintError{errors.New("a tree has no kernel to send packets through"), "run it on the host, without --root"}

func (a *app) probeCommand() *cobra.Command {
	var form format
	var f realFlags
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Say whether pods reach Services on their own node",
		Long: `Makes a throw-away node out of network namespaces, with this host's settings for
bridged packets: two pods on a bridge, and a pod elsewhere. One pod calls the others
by their address and through a Service. It takes a moment, changes nothing of the
host and leaves nothing.

--bridge does it on the real node. A pod is plugged into that bridge, with an address
that the bridge's IPAM plugin leases, or a free one. It calls the Services of
kube-proxy's rules: by the addresses of endpoints on this node, of those elsewhere,
and by the cluster IP. It calls itself, too, through a Service of its own.

Exit codes: 0 reached, 1 not, 2 could not tell.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.root != "" {
				return errTree
			}
			if f.bridge != "" {
				return a.probeBridge(form, &f)
			}
			if len(f.services)+len(f.addresses) > 0 || f.yes {
				return &hintError{errors.New("--service, --address and --yes are about a real bridge"), "name it with --bridge"}
			}
			p, err := a.proof()
			if err != nil {
				return err
			}
			a.code = probeCode(p.Verdict)
			d := proofDocument{Schema: 1, Kernel: release(), Time: time.Now().UTC(), proof: *p}
			d.Host, _ = os.Hostname()
			return a.show(form, &d)
		},
	}
	outputFlag(cmd, &form)
	flags := cmd.Flags()
	flags.StringVar(&f.bridge, "bridge", "", "ask through that real `bridge`, and kube-proxy's real rules")
	flags.StringArrayVar(&f.services, "service", nil, "ask that `Service`, as 10.32.0.10:53/udp or kube-system/kube-dns:dns; can be repeated")
	flags.StringArrayVar(&f.addresses, "address", nil, "the `address` of the pod on the bridge, one for each family of IP")
	flags.StringArrayVar(&f.plugins, "cni-bin", nil, "the `directory` of the CNI plugins, of which one hands out the pod's address (default /opt/cni/bin, /usr/lib/cni and those of k3s and MicroK8s)")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask before touching a real bridge")
	cmd.AddCommand(a.probeDNSCommand())
	return cmd
}

// proofOrWhy is proof for check, for which what could not be probed is one of
// its findings and not its end.
func (a *app) proofOrWhy() *proof {
	p, err := a.proof()
	if err == nil {
		return p
	}
	p = &proof{Bridges: []string{}}
	p.Cells, p.Verdict, p.Meaning = []probe.Cell{}, probe.Unknown, err.Error()
	var known interface{ Next() string }
	if errors.As(err, &known) {
		p.Next = known.Next()
	}
	return p
}

// withProbe is the exit code of check with that of its probe.
func withProbe(code, probe int) int {
	if code == exitNo || probe == exitNo {
		return exitNo
	}
	return max(code, probe)
}

func probeCode(v probe.Verdict) int {
	switch v {
	case probe.Works:
		return exitYes
	case probe.Broken:
		return exitNo
	case probe.Unknown:
	}
	return exitTrouble
}

// proofDocument is the result of probe: complete, and stable as JSON.
type proofDocument struct {
	Schema int       `json:"schema"` // 1
	Host   string    `json:"host"`
	Kernel string    `json:"kernel"`
	Time   time.Time `json:"time"`
	proof
}

// proof is what probe found, and what check does with --probe.
type proof struct {
	probe.Result
	Next string `json:"next,omitempty"` // what to do where it does not work

	// Bridges are those that carry pods here. The world's bridge had the flags
	// that all of them have.
	Bridges []string `json:"bridges"`
}

// proof probes in a world with the settings of this host.
func (a *app) proof() (*proof, error) {
	a.acts()
	d := &proof{Bridges: []string{}}
	s, err := probe.Read()
	if err != nil {
		return nil, fmt.Errorf("read the settings of bridged packets: %w", err)
	}
	list, err := rtnl.Bridges(a.ctx)
	if err != nil {
		return nil, err
	}
	all, c, err := a.settings()
	if err != nil {
		return nil, err
	}
	d.copyPorts(&s, list, &guard.Selection{Match: []string{"*"}, Ignore: c.Bridges.Ignore})
	needs := d.surround(&s, a.survey(&all.Policy))
	if d.Result, err = probe.Run(a.ctx, s); err != nil {
		return nil, unprobed(err)
	}
	d.Next = d.next(needs)
	ownService(&d.Judgement, needs)
	return d, nil
}

// ownService names what keeps a pod from its own Service where that is known to be
// missing for every Service: hairpin mode comes after it.
func ownService(j *probe.Judgement, needs []guard.Need) {
	if j.HairpinNext == "" {
		return
	}
	for i := range needs {
		if n := &needs[i]; n.State == guard.NeedMissing && n.OfPath() && !n.Partly() {
			j.Hairpin += ": " + n.Sum()
			j.HairpinNext = n.Next + "; then see whether hairpin mode is needed, too"
			return
		}
	}
}

// copyPorts takes the flags that all bridges with pods have, and whether the
// ports of all those pods are in hairpin mode.
func (d *proof) copyPorts(s *probe.Settings, list []rtnl.Bridge, some *guard.Selection) {
	for i := range list {
		b := &list[i]
		pods := slices.DeleteFunc(slices.Clone(b.Ports), func(p rtnl.Port) bool { return p.Kind != "veth" || !p.Away })
		if len(pods) == 0 || !some.Choose(&guard.Bridge{Name: b.Name}, nil).Kept {
			continue
		}
		first := len(d.Bridges) == 0
		s.Flags.IPTables = b.NFCallIPTables && (first || s.Flags.IPTables)
		s.Flags.IP6Tables = b.NFCallIP6Tables && (first || s.Flags.IP6Tables)
		s.Flags.ARPTables = b.NFCallARPTables && (first || s.Flags.ARPTables)
		s.NoHairpin = s.NoHairpin || slices.ContainsFunc(pods, func(p rtnl.Port) bool { return !p.Hairpin })
		d.Bridges = append(d.Bridges, b.Name)
	}
}

// unprobed adds the next step to an error of [probe.Run].
func unprobed(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return errInterrupted
	case errors.Is(err, unix.EROFS):
		return &hintError{
			fmt.Errorf("/proc/sys is read-only here, as in a container, and what packets are sent through needs settings of its own: %w", err),
			"run it on the host; from here nfguard check looks without sending anything",
		}
	case errors.Is(err, unix.EPERM):
		return &hintError{err, fmt.Sprintf("run it as root; uid is %d", os.Geteuid())}
	case errors.Is(err, probe.ErrNoNAT):
		return &hintError{err, "modprobe -a nf_tables nft_chain_nat nft_nat nft_masq; where they are not installed, nfguard probe --bridge asks through kube-proxy's own rules"}
	}
	return err
}

// next is what to do where it does not work: what is known to be missing comes
// first.
func (d *proof) next(needs []guard.Need) string {
	switch {
	case d.Verdict == probe.Works:
		return ""
	case d.Verdict == probe.Unknown:
		return "nfguard probe --bridge asks on the real bridge; nfguard check looks without sending anything, nfguard trace follows one connection"
	case !d.Settings.Loaded:
		return "br_netfilter is not loaded: nfguard apply loads it once, systemctl start nfguard keeps it loaded"
	}
	return remedy(needs)
}

// settings says what decides about bridged packets, in a line.
func (d *proof) settings() string {
	s := &d.Settings
	if !s.Loaded {
		return "br_netfilter is not loaded"
	}
	value := func(key string) string { return s.Bridge["bridge-nf-call-"+key] }
	text := fmt.Sprintf("br_netfilter loaded; bridge-nf-call-iptables %s, -ip6tables %s, -arptables %s",
		value("iptables"), value("ip6tables"), value("arptables"))
	if len(d.Bridges) == 0 {
		return text + "; no bridge carries pods"
	}
	flag := map[bool]string{false: "0", true: "1"}
	text += fmt.Sprintf("; flags of %s: iptables %s, ip6tables %s", strings.Join(d.Bridges, ", "), flag[s.Flags.IPTables], flag[s.Flags.IP6Tables])
	if s.NoHairpin {
		text += "; no hairpin mode"
	}
	for _, key := range []string{probe.ForwardIPv4, probe.ForwardIPv4Bridge} {
		if s.Forwarding[key] == "0" {
			return text + "; net." + strings.ReplaceAll(strings.ReplaceAll(key, "bridge", d.Bridges[0]), "/", ".") + " 0"
		}
	}
	return text
}
