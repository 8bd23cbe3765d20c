package sysctlhook

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// tables is what the program and we share.
type tables struct {
	rules    *ebpf.Map // path → rule
	settings *ebpf.Map // 0 → settings
	counters *ebpf.Map // slot → counter
	ring     *ebpf.Map // of events
}

// ringSize holds 160 events, twice what eight keys can tell in half a second.
// It must be a power of two, and pages.
const ringSize = 32 << 10

func newTables() (t *tables, err error) {
	t = new(tables)
	for _, m := range []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&t.rules, ebpf.MapSpec{
			Name: "nfguard_rules", Type: ebpf.Hash,
			KeySize: maxPath + 1, ValueSize: uint32(unsafe.Sizeof(rule{})), MaxEntries: maxKeys,
		}},
		{&t.settings, ebpf.MapSpec{
			Name: "nfguard_set", Type: ebpf.Array,
			KeySize: 4, ValueSize: uint32(unsafe.Sizeof(settings{})), MaxEntries: 1,
		}},
		{&t.counters, ebpf.MapSpec{
			Name: "nfguard_count", Type: ebpf.Array,
			KeySize: 4, ValueSize: uint32(unsafe.Sizeof(counter{})), MaxEntries: maxKeys,
		}},
		{&t.ring, ebpf.MapSpec{
			Name: "nfguard_ring", Type: ebpf.RingBuf, MaxEntries: uint32(max(ringSize, os.Getpagesize())),
		}},
	} {
		if *m.to, err = ebpf.NewMap(&m.spec); err != nil {
			if errors.Is(err, ebpf.ErrNotSupported) {
				err = fmt.Errorf("%w: %w", ErrNotSupported, err)
			}
			return nil, errors.Join(fmt.Errorf("make a BPF map of type %v: %w", m.spec.Type, err), t.close())
		}
	}
	return t, nil
}

// open returns a reader of the ring that never waits.
func (t *tables) open() (*ringbuf.Reader, error) {
	r, err := ringbuf.NewReader(t.ring)
	if err != nil {
		return nil, fmt.Errorf("read the BPF ring: %w", err)
	}
	r.SetDeadline(time.Unix(1, 0)) // long ago
	return r, nil
}

func (t *tables) close() error {
	var errs []error
	for _, m := range []*ebpf.Map{t.rules, t.settings, t.counters, t.ring} {
		errs = append(errs, m.Close()) // of nil: nothing
	}
	return errors.Join(errs...)
}

// name is a path as the key of the table of rules.
func name(path string) (key [maxPath + 1]byte) {
	copy(key[:], path)
	return key
}
