package host

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/files"
)

// Leasing says for which pod addresses are leased, and how.
type Leasing struct {
	Bridge   string
	Subnets  []netip.Prefix // of the bridge: an address of no other is believed
	Space    string         // the path of the pod's network namespace
	Programs []string       // the directories of CNI plugins; nil: [CNIPrograms]
	Records  string         // the directory of records, root's alone
}

// Lease is addresses that the IPAM plugin of a bridge has handed out.
type Lease struct {
	Addresses []netip.Addr // at most one of each family

	held   *os.File // the record, locked for as long as this process needs it
	record leaseRecord
}

// leaseRecord is what it takes to give a lease back, in a file that outlasts a
// process that is killed.
type leaseRecord struct {
	Schema    int             `json:"schema"` // 1
	Program   string          `json:"program"`
	Container string          `json:"container"`
	Space     string          `json:"netns"`
	Config    json.RawMessage `json:"config"`
}

// NoLease says why an IPAM plugin was not asked, or what it said.
type NoLease struct{ Reason string }

func (e *NoLease) Error() string { return e.Reason }

// Lease has the IPAM plugin that the CNI configuration names for a bridge hand
// out addresses, by the command ADD of CNI. The error is a [NoLease] where there
// is no such plugin, or it gives none. [Lease.Release] gives them back, and
// [SweepLeases] those of a process that has ended without.
func (l *Linux) Lease(ctx context.Context, o Leasing) (*Lease, error) {
	plugins, err := l.cniPlugins(ctx)
	i := slices.IndexFunc(plugins, func(p cniPlugin) bool { return p.allocates(o.Bridge) != "" })
	if i < 0 {
		return nil, &NoLease{errors.Join(errors.New("no CNI configuration names an IPAM plugin for it"), err).Error()}
	}
	config, kind, err := l.ipamConfig(&plugins[i], o.Subnets)
	if err != nil {
		return nil, &NoLease{err.Error()}
	}
	program, err := l.ipamProgram(kind, o.Programs)
	if err != nil {
		return nil, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	lease := &Lease{record: leaseRecord{
		Schema: 1, Program: program, Container: leasePrefix + hex.EncodeToString(id[:]), Space: o.Space, Config: config,
	}}
	if err := lease.note(o.Records); err != nil {
		return nil, fmt.Errorf("note what is leased: %w", err)
	}
	step.Begin(ctx, "running "+program)
	out, err := lease.record.run(ctx, "ADD")
	if err == nil {
		lease.Addresses, err = leased(out, o.Subnets)
	}
	if err != nil {
		err = &NoLease{err.Error()}
		if back := lease.Release(ctx); back != nil { // what it may have given
			err = errors.Join(err, back)
		}
		return nil, err
	}
	return lease, nil
}

// leasePrefix begins the names of containers that we lease for, and of records.
const leasePrefix = "nfguard-probe-"

// note writes the record, before anything is leased, and holds it.
func (l *Lease) note(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	text, err := json.Marshal(&l.record)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, l.record.Container)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		_, err = f.Write(text)
	}
	if err != nil {
		f.Close()
		return errors.Join(err, os.Remove(path))
	}
	l.held = f
	return nil
}

// Release gives the addresses back, also when ctx has ended. Where that fails,
// the record stays for the next [SweepLeases].
func (l *Lease) Release(ctx context.Context) error {
	defer l.held.Close()
	if _, err := l.record.run(context.WithoutCancel(ctx), "DEL"); err != nil {
		return fmt.Errorf("give the addresses back: %w", err)
	}
	return os.Remove(l.held.Name())
}

// maxLease bounds what is read of a record, and of what a plugin says.
const maxLease = maxCNIFile + 64<<10

// SweepLeases gives back what processes have leased that have ended without
// giving it back. dir is [Leasing.Records]; it need not exist.
func SweepLeases(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	failed := err
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), leasePrefix) {
			continue
		}
		if err := sweep(ctx, filepath.Join(dir, e.Name())); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func sweep(ctx context.Context, path string) error {
	f, err := files.Open(path)
	if errors.Is(err, fs.ErrNotExist) { // given back in this moment
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // whose it is runs
	}
	text, err := files.Limited(f, maxLease)
	if err != nil {
		return err
	}
	var r leaseRecord
	if json.Unmarshal(text, &r) != nil { // killed before it was written: nothing was leased yet
		return os.Remove(path)
	}
	if _, err := r.run(ctx, "DEL"); err != nil {
		return fmt.Errorf("give back what an earlier probe has leased (%s): %w", path, err)
	}
	return os.Remove(path)
}

// leased reads the result of ADD: of every version of CNI, and nothing but
// addresses of pods in the subnets.
func leased(out []byte, subnets []netip.Prefix) ([]netip.Addr, error) {
	type ip struct{ IP, Address string }
	var result struct {
		IPs      []ip
		IP4, IP6 ip // before 0.3.0
	}
	if json.Unmarshal(out, &result) != nil {
		return nil, errors.New("its answer is not that of a CNI plugin")
	}
	var list []netip.Addr
	for _, x := range append(result.IPs, result.IP4, result.IP6) {
		text := cmp.Or(x.Address, x.IP)
		if text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("its answer has %q for an address", text)
		}
		a := p.Addr()
		if !slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return a.Is4() == s.Addr().Is4() }) {
			continue // nobody has asked for that family
		}
		if !slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Contains(a) && s.Addr() != a }) {
			return nil, fmt.Errorf("its answer, %s, is no address for a pod there", a)
		}
		if !slices.ContainsFunc(list, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("its answer has no address")
	}
	return list, nil
}
