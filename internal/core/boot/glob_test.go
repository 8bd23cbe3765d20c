package boot

import "testing"

func TestGlobs(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"net/*/x", "net/bridge/x", true},
		{"net/*", "net/bridge/x", false},
		{"net/*/*", "net/bridge/x", true},
		{"net?bridge", "net/bridge", false},
		{"net[/.]bridge", "net/bridge", false},
		{"a[b-d]e", "ace", true},
		{"a[!b-d]e", "ace", false},
		{"a[^b-d]e", "axe", true},
		{"a[]x]", "a]", true},
		{"a[x-]", "a-", true},
		{"a[", "a[", true},
		{"a[b", "ab", false},
		{`a\*`, "a*", true},
		{`a\*`, "ab", false},
		{"*", "", true},
		{"**a**", "bab", true},
		{"", "", true},
		{"", "a", false},
	}
	for _, tt := range tests {
		if got := globs(tt.pattern, tt.name); got != tt.want {
			t.Errorf("globs(%q, %q) = %v", tt.pattern, tt.name, got)
		}
	}
}
