package run

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// A manager that does not read loses what is out of date, and never that nfguard
// is ready.
func TestNotifierLosesNothingThatCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		reads := make(chan struct{})
		status := make(chan struct{})
		close(status)
		n := startNotifier(status, func(s string) {
			<-reads
			sent = append(sent, s)
		})
		n.notify("STATUS=starting")
		synctest.Wait() // the first is on its way, and nobody reads it
		n.notify("READY=1")
		for i := range 100 {
			n.notify("WATCHDOG=1")
			n.notify(fmt.Sprintf("STATUS=%d", i))
		}
		n.notify("STOPPING=1")
		close(reads)
		n.stop()
		want := []string{"STATUS=starting", "READY=1", "WATCHDOG=1", "STATUS=99", "STOPPING=1"}
		if diff := cmp.Diff(want, sent); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
	})
}
