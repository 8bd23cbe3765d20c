package kernel

import (
	"context"
	"errors"
	"net/netip"
	"sync"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/drops"
	"github.com/nfguard/nfguard/internal/kernel/pods"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// mostDrops are kept: who retries in a tight loop is told of often enough.
const mostDrops = 4096

// watcher hears of drops.
type watcher struct {
	watch *drops.Watch
	mu    sync.Mutex
	heard []drops.Drop
	over  bool // there were more
	ended bool
	wait  sync.WaitGroup
}

// watchDrops has the kernel tell of dropped packets from and to the addresses.
func watchDrops(addresses ...netip.Addr) (*watcher, error) {
	watch, err := drops.Open()
	if err != nil {
		return nil, err
	}
	w := &watcher{watch: watch}
	for _, a := range addresses {
		if err := watch.Add(a); err != nil {
			_ = watch.Close() // the first error tells
			return nil, err
		}
	}
	w.wait.Go(w.read)
	return w, nil
}

func (w *watcher) read() {
	for {
		d, err := w.watch.Read()
		if err != nil { // it is closed
			return
		}
		w.mu.Lock()
		if len(w.heard) < mostDrops {
			w.heard = append(w.heard, d)
		} else {
			w.over = true
		}
		w.mu.Unlock()
	}
}

// close ends it, and returns what was heard.
func (w *watcher) close() ([]drops.Drop, error) {
	if w.ended {
		return w.heard, nil
	}
	w.ended = true
	lost := w.watch.Lost() > 0
	err := w.watch.Close()
	w.wait.Wait()
	if err == nil && (lost || w.over) {
		err = errors.New("more packets were dropped than could be read: some are missing")
	}
	return w.heard, err
}

// parseDrop reads the headers of a dropped packet. It is nil for one of another
// protocol than can be followed.
func parseDrop(d *drops.Drop) *trace.Headers {
	b := d.Headers
	length := 40
	if b[0]>>4 == 4 {
		length = int(b[0]&0xf) * 4
	}
	if length < 20 || len(b) < length+8 {
		return nil
	}
	return headers(nil, b[:length], b[length:min(len(b), length+20)])
}

// placed turns drops into what the pure part judges: with the names of places,
// devices and functions. Those of namespaces that no device of this one leads
// into are of somebody else.
func (f *follower) placed(heard []drops.Drop) (list []trace.KernelDrop) {
	locations := make(map[uint64]bool)
	for i := range heard {
		locations[heard[i].Location] = true
	}
	names, err := drops.Symbols(locations)
	if err != nil {
		f.note(err.Error())
	}
	devices := make(map[int]string)
	if len(heard) > 0 {
		all, err := rtnl.Devices(context.Background())
		if err != nil {
			f.note(err.Error())
		}
		for _, d := range all {
			devices[d.Index] = d.Name
		}
	}
	for i := range heard {
		d := &heard[i]
		h := parseDrop(d)
		if h == nil {
			continue
		}
		one := trace.KernelDrop{At: d.At.Sub(f.record.Started), Reason: d.Reason, Function: names[d.Location], Headers: h}
		for _, inode := range d.Netns {
			place, known := f.places[uint64(inode)]
			if !known {
				continue
			}
			one.Place = place
			if place == (trace.Place{}) {
				one.Device = devices[d.Device]
			}
			list = append(list, one)
			break
		}
	}
	return list
}

// learnPlaces finds out which network namespaces there are: this one, and those
// that a device of it leads into. It is asked at the beginning and at the end,
// since a pod may come or go.
func (f *follower) learnPlaces() {
	if own := ownInode(); own != 0 {
		f.places[own] = trace.Place{}
	}
	called, _ := pods.ReadNames("/var/log") // without it, the uid has to do
	for _, t := range tenants() {
		f.places[t.inode] = t.place(called)
		f.tenants[t.inode] = t
	}
}
