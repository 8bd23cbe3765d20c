package vm_test

import (
	"regexp"
	"strings"
	"testing"
)

// always are the fields of every record; sometimes are those that README.md promises if
// they apply.
var (
	always = []string{
		"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER",
		"NFGUARD_TIME", "NFGUARD_EVENT", "NFGUARD_OUTCOME", "NFGUARD_SUBJECT", "NFGUARD_SOURCE",
	}
	sometimes = []string{
		"NFGUARD_WANT", "NFGUARD_HAVE", "NFGUARD_NOW", "NFGUARD_DURATION_USEC", "NFGUARD_PASS",
		"NFGUARD_ABOUT", "NFGUARD_SUPPRESSED", "NFGUARD_ERROR", "NFGUARD_NEXT",
		"SYSCTL", "OLDVALUE", "NEWVALUE", "OURVALUE",
		"OBJECT_PID", "OBJECT_COMM", "OBJECT_EXE", "OBJECT_SYSTEMD_UNIT", "OBJECT_SYSTEMD_CGROUP",
	}
)

// wholeRecord reads everything that nfguard has recorded in this worker's life.
func (n *node) wholeRecord(t *testing.T) {
	seen := map[string]bool{} // fields
	kinds := map[string]record{}
	for _, r := range n.allRecords(t) {
		for _, field := range always {
			if r.field(field) == "" {
				t.Errorf("%q has no %s", r.field("MESSAGE"), field)
			}
		}
		for field := range r {
			seen[field] = true
		}
		kinds[r.field("NFGUARD_EVENT")] = r
	}
	for _, field := range sometimes {
		if !seen[field] {
			t.Errorf("no record has %s", field)
		}
	}
	for _, kind := range []string{"drift", "module", "dropin", "bridge", "contention", "denied", "kube_proxy", "next_boot", "bridge_flag", "config", "start", "stop"} {
		r := kinds[kind]
		if r == nil {
			t.Errorf("no record of a %s", kind)
			continue
		}
		explained := n.Sh(t, "journalctl --quiet --catalog --lines=1 MESSAGE_ID="+r.field("MESSAGE_ID"))
		if !regexp.MustCompile(`(?m)^\S+ Subject: .*\n\S+ Defined-By: nfguard$`).MatchString(explained) || strings.Contains(explained, "@NFGUARD") {
			t.Errorf("journalctl -x of a %s:\n%s", kind, explained)
		}
	}
}

// allRecords returns all records of all boots.
func (n *node) allRecords(t *testing.T) []record {
	t.Helper()
	var records []record
	for _, e := range n.Journal(t, "--unit=nfguard") {
		if r := record(e); r.field("NFGUARD_EVENT") != "" {
			records = append(records, r)
		}
	}
	return records
}
