package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nfguard/nfguard/internal/diag/probe/dns"
	"github.com/nfguard/nfguard/internal/files"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// dnsOptions are the flags of probe dns.
type dnsOptions struct {
	form                format
	server              string
	replicas            []string
	domain, external    string
	namespace, resolver string
	tries               int
	timeout             time.Duration
	bridge              string
	addresses           []string
	plugins             []string
	yes                 bool
}

const hostResolver = "/etc/resolv.conf"

func (a *app) probeDNSCommand() *cobra.Command {
	var o dnsOptions
	cmd := &cobra.Command{
		Use:   "dns [NAME]",
		Short: "Ask the cluster's DNS as a pod does, and say why a name is not answered",
		Long: `Asks the DNS server that pods ask, and its replicas by their own addresses, for a
name of the cluster, an external one and NAME, several times from different ports. It
tells apart: replies that bypass netfilter on the bridge, a dead replica, a Corefile
without forward, and what the search list makes of a name.

It asks from the network namespace that it runs in, and changes nothing. What a node
itself asks does not cross a bridge as what pods ask does. So on a node use --bridge:
then a pod on that bridge asks the server and its replicas, as kube-proxy's rules have
them.

Exit codes: 0 every name is answered from the right address, 1 one is not, 2 could
not ask.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(_ *cobra.Command, args []string) error { return a.probeDNS(&o, strings.Join(args, "")) },
	}
	outputFlag(cmd, &o.form)
	f := cmd.Flags()
	f.StringVar(&o.server, "server", "", "the `address` that pods ask, the cluster IP of kube-dns (default: the first nameserver of resolv.conf; with --bridge, that of kube-proxy's rules)")
	f.StringSliceVar(&o.replicas, "replica", nil, "the `address` of a replica behind it; can be given several times")
	f.StringVar(&o.domain, "domain", "cluster.local", "the cluster's `domain`")
	f.StringVar(&o.external, "external", "kubernetes.io", "a `name` that others answer; empty to ask for none")
	f.StringVar(&o.namespace, "namespace", "default", "the `namespace` whose search list NAME is asked by, where resolv.conf is not a pod's")
	f.StringVar(&o.resolver, "resolv-conf", "", "the `file` with the server and the search list, a pod's (default "+hostResolver+")")
	f.IntVar(&o.tries, "tries", 10, "how often the server is asked for each name: a `number` from 1 to 50")
	f.StringVar(&o.bridge, "bridge", "", "ask from a pod on that real `bridge`")
	f.StringArrayVar(&o.addresses, "address", nil, "the `address` of the pod on the bridge, one for each family of IP")
	f.StringArrayVar(&o.plugins, "cni-bin", nil, "the `directory` of the CNI plugins, of which one hands out the pod's address (default /opt/cni/bin, /usr/lib/cni and those of k3s and MicroK8s)")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask before touching a real bridge")
	f.DurationVar(&o.timeout, "timeout", time.Second, "how `long` to wait for each reply")
	return cmd
}

func (a *app) probeDNS(o *dnsOptions, name string) error {
	a.acts()
	if a.root != "" {
		return errTree
	}
	if o.bridge == "" && (len(o.addresses) > 0 || o.yes) {
		return &hintError{errors.New("--address and --yes are about a real bridge"), "name it with --bridge"}
	}
	plan, err := o.plan(name)
	if err != nil {
		return err
	}
	d := &dnsDocument{Schema: 1, Time: time.Now().UTC(), Bridge: o.bridge, Addresses: []netip.Prefix{}}
	if o.bridge != "" {
		err = a.askOn(o, &plan, d)
	} else {
		err = a.askHere(&plan, d)
	}
	if err != nil {
		return err
	}
	d.Diagnosis = dns.Diagnose(&d.Report)
	switch d.Verdict {
	case dns.Right:
		a.code = exitYes
	case dns.Wrong:
		a.code = exitNo
	case dns.Unknown:
		a.code = exitTrouble
	}
	return a.show(o.form, d)
}

// askHere asks from the namespace of the command.
func (a *app) askHere(plan *dns.Plan, d *dnsDocument) (err error) {
	if plan.Networks, err = dns.Networks(); err != nil {
		return fmt.Errorf("list the addresses of this host: %w", err)
	}
	bridges, err := rtnl.Bridges(a.ctx)
	if err != nil {
		return err
	}
	for _, b := range bridges {
		plan.Bridges = append(plan.Bridges, b.Name)
	}
	d.Report = dns.Run(a.ctx, dns.Own{}, *plan)
	if a.ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return nil
}

// plan makes of the flags what is to be asked.
func (o *dnsOptions) plan(name string) (dns.Plan, error) {
	p := dns.Plan{Name: name, Tries: o.tries, Timeout: o.timeout}
	switch {
	case o.tries < 1 || o.tries > 50:
		return p, &hintError{fmt.Errorf("--tries %d: it can be 1 to 50", o.tries), "10 asks find one dead replica of two with 99.9 % certainty"}
	case o.timeout < time.Millisecond || o.timeout > time.Minute:
		return p, &hintError{fmt.Errorf("--timeout %v: it can be 1ms to 1m", o.timeout), "one second is the default"}
	}
	for _, n := range []struct{ flag, value string }{{"--domain", o.domain}, {"--external", o.external}, {"NAME", name}} {
		if n.value != "" && !dns.ValidName(n.value) {
			return p, &hintError{fmt.Errorf("%s %q is no domain name", n.flag, n.value), "write it as web.default.svc.cluster.local"}
		}
	}
	if o.domain == "" {
		return p, &hintError{errors.New("--domain is empty"), "leave it out for cluster.local"}
	}
	if err := o.resolve(&p); err != nil {
		return p, err
	}
	if o.server != "" {
		var err error
		if p.Server, err = address("--server", o.server); err != nil {
			return p, err
		}
	}
	for _, r := range o.replicas {
		at, err := address("--replica", r)
		if err != nil {
			return p, err
		}
		if at != p.Server && !slices.Contains(p.Replicas, at) {
			p.Replicas = append(p.Replicas, at)
		}
	}
	p.Questions = dns.Questions(o.domain, o.external, name, &p.Search)
	return p, nil
}

// maxResolvConf bounds what is read of a resolv.conf, which has a few lines.
const maxResolvConf = 64 << 10

// resolve reads resolv.conf: a pod's as it is; of a node's, only the server,
// and the domains that a pod's gets from it.
func (o *dnsOptions) resolve(p *dns.Plan) error {
	path := o.resolver
	if path == "" {
		path = hostResolver
	}
	conf := dns.ResolvConf{NDots: 1}
	text, err := files.Read(path, maxResolvConf)
	if err == nil {
		conf, err = dns.ParseResolvConf(bytes.NewReader(text))
	}
	if err != nil && (o.resolver != "" || !errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	conf.From = path
	p.Search = conf
	if o.resolver == "" && !slices.Contains(conf.Domains, "svc."+strings.TrimSuffix(o.domain, ".")) {
		p.Search = dns.PodConf(o.namespace, o.domain, conf)
	}
	switch {
	case o.server != "", o.bridge != "" && o.resolver == "":
	case len(conf.Servers) == 0:
		return &hintError{errors.New("no server to ask: " + path + " names none"), "name one by --server: kubectl -n kube-system get service kube-dns"}
	default:
		p.Server = netip.AddrPortFrom(conf.Servers[0].Unmap(), 53)
	}
	return nil
}

// address reads an address with a port, or without one for port 53.
func address(flag, s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a.Unmap(), 53), nil
	}
	if a, err := netip.ParseAddrPort(s); err == nil && a.Port() != 0 {
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
	}
	return netip.AddrPort{}, &hintError{fmt.Errorf("%s %q is no IP address", flag, s), "write it as 10.32.0.10, 10.32.0.10:53 or [fd00::10]:53"}
}

// dnsDocument is the result of probe dns: complete, and stable as JSON.
type dnsDocument struct {
	Schema int       `json:"schema"` // 1
	Time   time.Time `json:"time"`

	// The bridge of the pod that asked, and its addresses; "" and none where
	// it was asked from the namespace of the command.
	Bridge    string         `json:"bridge"`
	Addresses []netip.Prefix `json:"addresses"`
	dns.Diagnosis
	dns.Report
}

// write prints the document for people: what came of each name at each server,
// and then why.
func (d *dnsDocument) write(w io.Writer, s style) {
	fmt.Fprintln(w, d.Summary)
	if d.Bridge != "" {
		var own []string
		for _, p := range d.Addresses {
			own = append(own, p.Addr().String())
		}
		fmt.Fprintf(w, "asked by a pod on %s with the address %s, given back\n", d.Bridge, strings.Join(own, " and "))
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range d.Rows {
		word := s.good("ok     ")
		switch {
		case r.Results[string(dns.Unsent)] == r.Asked:
			word = s.warn("unknown")
		case !r.Right:
			word = s.bad("wrong  ")
		}
		took := ""
		if r.Usec > 0 {
			took = "\t" + (time.Duration(r.Usec) * time.Microsecond).Round(10*time.Microsecond).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d asked\t%s%s\n", word, r.Server, r.Role, r.Name, r.Asked, r.Outcome(), took)
	}
	t.Flush()
	if len(d.Findings) > 0 {
		fmt.Fprintln(w)
	}
	for _, f := range d.Findings {
		word := s.warn("note   ")
		switch {
		case f.Cause == dns.CannotAsk:
			word = s.warn("unknown")
		case f.Breaks:
			word = s.bad("wrong  ")
		}
		writeLine(w, word, f.Sentence, f.Next)
		for _, l := range f.Lines {
			fmt.Fprintf(w, "             %s\n", l)
		}
	}
}
