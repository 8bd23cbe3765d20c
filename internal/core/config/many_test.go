package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestManyKeys refuses what would take long to read: the toml package takes
// time by the square of the number of keys.
func TestManyKeys(t *testing.T) {
	many := func(n int, line string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, line+"\n", i)
		}
		return b.String()
	}
	for name, tt := range map[string]struct {
		text string
		line int // of the problem; 0: the text is read
	}{
		"as many sysctls as may be": {"[sysctl]\n" + many(999, `"net.x.y%d" = 1`), 0},
		"sysctls":                   {"[sysctl]\n" + many(1000, `"net.x.y%d" = 1`), 1001},
		"flat keys":                 {many(7000, "k%d=1"), 1001},
		"dotted keys":               {many(4000, "a.b%d=1"), 1001},
		"tables":                    {many(6000, "[t%d]"), 1001},
		"tables of arrays":          {many(6000, "[[t]]#%d"), 1001},
		"comments":                  {many(5000, "# %d = 1"), 0},
	} {
		file := filepath.Join(t.TempDir(), "x.toml")
		if err := os.WriteFile(file, []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		want := ""
		if tt.line > 0 {
			want = fmt.Sprintf("%s:%d: has more than 1000 keys and tables (hint: is it the right file? nfguard.toml has a few dozen)", file, tt.line)
		}
		got := ""
		if err := Check(file); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%.500s", name, diff)
		}
	}
}
