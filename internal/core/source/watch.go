package source

import (
	"context"
	"errors"

	"github.com/nfguard/nfguard/internal/core/record"
)

// Watch is an open subscription whose descriptor the loop itself waits on, so
// that a look can begin before anything is read, queued or handed from one
// goroutine to another. Its methods are called by the loop only.
type Watch interface {
	// FD is the descriptor; it is readable when there is news.
	FD() int

	// Read takes all the news there is, without blocking, and hands it to
	// tell. An error means that no more will come.
	Read(tell func(record.Write)) error

	// Rest hands to tell what Read keeps back for a while: how many writes it was
	// not told of one by one. It is for when nobody will read any more.
	Rest(tell func(record.Write))

	// Check reports ErrStale when what is watched is not what is there now.
	Check() error

	// Complete reports whether it tells of every write, through whatever
	// mount of procfs.
	Complete() bool
}

// ErrStale says that a watch has to be opened anew.
var ErrStale = errors.New("the files watched are not those that are there now")

// Lender is the loop as a source sees it.
type Lender interface {
	// Lend gives w to the loop and blocks until the loop is done with it:
	// with nil when ctx was cancelled, otherwise with what ended it. The
	// caller closes w then.
	Lend(ctx context.Context, w Watch) error
}
