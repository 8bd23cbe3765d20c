package markdown

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInsert(t *testing.T) {
	path := filepath.Join(t.TempDir(), "README.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n<!-- told: begin -->\nold\n<!-- told: end -->\nafter\n")
	for range 2 { // what was inserted can be replaced
		if err := Insert(path, "told", "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	want := "before\n<!-- told: begin -->\nnew\n<!-- told: end -->\nafter\n"
	if got, err := os.ReadFile(path); string(got) != want || err != nil {
		t.Errorf("%v\n%s", err, got)
	}
	if err := Insert(path, "measured", "x"); err == nil {
		t.Error("a file without the lines was written")
	}
}
