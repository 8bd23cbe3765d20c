package daemon

import (
	"context"
	"sync"

	"github.com/nfguard/nfguard/internal/core/source"
)

// lending keeps the one watch that the loop waits on for a source.
type lending struct {
	ring func()

	mu   sync.Mutex
	loan *loan
}

var _ source.Lender = (*lending)(nil)

type loan struct {
	watch source.Watch
	back  chan error // buffered
}

// Lend implements [source.Lender]. ctx is cancelled by the loop's own
// goroutine only, and so never while it waits on the descriptor.
func (l *lending) Lend(ctx context.Context, w source.Watch) error {
	mine := &loan{w, make(chan error, 1)}
	l.mu.Lock()
	l.loan = mine
	l.mu.Unlock()
	l.ring()
	select {
	case err := <-mine.back:
		return err
	case <-ctx.Done():
		l.mu.Lock()
		if l.loan == mine {
			l.loan = nil
		}
		l.mu.Unlock()
		return nil
	}
}

// lent returns the watch that the loop has, or nil.
func (l *lending) lent() source.Watch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loan == nil {
		return nil
	}
	return l.loan.watch
}

// giveBack ends the loan with err.
func (l *lending) giveBack(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loan != nil {
		l.loan.back <- err
		l.loan = nil
	}
}
