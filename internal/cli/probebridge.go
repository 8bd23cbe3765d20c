package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/run"
	"github.com/nfguard/nfguard/internal/diag/probe"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
	"github.com/nfguard/nfguard/internal/printable"
)

// realFlags are those of probe --bridge.
type realFlags struct {
	bridge    string
	services  []string // "10.32.0.10:53/udp"
	addresses []string
	plugins   []string // the directories of CNI plugins; none: the usual ones
	yes       bool
	itself    bool // it asks itself, too
}

// realProof is the result of probe --bridge: complete, and stable as JSON.
type realProof struct {
	Schema    int            `json:"schema"` // 1
	Host      string         `json:"host"`
	Kernel    string         `json:"kernel"`
	Time      time.Time      `json:"time"`
	Bridge    string         `json:"bridge"`
	Addresses []netip.Prefix `json:"addresses"` // that the pod had on it
	Rules     []string       `json:"rules"`     // of kube-proxy: "iptables mode (legacy), IPv4"
	Services  int            `json:"services"`  // that there are in them, by cluster IP and port
	Cells     []probe.Cell   `json:"cells"`
	probe.Judgement
	Next string        `json:"next,omitempty"`
	Took time.Duration `json:"took_nsec"`
}

var errInterrupted = errors.New("interrupted: what was made is gone")

func (a *app) probeBridge(form format, f *realFlags) error {
	a.acts()
	f.itself = true
	began := time.Now()
	d := &realProof{Schema: 1, Kernel: release(), Time: began.UTC(), Bridge: f.bridge, Rules: []string{}}
	d.Host, _ = os.Hostname()
	subnets, err := a.podSubnets(f.bridge)
	if err != nil {
		return err
	}
	subjects, err := a.subjects(d, f)
	if err != nil {
		return err
	}
	pod, err := a.plugIn(f, subnets, subjects)
	if err != nil {
		return err
	}
	d.Addresses = pod.Addresses
	itself := make(chan []probe.Cell, 1)
	go func() { itself <- pod.AskItself(a.ctx, a.podsWithoutHairpin(f.bridge)) }()
	d.Cells = pod.Ask(a.ctx, subjects)
	d.Cells = append(d.Cells, <-itself...)
	if err := pod.Close(); err != nil {
		return err
	}
	if a.ctx.Err() != nil {
		return errInterrupted
	}
	d.Judgement, d.Took = probe.Judge(d.Cells), time.Since(began)
	needs := a.needsOf(f.bridge)
	if d.Verdict != probe.Works {
		d.Next = remedyFor(needs)
	}
	ownService(&d.Judgement, needs)
	a.code = probeCode(d.Verdict)
	return a.show(form, d)
}

// plugged is a pod on a bridge, with the lease of its addresses, where they are
// leased.
type plugged struct {
	*probe.Attachment
	lease *host.Lease
}

// Close takes the pod off the bridge, and gives its addresses back.
func (p *plugged) Close() error {
	var err error
	if p.Attachment != nil {
		err = p.Attachment.Close()
	}
	if p.lease != nil { // also where the command was interrupted
		err = errors.Join(err, p.lease.Release(context.Background()))
	}
	return err
}

// plugIn attaches a pod to the bridge, if it may, in order to ask those Services.
// It is to be closed.
func (a *app) plugIn(f *realFlags, subnets []netip.Prefix, subjects []probe.Subject) (*plugged, error) {
	given, err := f.parseAddresses()
	if err != nil {
		return nil, err
	}
	m := run.NewMachine(a.ctx)
	defer m.Close()
	who, err := m.Allocator(a.ctx, f.bridge)
	missing := withoutAddress(subnets, given)
	pod := &plugged{}
	var lease func(string) ([]netip.Addr, error)
	var refused *host.NoLease
	if (who != "" || err != nil) && len(missing) > 0 {
		dir, derr := run.MakeDir()
		if derr != nil {
			return nil, derr
		}
		lease = func(space string) ([]netip.Addr, error) {
			var lerr error
			pod.lease, lerr = m.Lease(a.ctx, host.Leasing{Bridge: f.bridge, Subnets: missing, Space: space, Programs: f.plugins, Records: leases(dir)})
			if errors.As(lerr, &refused); lerr != nil {
				return nil, lerr
			}
			return pod.lease.Addresses, nil
		}
	}
	if err := a.consent(f, subnets, subjects); err != nil {
		return nil, err
	}
	a.sweepLeases()
	attached, aerr := probe.Attach(a.ctx, f.bridge, subnets, given, lease)
	if aerr == nil {
		pod.Attachment = attached
		return pod, nil
	}
	aerr = errors.Join(aerr, pod.Close())
	switch {
	case a.ctx.Err() != nil:
		return nil, unprobed(a.ctx.Err())
	case refused != nil:
		return nil, handedOut(f.bridge, who, err, refused, missing)
	case errors.Is(aerr, probe.ErrNoAddress):
		return nil, &hintError{aerr, "name one that is free with --address"}
	}
	return nil, unprobed(aerr)
}

// leases is where it stands what probes have leased, below a runtime directory.
func leases(dir string) string { return filepath.Join(dir, "leases") }

