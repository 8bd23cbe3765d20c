package keep

import (
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// Tree is the files of a host that is not running. There is no kernel behind
// it, and so a tree is not a [Host], and no [Keeper] works on it.
type Tree interface {
	// Survey looks at the drop-ins and at the next boot.
	Survey(p *guard.Policy) guard.Observation

	// Write puts a drop-in in place.
	Write(path, content string) error
}

// AuditTree looks once at a tree and judges, and changes nothing.
func AuditTree(t Tree, p *guard.Policy) Report {
	o := t.Survey(p)
	rep := Report{Time: time.Now(), Items: guard.PlanDropins(p, &o)}
	if o.NextBoot != nil {
		rep.Findings = o.NextBoot.Findings
	}
	return rep
}

// ApplyTree writes the drop-ins of a tree that are not as wanted, and then
// looks again.
func ApplyTree(t Tree, p *guard.Policy) Report {
	o := t.Survey(p)
	var changes []Change
	for _, it := range guard.PlanDropins(p, &o) {
		if it.Action == nil {
			continue
		}
		c := planned(&it)
		if err := t.Write(it.Action.Subject, it.Action.Value); err != nil {
			c.Error, c.Next = err.Error(), next(err)
		}
		changes = append(changes, c)
	}
	rep := AuditTree(t, p)
	rep.Changes = changes
	return rep
}

// Planned is what a pass over items as they are would do.
func Planned(items []guard.Item) []Change {
	var changes []Change
	for i := range items {
		if items[i].Action != nil {
			changes = append(changes, planned(&items[i]))
		}
	}
	return changes
}

func planned(it *guard.Item) Change {
	return Change{Op: it.Action.Op.String(), Subject: it.Subject, From: it.Have, To: it.Want}
}
