package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/kernel/monotonic"
)

// A daemon whose loop hangs reports nothing: the kernel's clock shows that its next look
// should have ended.
func TestStatusSeesThatNoLookEnds(t *testing.T) {
	self, err := instance.Self()
	if err != nil {
		t.Fatal(err)
	}
	ago := func(d time.Duration) int64 { return (monotonic.Nano() - d.Nanoseconds()) / 1000 }
	written := time.Date(2026, 11, 29, 14, 2, 3, 0, time.Local)
	tests := []struct {
		name     string
		look     daemon.Look
		state    string
		problems []string
		sentence string
	}{
		{
			name: "in time", look: daemon.Look{Ended: ago(30 * time.Second), LateAt: ago(-90 * time.Second)},
			state: "healthy", problems: []string{}, sentence: "all is well",
		},
		{
			name: "late", look: daemon.Look{Ended: ago(5 * time.Minute), LateAt: ago(3 * time.Minute)},
			state: "degraded", problems: []string{"no look has ended for 5m0s"},
			sentence: "no look has ended for 5m0s; nfguard said at 14:02:03: all is well",
		},
		{
			name: "late, as the daemon tells itself", look: daemon.Look{Ended: ago(5 * time.Minute), LateAt: ago(3 * time.Minute), Late: true},
			state: "degraded", problems: []string{}, sentence: "all is well",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := statusView{Status: daemon.Status{State: "healthy", Sentence: "all is well", Process: self, Written: written, Look: tt.look}}
			if tt.look.Late {
				v.State = "degraded"
			}
			v.Now.Process = instance.Running
			v.assess()
			if diff := cmp.Diff(tt.problems, v.Now.Problems); diff != "" || v.State != tt.state || v.Sentence != tt.sentence {
				t.Errorf("%s: %s; problems (-want +got):\n%s", v.State, v.Sentence, diff)
			}
			if v.Now.LookAge == nil || *v.Now.LookAge < 29 {
				t.Errorf("the age of the last look is %v", v.Now.LookAge)
			}
		})
	}
}

// A sysctl that cannot be read here is unknown, which is not the daemon's fault.
func TestStatusReadsTheSysctls(t *testing.T) {
	self, err := instance.Self()
	if err != nil {
		t.Fatal(err)
	}
	v := statusView{Status: daemon.Status{State: "healthy", Sentence: "all is well", Process: self, Mode: string(guard.Observe), Sysctls: []daemon.Sysctl{
		{Key: "kernel.ostype", Want: "Linux", Verdict: guard.Right},
		{Key: "kernel.osrelease", Want: "0", Have: "0", Verdict: guard.Right},
		{Key: "net.ipv4.no_such_key", Want: "1", Have: "absent", Verdict: guard.Blocked},
		{Key: "net.bridge.bridge-nf-call-ip6tables", Want: "1", Have: "0", Verdict: guard.Excused},
	}}}
	v.Now.Process = instance.Running
	v.assess()
	if v.State != "degraded" || len(v.Now.Problems) != 1 || !strings.HasPrefix(v.Now.Problems[0], "kernel.osrelease is ") || !strings.HasSuffix(v.Now.Problems[0], ", wanted 0") {
		t.Errorf("want that the second is wrong, got %s: %q", v.State, v.Now.Problems)
	}
	if got, want := v.Now.line(), "read now: 1 of 3 sysctls as wanted"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	v.Process.NetworkNamespace++
	v.Now.Problems, v.State = nil, "healthy"
	v.assess()
	if got, want := v.Now.line(), "the sysctls were not read now: this command is in another network namespace than the daemon"; got != want || v.State != "healthy" {
		t.Errorf("%s: %q, want %q", v.State, got, want)
	}
}

// Of a daemon that has published nothing, nothing is made up.
func TestSilentDaemon(t *testing.T) {
	v := silentDaemon(812)
	v.Written = time.Time{}
	var b strings.Builder
	writeStatus(&b, v)
	const want = "nfguard of unknown version, pid 812; no look has ended yet\n"
	if text := b.String(); !strings.Contains(text, want) || strings.Contains(text, "0001") {
		t.Errorf("want %q in it, got:\n%s", want, text)
	}
	b.Reset()
	if err := writeJSON(&b, v); err != nil || strings.Contains(b.String(), `"started"`) {
		t.Errorf("JSON: %v\n%s", err, b.String())
	}
}
