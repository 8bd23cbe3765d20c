package cli_test

import (
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

// TestPrintedSchemas holds what needs no host to its schema; test/netns does so with the
// rest.
func TestPrintedSchemas(t *testing.T) {
	const (
		broken  = "../diag/trace/testdata/key0.golden.json"
		working = "../diag/trace/testdata/key1.golden.json"
	)
	for _, tt := range []struct {
		schema string
		code   int
		args   []string
	}{
		{"config-show", 0, []string{"config", "show", "--config", "../../config/nfguard.toml"}},
		{"check-merge", 1, []string{"check", "--merge", "../diag/fleet/testdata/right.json", "../diag/fleet/testdata/wrong.json"}},
		{"trace", 1, []string{"trace", "--read", broken}},
		{"trace-compare", 0, []string{"trace", "--compare", broken, "--read", working}},
		{"check", 1, []string{"check", "--root", t.TempDir()}},
	} {
		code, out, talk := run(t, append(tt.args, "-o", "json")...)
		if code != tt.code {
			t.Errorf("%q: exit code %d, want %d: %s", tt.args, code, tt.code, talk)
		}
		lab.Schema(t, tt.schema, []byte(out))
	}
}
