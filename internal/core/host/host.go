// Package host is the only package that reads or changes the machine: sysctls in
// procfs, the kernel module, the drop-ins. It looks and acts; other packages decide
// what is right.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
)

// Options say which machine a [Linux] is. The zero value is this host.
type Options struct {
	// Proc and Sys are the mount points of procfs and sysfs; "" means /proc
	// and /sys.
	Proc, Sys string

	// Modprobe is the program that loads modules. "" means modprobe, looked
	// for in PATH and then in /usr/sbin and /sbin.
	Modprobe string

	// LoadTimeout bounds one run of modprobe; 0 means 10 s.
	LoadTimeout time.Duration

	// Helper loads the module and writes the drop-ins, if this process has no rights
	// to. Nil: it does so itself.
	Helper Helper

	// Bridges lists the bridge devices; nil means that there are none.
	Bridges func(context.Context) ([]guard.Bridge, error)

	// Memory is the file that says which flags of bridges were set; "" means that
	// nothing is remembered.
	Memory string

	// KubeProxy looks for kube-proxy and its rules; nil: they are not looked for.
	KubeProxy func(context.Context, *guard.Policy) guard.KubeProxy

	// Endpoints lists the addresses that kube-proxy's rules send packets to; with an
	// error, those that are known. It is called only if evidence counts and a bridge
	// is still undecided, one call at a time. An answer that is not empty is used for
	// a minute. Nil: there are none.
	Endpoints func(context.Context) ([]netip.Addr, error)

	// PodSpaces lists the network namespaces of pods, by their ids in ours. It is
	// called only if Endpoints has an address in the network of an undecided bridge.
	// Nil: there are none.
	PodSpaces func() ([]int, error)
}

// Helper makes changes in another process, which has the rights to.
type Helper interface {
	// Do carries out LoadModule or WriteFile according to root's configuration, which
	// can be newer than the one in force. The error is ErrNoHelper if nobody is there
	// to do it.
	Do(ctx context.Context, a guard.Action) error
}

// ErrNoHelper says that the helper cannot be reached.
var ErrNoHelper = errors.New("there is no helper")

// Linux is a machine. [Linux.Value] and the operation SetSysctl are for one goroutine;
// surveys and the other operations of Do can run concurrently with them.
type Linux struct {
	o       Options
	dir     string // "/"; tests have another
	files   map[guard.Key]*keyFile
	loading *loading
	memory  memory
	asked   asked

	hairpins hairpins

	forecast boot.Report
	needed   *guard.Needs // of the last look at it
	passages passages
	pairs    passages // of other pods than those
}

// New returns the machine that o describes. Call Close to close its descriptors.
func New(o Options) *Linux {
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	if o.Sys == "" {
		o.Sys = "/sys"
	}
	if o.LoadTimeout == 0 {
		o.LoadTimeout = 10 * time.Second
	}
	return &Linux{o: o, dir: "/", files: make(map[guard.Key]*keyFile), memory: memory{path: o.Memory}, asked: asked{turn: make(chan struct{}, 1)}}
}

// Close closes the descriptors of the sysctls.
func (l *Linux) Close() {
	for _, f := range l.files {
		f.close()
	}
}

