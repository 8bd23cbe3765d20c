package vm_test

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/vm"
)

const (
	iptables  = "net.bridge.bridge-nf-call-iptables"
	ip6tables = "net.bridge.bridge-nf-call-ip6tables"
	arptables = "net.bridge.bridge-nf-call-arptables"

	modulesLoad = "/etc/modules-load.d/nfguard.conf"
	sysctlD     = "/etc/sysctl.d/99-zz-nfguard.conf"
)

// node is a worker: a machine, with what the stories use again and again.
type node struct {
	*vm.Machine
	ready   time.Duration // from the start of the first installation to READY
	culprit string        // the PID of the first writer in the stories
}

// install installs the package of the current tree, which enables and starts nfguard.
func (n *node) install(t *testing.T) {
	t.Helper()
	n.Push(t, deb(t), "/srv/nfguard.deb", 0o644)
	// Both by the monotonic clock, in seconds and in microseconds.
	times := n.Sh(t, `
		cut -d ' ' -f 1 /proc/uptime
		dpkg -i /srv/nfguard.deb >&2
		systemctl show --value --property=ActiveEnterTimestampMonotonic nfguard`)
	var began, ready float64
	if _, err := fmt.Sscan(times, &began, &ready); err != nil {
		t.Fatalf("times of the installation: %v in %q", err, times)
	}
	n.ready = time.Duration((ready/1e6 - began) * float64(time.Second))
}

// wantRight waits until all three sysctls are 1, and fails the test if they
// do not become so.
func (n *node) wantRight(t *testing.T) {
	t.Helper()
	n.Until(t, `cd /proc/sys/net/bridge; ! grep -Hvx 1 bridge-nf-call-*tables`)
}

// mark returns the guest's time, for searching the journal from there on. (A cursor does
// not work: journalctl 252 skips the first match after it.)
func (n *node) mark(t *testing.T) string {
	t.Helper()
	return "@" + n.Sh(t, "date +%s.%6N")
}

// record is what nfguard has written to the journal about one event.
type record map[string]any

// time returns when the journal received the record, comparable with marks.
func (r record) time() string {
	usec := r.field("__REALTIME_TIMESTAMP")
	return "@" + usec[:len(usec)-6] + "." + usec[len(usec)-6:]
}

// field returns the first value of a field, or "".
func (r record) field(name string) string {
	switch v := r[name].(type) {
	case string:
		return v
	case []any: // given by us, and looked up by journald too
		s, _ := v[0].(string)
		return s
	}
	return ""
}

// want checks fields against regular expressions, which have to match the whole value.
func (r record) want(t *testing.T, patterns map[string]string) {
	t.Helper()
	for name, pattern := range patterns {
		if got := r.field(name); !regexp.MustCompile("^(?:" + pattern + ")$").MatchString(got) {
			t.Errorf("%s: got %q, want %s", name, got, pattern)
		}
	}
}

// records waits until nfguard has written count records since the mark that
// match FIELD=VALUE arguments as journalctl takes them, and returns them.
func (n *node) records(t *testing.T, mark string, count int, match ...string) []record {
	t.Helper()
	var found []record
	// A machine with little processor time answers few queries in 30 seconds.
	for tries, deadline := 50, time.Now().Add(30*time.Second); tries > 0 || time.Now().Before(deadline); tries-- {
		found = nil
		for _, e := range n.Journal(t, append([]string{"--since=" + mark, "--unit=nfguard"}, match...)...) {
			found = append(found, e)
		}
		if len(found) >= count {
			return found
		}
	}
	all := n.Run(t, "journalctl", "--no-pager", "--unit=nfguard", "--since="+mark).Stdout
	t.Fatalf("%d records of %q, want %d; the journal since:\n%s", len(found), match, count, all)
	return nil
}

// record is [node.records] where exactly one is expected.
func (n *node) record(t *testing.T, mark string, match ...string) record {
	t.Helper()
	found := n.records(t, mark, 1, match...)
	if len(found) > 1 {
		for _, r := range found {
			t.Errorf("one of %d records of %q, want 1: %s", len(found), match, r.field("MESSAGE"))
		}
	}
	return found[0]
}
