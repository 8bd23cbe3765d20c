package cli

import (
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/files"
)

// checkTree is check of a tree. It knows no kernel, and so has a way of its own.
func (a *app) checkTree(form format, p *guard.Policy) error {
	t := host.NewTree(a.root)
	r := keep.AuditTree(t, p)
	a.code = auditCode(&r)
	d := a.audit(&r, p)
	next := t.Forecast()
	d.NextBoot = &next
	return a.show(form, d)
}

// applyTree is apply to a tree. It exits as checkTree does right after it.
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
