// Package hosttest is a host in memory that behaves like a real one: loading its module
// creates the sysctls with the kernel's default values, unloading it removes them, any
// number but zero is stored as 1, and files can be read-only, lack space or belong to
// others.
package hosttest

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/files"
)

// Host is a machine in memory. All its methods are safe for concurrent use.
type Host struct {
	mu     sync.Mutex
	loaded bool
	lost   map[guard.Key]bool
	values map[guard.Key]string
	files  map[string]string
	writes []guard.Action
	bridging

	hung  chan struct{} // surveys wait until it is closed; nil: they do not wait
	doing string        // the step that they report

	kubeProxy guard.KubeProxy
	findings  []guard.Finding

	// What is wrong with the machine. Set before use.
	Obstacle  *guard.Obstacle            // keeps the module from being loaded, and is known in advance
	LoadErr   error                      // what loading returns
	NoEffect  bool                       // loading succeeds but has no effect
	Hang      chan struct{}              // loading returns only when it is closed, whatever its context says
	SetErr    error                      // what setting a sysctl returns
	ReadErr   error                      // what reading a sysctl or a file returns
	WriteErr  error                      // what writing a file returns
	IPv6Off   bool                       // booted with ipv6.disable=1
	Bridging  error                      // what listing bridges returns
	Needs     *guard.Needs               // what Services need beside the keys; nil: not looked at
	BeforeSet func(h *Host)              // called before a sysctl is set, without the lock
	AfterSet  func(h *Host, k guard.Key) // called after a sysctl was set, without the lock
	Stubborn  map[guard.Key]string       // keys that keep this value whatever is written

	FlagErr    error                         // what setting and clearing flags returns
	FlagsFixed bool                          // bridges whose flags stay 0 whatever is set
	MemoryErr  error                         // why it is not known which flags were set
	Evidence   *guard.Evidence               // that bridges carry pods
	HangLook   chan struct{}                 // a look at one bridge begins only when it is closed
	BeforeFlag func(h *Host, a guard.Action) // called before flags are set or cleared, without the lock
}

// New returns a host with the module loaded and the kernel's own values, or
// without both, and without files.
func New(loaded bool) *Host {
	h := &Host{values: map[guard.Key]string{"net.ipv4.ip_forward": "0"}, files: make(map[string]string), lost: make(map[guard.Key]bool)}
	if loaded {
		h.Load()
	}
	return h
}

// Load acts like somebody else's modprobe.
func (h *Host) Load() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.load()
}

func (h *Host) load() {
	if h.loaded {
		return
	}
	h.loaded = true
	for _, k := range []guard.Key{guard.IPTables, guard.IP6Tables, guard.ARPTables} {
		h.values[k] = "1"
	}
}

// Unload acts like somebody else's rmmod.
func (h *Host) Unload() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loaded = false
	for k := range h.values {
		if k.BridgeNF() {
			delete(h.values, k)
			h.lost[k] = true
		}
	}
}

// Write acts like somebody else's sysctl -w.
func (h *Host) Write(k guard.Key, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.store(k, value)
}

func (h *Host) store(k guard.Key, value string) {
	if _, ok := h.values[k]; !ok {
		return
	}
	if n, err := strconv.Atoi(value); k.BridgeNF() && err == nil && n != 0 {
		value = "1"
	}
	if v, ok := h.Stubborn[k]; ok {
		value = v
	}
	h.values[k] = value
}

// Get returns the value of a sysctl, or "" if there is none.
func (h *Host) Get(k guard.Key) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.values[k]
}

// File returns the content of a file, or "" if there is none.
func (h *Host) File(path string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.files[path]
}

// SetFile acts like somebody else's editor; an empty text removes the file.
func (h *Host) SetFile(path, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[path] = text
	if text == "" {
		delete(h.files, path)
	}
}

// SetKubeProxy sets the state of kube-proxy.
func (h *Host) SetKubeProxy(k guard.KubeProxy) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kubeProxy = k
}

// SetFindings sets what other files will do at the next boot.
func (h *Host) SetFindings(f ...guard.Finding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.findings = f
}

// Writes returns the actions that were carried out since the last call.
func (h *Host) Writes() []guard.Action {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.writes
	h.writes = nil
	return w
}

// State is the whole state, to compare two moments.
func (h *Host) State() (values map[guard.Key]string, files map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.values), maps.Clone(h.files)
}

