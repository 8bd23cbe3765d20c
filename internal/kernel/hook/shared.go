package hook

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// share maps the array of n elements that a program shares with its user. Use
// sync/atomic to read and write it, since the program can run at any time.
func share[T any](f *os.File, n int) ([]T, error) {
	var element T
	mem, err := unix.Mmap(int(f.Fd()), 0, n*int(unsafe.Sizeof(element)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the BPF array %s: %w", f.Name(), err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(mem))), n), nil
}

// unshare unmaps the array.
func unshare[T any](array []T) error {
	if array == nil {
		return nil
	}
	mem := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(array))), len(array)*int(unsafe.Sizeof(array[0])))
	return os.NewSyscallError("munmap", unix.Munmap(mem))
}

// ring reads a ring of events through its pages alone: the library's reader needs
// the map itself, and calls bpf(2).
//
// The kernel documents the layout in Documentation/bpf/ringbuf.rst: a page with
// the position of the reader, which writes it; a page with that of the writer;
// and the data, twice in a row, so that no record is cut in two. Before each
// record is its length and eight bytes in all.
type ring struct {
	reader, rest []byte
	read, wrote  *uint64
	data         []byte
	mask         uint64
}

const (
	ringHeader  = 8
	ringBusy    = 1 << 31 // the record is being written
	ringDiscard = 1 << 30 // it was discarded
)

// mapRing maps a ring with size bytes of data.
func mapRing(f *os.File, size int) (*ring, error) {
	page := os.Getpagesize()
	r := &ring{mask: uint64(size) - 1}
	var err error
	if r.reader, err = unix.Mmap(int(f.Fd()), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map the BPF ring: %w", err)
	}
	if r.rest, err = unix.Mmap(int(f.Fd()), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		_ = r.close()
		return nil, fmt.Errorf("map the BPF ring: %w", err)
	}
	r.read = (*uint64)(unsafe.Pointer(unsafe.SliceData(r.reader)))
	r.wrote = (*uint64)(unsafe.Pointer(unsafe.SliceData(r.rest)))
	r.data = r.rest[page:]
	return r, nil
}

// next copies the next record to v and reports whether there was one. A record
// whose size is not that of v is an error.
func next[T any](r *ring, v *T) (bool, error) {
	for {
		at := atomic.LoadUint64(r.read)
		if at >= atomic.LoadUint64(r.wrote) {
			return false, nil
		}
		record := r.data[at&r.mask:]
		head := atomic.LoadUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(record))))
		if head&ringBusy != 0 {
			return false, nil
		}
		size := head &^ ringDiscard
		if head&ringDiscard == 0 {
			if uintptr(size) != unsafe.Sizeof(*v) {
				return false, fmt.Errorf("read the BPF ring: a record of %d bytes", size)
			}
			*v = *(*T)(unsafe.Pointer(unsafe.SliceData(record[ringHeader:])))
		}
		atomic.StoreUint64(r.read, at+uint64(ringHeader+size+7)&^7)
		if head&ringDiscard == 0 {
			return true, nil
		}
	}
}

func (r *ring) close() error {
	var first error
	for _, mem := range [][]byte{r.reader, r.rest} {
		if mem == nil {
			continue
		}
		if err := unix.Munmap(mem); err != nil && first == nil {
			first = os.NewSyscallError("munmap", err)
		}
	}
	return first
}
