package cli

import (
	"fmt"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/printable"
)

// forewarn says, before anything is changed, which pods will not reach their own
// Service any more when it is.
func (a *app) forewarn(m keep.Host, p *guard.Policy) {
	o := m.Survey(a.ctx, p, 0)
	for _, f := range guard.HairpinConcerns(p, &o) {
		if f.Ahead {
			fmt.Fprintf(a.Err, "nfguard: warning: %s\nnfguard: hint: %s\n", printable.Text(f.Sentence), printable.Text(f.Next))
		}
	}
}