// Survey looks at everything but the values of the guarded sysctls; some things only if
// look asks for them. It reads files and asks the kernel for its bridges, so it can take
// as long as a disk takes. Survey and Do report each step with package step.
func (l *Linux) Survey(ctx context.Context, p *guard.Policy, look guard.Look) guard.Observation {
	var o guard.Observation
	// The bridges first: "modprobe -r" unloads br_netfilter before it destroys the
	// bridges. So if they are seen to be gone, the module is seen to be gone too.
	if l.o.Bridges != nil {
		step.Begin(ctx, "asking the kernel for its bridges")
		o.Bridges, o.Bridging = l.o.Bridges(ctx)
	}
	o.Module = l.module(ctx, p)
	o.IPv6Off = l.ipv6Off()
	o.On = l.on()
	o.TaggedPass = l.digit(vlanTagged) == '0'
	l.memory.follow(o.Bridges)
	o.Remembered, o.RememberedErr = l.remembered(ctx, "")
	if p.Hairpin.Keep && o.Bridging == nil {
		l.hairpins.follow(o.Bridges, true)
	}
	if !p.ByEvidence() { // otherwise evidence looks at all addresses
		addresses(ctx, &o)
	}
	l.evidence(ctx, p, &o, true)
	if look&guard.LookKubeProxy != 0 && l.o.KubeProxy != nil {
		k := l.o.KubeProxy(ctx, p)
		o.KubeProxy = &k
	}
	if look&guard.LookNextBoot != 0 {
		l.forecast = l.foretell(ctx, p)
		o.NextBoot = nextBoot(&l.forecast)
	}
	if look&guard.LookNeeds != 0 && o.Bridging == nil {
		limit := needsLimit
		if look == guard.LookNeeds {
			limit = needsFirst
		}
		l.needed = l.needs(ctx, p, &o, limit)
	}
	o.Needs = l.needed
	o.Dropins = l.dropins(ctx, p)
	switch {
	case o.NextBoot != nil:
		carried(o.Dropins, p, &l.forecast)
	case absent(o.Dropins): // who else does what they would do?
		r := l.foretell(ctx, p)
		carried(o.Dropins, p, &r)
	}
	return o
}

// Do carries out one action. A nil error does not mean that the machine is as wanted:
// look again.
func (l *Linux) Do(ctx context.Context, a guard.Action) error {
	if l.o.Helper != nil && (a.Op == guard.LoadModule || a.Op == guard.WriteFile) {
		what := "writing " + a.Subject
		if a.Op == guard.LoadModule {
			what = "running modprobe " + a.Subject
		}
		step.Begin(ctx, what+", by nfguard-helper.service")
		err := l.o.Helper.Do(ctx, a)
		if !errors.Is(err, ErrNoHelper) {
			return err
		}
		// In a container there is no helper: do what the container allows.
		if own := l.do(ctx, a); own != nil {
			return &obstacleError{op: "without nfguard-helper.socket", reason: own.Error(), next: noHelperNext, err: own}
		}
		return nil
	}
	return l.do(ctx, a)
}

// noHelperNext is the next step if there is no helper but one is needed.
const noHelperNext = "systemctl unmask nfguard-helper.socket, then systemctl restart nfguard; in a container, the host has to do it"

func (l *Linux) do(ctx context.Context, a guard.Action) error {
	switch a.Op {
	case guard.LoadModule:
		step.Begin(ctx, "running modprobe "+a.Subject)
		return l.load(ctx, a.Subject, a.Force)
	case guard.SetSysctl:
		return l.set(guard.Key(a.Subject), a.Value)
	case guard.WriteFile:
		step.Begin(ctx, "writing "+a.Subject)
		return l.write(a.Subject, a.Value)
	case guard.SetFlags:
		step.Begin(ctx, "setting the flags of bridge "+a.Subject)
		return l.setFlags(a)
	case guard.ClearFlags:
		step.Begin(ctx, "clearing the flags of bridge "+a.Subject)
		return l.clearFlags(a)
	}
	return fmt.Errorf("%v %s: no such operation", a.Op, a.Subject)
}

// ipv6Off reports whether the kernel was booted with ipv6.disable=1, or has no IPv6. Then
// procfs has no net/ipv6, although br_netfilter, which needs the ipv6 module, is loaded
// (inet6_init returns before it registers anything if disable_ipv6_mod is set).
func (l *Linux) ipv6Off() bool {
	if text, err := os.ReadFile(filepath.Join(l.o.Sys, "module/ipv6/parameters/disable")); err == nil {
		return len(text) > 0 && text[0] == '1'
	}
	if _, err := os.Stat(filepath.Join(l.o.Proc, "sys/net/bridge")); err != nil {
		return false
	}
	_, err := os.Stat(filepath.Join(l.o.Proc, "sys/net/ipv6"))
	return errors.Is(err, fs.ErrNotExist)
}
