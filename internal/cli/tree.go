package cli

import (
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/files"
)

// checkTree is check for a tree. It is separate because a tree has no kernel.
func (a *app) checkTree(form format, p *guard.Policy) error {
	t := host.NewTree(a.root)
	r := keep.AuditTree(t, p)
	a.code = auditCode(&r)
	d := a.audit(&r, p)
	next := t.Forecast()
	d.NextBoot = &next
	return a.show(form, d)
}

// applyTree is apply for a tree. Its exit code is that of checkTree right after it.
func (a *app) applyTree(form format, dry bool, p *guard.Policy) error {
	t := host.NewTree(a.root)
	if dry {
		r := keep.AuditTree(t, p)
		r.Changes = keep.Planned(r.Items)
		a.code = auditCode(&r)
		return a.applied(form, &r, p, "would ")
	}
	r := keep.ApplyTree(t, p)
	a.code = auditCode(&r)
	return a.applied(form, &r, p, "")
}

// treeApply is the command that writes the drop-ins of the tree.
func (a *app) treeApply() string { return "nfguard apply --root " + files.Quote(a.root) }
