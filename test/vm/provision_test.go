package vm_test

import (
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/vm"
)

// wantGuarding checks what every way of provisioning has to achieve.
func wantGuarding(t *testing.T, m *vm.Machine) {
	t.Helper()
	if got := m.Sh(t, "systemctl is-active nfguard; systemctl is-enabled nfguard"); got != "active\nenabled" {
		t.Errorf("nfguard.service is %q, want active and enabled", got)
	}
	if got := m.Sh(t, "cd /proc/sys/net/bridge; cat bridge-nf-call-iptables bridge-nf-call-ip6tables"); got != "1\n1" {
		t.Errorf("bridge-nf-call-iptables, -ip6tables: %q, want 1", got)
	}
	if r := m.Run(t, "nfguard", "check"); r.Code != 0 {
		t.Errorf("nfguard check: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// wantInForce checks that the one setting in the tests' file of this name is in force.
func wantInForce(t *testing.T, m *vm.Machine, file string) {
	t.Helper()
	got := m.Sh(t, "nfguard config show | grep -F arptables")
	if !strings.Contains(got, `"ignore"`) || !strings.Contains(got, file) {
		t.Errorf("in force is %q, want \"ignore\" from %s", got, file)
	}
}
