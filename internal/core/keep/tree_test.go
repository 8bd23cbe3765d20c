package keep_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
)

// tree is a tree in memory.
type tree struct {
	files    map[string]string
	full     error
	findings []guard.Finding
}

func (t *tree) Survey(p *guard.Policy) guard.Observation {
	var o guard.Observation
	for _, path := range []string{p.ModulesLoad, p.SysctlD} {
		d := guard.Dropin{Path: path, State: guard.Absent}
		if text, ok := t.files[path]; ok {
			d.State, d.Have = guard.Present, text
		}
		o.Dropins = append(o.Dropins, d)
	}
	o.NextBoot = &guard.NextBoot{Findings: t.findings}
	return o
}

func (t *tree) Write(path, content string) error {
	if t.full != nil {
		return t.full
	}
	t.files[path] = content
	return nil
}

// What a dry run says is what is done, and what is found afterwards is what the
// next look finds.
func TestApplyTree(t *testing.T) {
	p := policy()
	breaks := []guard.Finding{{Subject: "x", Sentence: "it will be undone", Breaks: true}}
	tests := map[string]struct {
		tree    tree
		verdict guard.Verdict
		written int
	}{
		"empty":            {tree{}, guard.Right, 2},
		"undone by boot":   {tree{findings: breaks}, guard.Right, 2},
		"one is there":     {tree{files: map[string]string{modulesLoad: p.ModulesLoadText()}}, guard.Right, 1},
		"one is another's": {tree{files: map[string]string{modulesLoad: "overlay\n"}}, guard.Wrong, 1},
		"no room":          {tree{full: errors.New("no room")}, guard.Wrong, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.tree.files == nil {
				tt.tree.files = map[string]string{}
			}
			audit := keep.AuditTree(&tt.tree, &p)
			planned := keep.Planned(audit.Items)
			rep := keep.ApplyTree(&tt.tree, &p)
			if diff := cmp.Diff(planned, rep.Changes, cmpopts.IgnoreFields(keep.Change{}, "Error", "Next")); diff != "" {
				t.Errorf("done otherwise than planned (-want +got):\n%s", diff)
			}
			written := 0
			for _, c := range rep.Changes {
				if c.Error == "" {
					written++
				}
			}
			if written != tt.written || rep.Verdict() != tt.verdict {
				t.Errorf("%d files were written, the verdict is %s", written, rep.Verdict())
			}
			rep.Changes = nil
			again := keep.AuditTree(&tt.tree, &p)
			if diff := cmp.Diff(again, rep, cmpopts.IgnoreFields(keep.Report{}, "Time"), cmpopts.EquateErrors()); diff != "" {
				t.Errorf("the next look finds something else (-want +got):\n%s", diff)
			}
			for _, it := range again.Items {
				if it.Kind != record.KindDropin {
					t.Errorf("a tree has a %s", it.Kind)
				}
			}
		})
	}
}
