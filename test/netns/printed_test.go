package netns_test

import (
	"strings"
	"testing"
	"time"
)

// If the kernel prints a value differently from the configuration, nfguard gives up
// after a few tries and says so: that is no drift, no correction and no fight. With and
// without BPF.
func TestPrintedOtherwise(t *testing.T) {
	t.Parallel()
	const config = `[sysctl]
"net.ipv4.ip_local_reserved_ports" = "30000-32767,8472"
`
	for _, tt := range []struct {
		name       string
		withoutBPF bool
	}{{"with BPF", false}, {"without", true}} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, config)
			n.withoutBPF = tt.withoutBPF
			n.start()
			n.awaitReady()
			r := n.recorded("the key is given up", func(r map[string]string) bool {
				return r["NFGUARD_SUBJECT"] == "net.ipv4.ip_local_reserved_ports" && r["NFGUARD_OUTCOME"] == "failed"
			})
			if want := "the kernel shows 8472,30000-32767"; !strings.Contains(r["MESSAGE"], want) {
				t.Errorf("message %q, want it to contain %q", r["MESSAGE"], want)
			}
			time.Sleep(5 * time.Second) // in which a hundred tries a second would be made
			n.stop()
			n.mu.Lock()
			defer n.mu.Unlock()
			for _, r := range n.records {
				if r["NFGUARD_EVENT"] == "contention" || r["NFGUARD_OUTCOME"] == "corrected" && r["NFGUARD_SUBJECT"] == "net.ipv4.ip_local_reserved_ports" {
					t.Errorf("recorded: %s", r["MESSAGE"])
				}
				if r["NFGUARD_EVENT"] == "stop" && !strings.Contains(r["MESSAGE"], "; 5 corrected, ") {
					t.Errorf("want the three bridge keys and the two drop-ins corrected and nothing else: %s", r["MESSAGE"])
				}
			}
		})
	}
}