// Value implements keep.Host.
func (h *Host) Value(k guard.Key) (v guard.Value, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	have, ok := h.values[k]
	switch {
	case h.ReadErr != nil:
		v.Err = h.ReadErr
	case ok:
		v = guard.Value{State: guard.Present, Have: have}
	default:
		v.State = guard.Absent
	}
	lost = h.lost[k]
	delete(h.lost, k)
	return v, lost
}

// HangSurvey makes each survey hang when it reads files, and report the step what, until
// release is called.
func (h *Host) HangSurvey(what string) (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hung := make(chan struct{})
	h.hung, h.doing = hung, what
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.hung == hung {
			h.hung = nil
		}
		close(hung)
	}
}

// Refresh implements keep.Host: nothing is ever stale here.
func (h *Host) Refresh(*guard.Policy) int { return 0 }

// Survey implements keep.Host.
func (h *Host) Survey(ctx context.Context, p *guard.Policy, look guard.Look) guard.Observation {
	h.mu.Lock()
	hung, doing := h.hung, h.doing
	h.mu.Unlock()
	if hung != nil && (look&^guard.LookNeeds != 0 || p.ModulesLoad+p.SysctlD != "") {
		step.Begin(ctx, doing)
		<-hung
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	o := guard.Observation{IPv6Off: h.IPv6Off, Bridges: slices.Clone(h.bridges), Bridging: h.Bridging}
	switch {
	case h.ReadErr != nil:
		o.Module = guard.Module{Err: h.ReadErr}
	case h.loaded:
		o.Module.State = guard.Present
	default:
		o.Module = guard.Module{State: guard.Absent, Obstacle: h.Obstacle}
	}
	for _, f := range []guard.Family{guard.IPv4, guard.IPv6, guard.ARP} {
		o.On[f] = h.values[f.Key()] == "1"
	}
	h.beyondBridges(&o)
	if look&guard.LookKubeProxy != 0 {
		k := h.kubeProxy
		o.KubeProxy = &k
	}
	if look&guard.LookNextBoot != 0 {
		o.NextBoot = &guard.NextBoot{Findings: slices.Clone(h.findings)}
	}
	o.Needs = h.Needs
	for _, path := range []string{p.ModulesLoad, p.SysctlD} {
		if path == "" {
			continue
		}
		d := guard.Dropin{Path: path, State: guard.Absent}
		if text, ok := h.files[path]; ok {
			d.State, d.Have = guard.Present, text
		}
		if h.ReadErr != nil {
			d = guard.Dropin{Path: path, Err: h.ReadErr}
		}
		o.Dropins = append(o.Dropins, d)
	}
	return o
}

// Do implements keep.Host.
func (h *Host) Do(ctx context.Context, a guard.Action) error {
	if a.Op == guard.LoadModule {
		step.Begin(ctx, "running modprobe "+a.Subject)
	}
	if a.Op == guard.LoadModule && h.Hang != nil {
		<-h.Hang
	}
	if a.Op == guard.SetSysctl && h.BeforeSet != nil {
		h.BeforeSet(h)
	}
	if (a.Op == guard.SetFlags || a.Op == guard.ClearFlags) && h.BeforeFlag != nil {
		h.BeforeFlag(h, a)
	}
	h.mu.Lock()
	h.writes = append(h.writes, a)
	err := h.do(a)
	h.mu.Unlock()
	if a.Op == guard.SetSysctl && h.AfterSet != nil {
		h.AfterSet(h, guard.Key(a.Subject))
	}
	return err
}

func (h *Host) do(a guard.Action) error {
	switch a.Op {
	case guard.LoadModule:
		if h.LoadErr != nil {
			return h.LoadErr
		}
		if !h.NoEffect {
			h.load()
		}
	case guard.SetSysctl:
		if h.SetErr != nil {
			return h.SetErr
		}
		if _, ok := h.values[guard.Key(a.Subject)]; !ok {
			return &fs.PathError{Op: "write", Path: guard.Key(a.Subject).Path(), Err: syscall.ENOENT}
		}
		h.store(guard.Key(a.Subject), a.Value)
	case guard.WriteFile:
		if h.WriteErr != nil {
			return h.WriteErr
		}
		if old, ok := h.files[a.Subject]; ok && !guard.Ours([]byte(old)) {
			return files.ErrForeign
		}
		h.files[a.Subject] = a.Value
	case guard.SetFlags, guard.ClearFlags:
		return h.flag(a)
	}
	return nil
}
