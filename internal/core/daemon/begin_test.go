package daemon

import (
	"testing"

	"github.com/nfguard/nfguard/internal/core/source"
)

// The record of the start says what of names and lock there is not.
func TestStartSaysHow(t *testing.T) {
	for _, tt := range []struct{ name, how, want string }{
		{"sysctl", "subscribed: inotify, which tells no names (BPF: not supported; fanotify: operation not permitted)", " (inotify, which tells no names (BPF: not supported; fanotify: operation not permitted))"},
		{"sysctl", "subscribed: BPF cgroup/sysctl, with inotify", " (BPF cgroup/sysctl, with inotify)"},
		{"sysctl", "subscribed", ""},
		{"link", "subscribed: all", ""},
	} {
		if got := seenBy(&source.Health{Name: tt.name, How: tt.how}); got != tt.want {
			t.Errorf("%s, %s: %q, want %q", tt.name, tt.how, got, tt.want)
		}
	}
}
