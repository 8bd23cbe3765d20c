package host

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// Flags that are set and taken back are appended, so that the cost of a bridge does
// not depend on their number. All notes together count when the file is read,
// including those of another process.
func TestMemoryAddsUp(t *testing.T) {
	const bridges = 4 * maxNotes
	path := filepath.Join(t.TempDir(), "run", "bridges.json")
	m := &memory{path: path}
	action := func(i int) guard.Action {
		return guard.Action{Subject: fmt.Sprintf("gone%d", i), Index: 1_000_000 + i, Flags: guard.Flags{true, true, false}, Evidence: i%2 == 0}
	}
	for i := range bridges {
		m.remember(action(i))
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	const taken = maxNotes
	m.notes, m.whole = 0, bridges // as after a rewrite
	for i := range taken {
		if err := m.forget(action(i)); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) || after.Size() <= before.Size() {
		t.Errorf("it was rewritten for each bridge: %v", err)
	}

	again := action(bridges - 1) // was set by a pattern, and is set on evidence now
	again.Flags, again.Evidence = guard.Flags{0: true}, true
	other := &memory{path: path}
	other.remember(again)
	want := map[bridgeID]guard.Remembered{}
	for i := taken; i < bridges; i++ {
		r := noteOf(action(i))
		if i == bridges-1 {
			r.Evidence = again.Flags
		}
		want[bridgeID{r.Name, r.Index}] = r
	}
	for name, m := range map[string]*memory{"the one that wrote": m, "the other": other, "a later one": {path: path}} {
		if err := m.load(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, m.known, cmp.AllowUnexported(bridgeID{})); diff != "" {
			t.Errorf("%s knows (-want +got):\n%s", name, diff)
		}
	}

	// Bridges that are created and removed do not make it grow: none of these exists.
	for i := range 10 * maxNotes {
		m.remember(action(bridges + i))
		m.tidy(action(bridges + i))
	}
	if len(m.known) > maxNotes {
		t.Errorf("%d bridges are remembered, and none is there", len(m.known))
	}

	// A rewrite leaves out bridges that are gone.
	if err := m.save(); err != nil || len(m.known) > 0 {
		t.Errorf("%d known, %v", len(m.known), err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is there: %v", err)
	}
}