// sweepLeases gives back what probes have leased that were killed.
func (a *app) sweepLeases() {
	if run.CheckDir(run.Dir()) != nil { // nobody but root is to say what is run
		return
	}
	if err := host.SweepLeases(a.ctx, leases(run.Dir())); err != nil {
		fmt.Fprintf(a.Err, "nfguard: warning: %s\n", printable.Text(err.Error()))
	}
}

// podsWithoutHairpin reports whether the port of a pod on the bridge can be
// without hairpin mode: that of one is, or there is no pod to go by.
func (a *app) podsWithoutHairpin(bridge string) bool {
	b, err := rtnl.BridgeNamed(bridge)
	if err != nil {
		return true
	}
	ports, err := rtnl.PortsOf(a.ctx, b.Index)
	if err != nil {
		return true
	}
	pods, without := 0, 0
	for _, p := range ports {
		if p.Kind == "veth" && p.Away && !strings.HasPrefix(p.Name, probe.PortPrefix) {
			pods++
			if !p.Hairpin {
				without++
			}
		}
	}
	return without > 0 || pods == 0
}

func (d *realProof) write(w io.Writer, s style) {
	var own []string
	for _, p := range d.Addresses {
		own = append(own, p.Addr().String())
	}
	fmt.Fprintf(w, "%s: a pod on %s with the address %s, given back; %s\n\n",
		onHost(d.Host, d.Kernel), d.Bridge, strings.Join(own, " and "), strings.Join(d.Rules, "; "))
	writeCells(w, d.Cells)
	fmt.Fprintln(w)
	writeJudgement(w, s, &d.Judgement, d.Next)
}

// podSubnets are those of the pods on a bridge, with the gateway's address.
func (a *app) podSubnets(bridge string) ([]netip.Prefix, error) {
	subnets, err := probe.Subnets(a.ctx, bridge)
	switch {
	case errors.Is(err, rtnl.ErrNoBridge):
		return nil, &hintError{fmt.Errorf("%s: %w", bridge, err), "nfguard check lists the bridges"}
	case err != nil:
		return nil, err
	case len(subnets) == 0:
		return nil, &hintError{
			fmt.Errorf("%s has no address, so what its pods have for a subnet and a gateway is not known", bridge),
			"nfguard probe, without --bridge, tries the kernel by itself",
		}
	}
	return subnets, nil
}

// parseAddresses are the addresses that were given.
func (f *realFlags) parseAddresses() ([]netip.Addr, error) {
	var list []netip.Addr
	for _, text := range f.addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, &hintError{fmt.Errorf("--address %s: it is no IP address", text), "give one of the bridge's subnet, as --address 10.200.2.250"}
		}
		list = append(list, addr)
	}
	return list, nil
}

// withoutAddress are the subnets of which no address was given.
func withoutAddress(subnets []netip.Prefix, given []netip.Addr) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(subnets), func(subnet netip.Prefix) bool {
		same := func(w netip.Addr) bool { return w.Is4() == subnet.Addr().Is4() }
		return slices.ContainsFunc(given, same) || len(probe.Candidates(subnet)) == 0
	})
}

// handedOut is the refusal where who, or somebody whom err keeps us from knowing,
// hands out the addresses of a bridge and none could be leased.
func handedOut(bridge, who string, err error, refused *host.NoLease, missing []netip.Prefix) error {
	var perhaps []string
	for _, subnet := range missing {
		perhaps = append(perhaps, "--address "+probe.Candidates(subnet)[0].String())
	}
	why := fmt.Errorf("the addresses on %s are handed out by %s, and none could be leased: %w", bridge, who, refused)
	if who == "" {
		why = fmt.Errorf("who hands out the addresses on %s is not known: %w", bridge, err)
	}
	return &hintError{why, "say which is not going to be given to a pod, perhaps " + strings.Join(perhaps, " ") + "; whether it is in use is looked at first"}
}

// consent asks before a real bridge is touched, unless it was given by --yes.
func (a *app) consent(f *realFlags, subnets []netip.Prefix, subjects []probe.Subject) error {
	if f.yes {
		return nil
	}
	const hint = "say --yes where nobody can be asked"
	if _, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err != nil {
		return &hintError{fmt.Errorf("this adds a port to %s for some seconds, and there is no terminal to ask whether it may", f.bridge), hint}
	}
	var where []string
	for _, p := range subnets {
		where = append(where, p.Masked().String())
	}
	fmt.Fprintf(a.Err, "For some seconds this adds a port to %s, uses a free address of %s, and connects to %s%s. Go on? [y/N] ",
		f.bridge, strings.Join(where, " and "), names(subjects), map[bool]string{true: " and to itself"}[f.itself])
	answer := make(chan string, 1)
	go func() { // ends with the process, where nobody answers
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case line := <-answer:
		if line == "y" || line == "yes" {
			return nil
		}
		return errors.New("nothing was done")
	case <-a.ctx.Done():
		fmt.Fprintln(a.Err) // after the question
		return errors.New("nothing was done")
	}
}

func names(subjects []probe.Subject) string {
	var list []string
	for i := range subjects {
		list = append(list, fmt.Sprintf("%s (%s)", subjects[i].Name, subjects[i].ClusterIP))
	}
	return strings.Join(list, ", ")
}
