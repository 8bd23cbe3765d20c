// Package drops hears from the kernel which packets it drops, and why. A BPF
// program at the tracepoint skb:kfree_skb does it, which is there for as long as
// this process has it open: nothing is left behind, also after a kill. It
// needs Linux 5.17, from which on the kernel tells a reason, its BTF, and
// CAP_BPF and CAP_PERFMON. What a drop means to a connection it does not judge.
package drops

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// ErrNotSupported says that this kernel does not tell of drops with their
// reasons; the error that wraps it says why.
var ErrNotSupported = errors.New("not supported")

// Drop is a packet that the kernel dropped.
type Drop struct {
	At       time.Time
	Reason   string // the kernel's word without SKB_DROP_REASON_: "NO_SOCKET"
	Location uint64 // in the kernel's text: see [Symbols]
	Length   int    // of the packet, from the header on at which the kernel was
	Device   int    // the index, in its namespace, of the device that it was at; 0: none

	// Netns are the inodes of the network namespaces that the packet was in, as
	// its route, its device and its socket have them; 0: it has none. They are the
	// same but where the kernel uses the place of a pointer for something else.
	Netns [3]uint32

	Headers []byte // the first 64 bytes from the header of IP on
}

// Watch is the program at work. [Watch.Add] and [Watch.Read] can be called at
// the same time.
type Watch struct {
	collection *ebpf.Collection
	link       link.Link
	reader     *ringbuf.Reader
	reasons    map[uint32]string
}

// Open loads the program. It tells of nothing until it has addresses.
func Open() (_ *Watch, err error) {
	w := &Watch{}
	defer func() {
		if err != nil {
			_ = w.Close() // the first error tells
		}
	}()
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("the kernel has no BTF: %w", ErrNotSupported)
	}
	if w.reasons, err = reasons(kernel); err != nil {
		return nil, err
	}
	spec, err := loadDrops()
	if err != nil {
		return nil, err
	}
	for name, p := range spec.Programs {
		p.Name = "nfguard_" + name
	}
	for name, m := range spec.Maps {
		m.Name = "nfguard_" + name
		if m.Type == ebpf.RingBuf { // its records are described for bpf2go; to the kernel they are bytes
			m.ValueSize, m.Value = 0, nil
			m.MaxEntries = uint32(max(int(m.MaxEntries), os.Getpagesize()))
		}
	}
	w.collection, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{KernelTypes: kernel}})
	switch {
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("load a BPF program: %w (it takes CAP_BPF and CAP_PERFMON): %w", unix.EPERM, ErrNotSupported)
	case err != nil:
		return nil, fmt.Errorf("load a BPF program: %w: %w", ErrNotSupported, err)
	}
	w.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "kfree_skb", Program: w.collection.Programs[dropsProgDropped]})
	if err != nil { // EINVAL where the tracepoint has no third argument
		return nil, fmt.Errorf("attach to the tracepoint kfree_skb: %w: %w", ErrNotSupported, err)
	}
	if w.reader, err = ringbuf.NewReader(w.collection.Maps[dropsMapRing]); err != nil {
		return nil, err
	}
	return w, nil
}

// reasons reads the names of the drop reasons.
func reasons(kernel *btf.Spec) (map[uint32]string, error) {
	var enum *btf.Enum
	if err := kernel.TypeByName("skb_drop_reason", &enum); err != nil {
		return nil, fmt.Errorf("the kernel has no drop reasons, which it has from 5.17 on: %w", ErrNotSupported)
	}
	names := make(map[uint32]string, len(enum.Values))
	for _, v := range enum.Values {
		name := strings.TrimPrefix(v.Name, "SKB_")
		names[uint32(v.Value)] = strings.TrimPrefix(name, "DROP_REASON_")
	}
	return names, nil
}

// Add has the program tell of packets from and to an address, too.
func (w *Watch) Add(a netip.Addr) error {
	var key dropsAddress
	copy(key.B[:], a.Unmap().AsSlice())
	if err := w.collection.Maps[dropsMapAddresses].Put(key, uint32(1)); err != nil {
		return fmt.Errorf("watch for drops of %s: %w", a, err)
	}
	return nil
}

// Read waits for the next drop. It returns os.ErrClosed after [Watch.Close].
func (w *Watch) Read() (Drop, error) {
	record, err := w.reader.Read()
	if err != nil {
		return Drop{}, err
	}
	var raw dropsDrop
	if _, err := binary.Decode(record.RawSample, binary.NativeEndian, &raw); err != nil {
		return Drop{}, fmt.Errorf("read a drop: %w", err)
	}
	d := Drop{
		At: time.Now(), Reason: w.reasons[raw.Reason], Location: raw.Location, Length: int(raw.Len), Device: int(raw.Ifindex),
		Netns: [3]uint32{raw.OfDst, raw.OfDev, raw.OfSock}, Headers: raw.Headers[:],
	}
	if d.Reason == "" { // of a subsystem, which numbers its own
		d.Reason = fmt.Sprintf("reason %#x", raw.Reason)
	}
	return d, nil
}

// Lost is how many drops there was no room for.
func (w *Watch) Lost() uint64 {
	var n uint64
	if w.collection.Maps[dropsMapLost].Lookup(uint32(0), &n) != nil {
		return 0
	}
	return n
}

// Close takes the program away.
func (w *Watch) Close() error {
	var errs []error
	if w.reader != nil {
		errs = append(errs, w.reader.Close())
	}
	if w.link != nil {
		errs = append(errs, w.link.Close())
	}
	if w.collection != nil {
		w.collection.Close()
	}
	return errors.Join(errs...)
}
