package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/run"
	"github.com/nfguard/nfguard/internal/diag/probe"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// realFlags are those of probe --bridge.
type realFlags struct {
	bridge    string
	services  []string // "10.32.0.10:53/udp"
	addresses []string
	yes       bool
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
	d.Addresses, d.Cells = pod.Addresses, pod.Ask(a.ctx, subjects)
	if err := pod.Close(); err != nil {
		return err
	}
	if a.ctx.Err() != nil {
		return errInterrupted
	}
	d.Judgement, d.Took = probe.Judge(d.Cells), time.Since(began)
	if d.Verdict != probe.Works {
		d.Next = a.remedyFor(f.bridge)
	}
	a.code = probeCode(d.Verdict)
	return a.show(form, d)
}

// plugIn attaches a pod to the bridge, if it may, in order to ask those Services.
// It is to be closed.
func (a *app) plugIn(f *realFlags, subnets []netip.Prefix, subjects []probe.Subject) (*probe.Attachment, error) {
	addresses, err := a.addresses(f, subnets)
	if err != nil {
		return nil, err
	}
	if err := a.consent(f, subnets, subjects); err != nil {
		return nil, err
	}
	pod, err := probe.Attach(a.ctx, f.bridge, subnets, addresses)
	if errors.Is(err, probe.ErrNoAddress) {
		return nil, &hintError{err, "name one that is free with --address"}
	}
	if err != nil {
		return nil, unprobed(err)
	}
	return pod, nil
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

// addresses are those that were given. Where somebody hands out those of the
// bridge, one has to be given for each family.
func (a *app) addresses(f *realFlags, subnets []netip.Prefix) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, text := range f.addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, &hintError{fmt.Errorf("--address %s: it is no IP address", text), "give one of the bridge's subnet, as --address 10.200.2.250"}
		}
		list = append(list, addr)
	}
	m := run.NewMachine(a.ctx)
	defer m.Close()
	who, err := m.Allocator(a.ctx, f.bridge)
	if who == "" && err == nil {
		return list, nil
	}
	var missing []string
	for _, subnet := range subnets {
		given := slices.ContainsFunc(list, func(w netip.Addr) bool { return w.Is4() == subnet.Addr().Is4() })
		if free := probe.Candidates(subnet); !given && len(free) > 0 {
			missing = append(missing, "--address "+free[0].String())
		}
	}
	if len(missing) == 0 {
		return list, nil
	}
	why := fmt.Errorf("the addresses on %s are handed out by %s: it could give the same one to a pod meanwhile", f.bridge, who)
	if who == "" {
		why = fmt.Errorf("who hands out the addresses on %s is not known: %w", f.bridge, err)
	}
	return nil, &hintError{why, "say which is not going to be given to a pod, perhaps " + strings.Join(missing, " ") + "; whether it is in use is looked at first"}
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
	fmt.Fprintf(a.Err, "For some seconds this adds a port to %s, uses a free address of %s, and connects to %s. Go on? [y/N] ",
		f.bridge, strings.Join(where, " and "), names(subjects))
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
