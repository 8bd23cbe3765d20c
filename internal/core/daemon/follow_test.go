package daemon

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/source"
)

// B4: what was said of a key that is configured no more goes with the reload,
// and not with the next start.
func TestComplaintGoesWithItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		misspelt := guard.Setting{Key: "net.ipv4.ip_forwrd", Value: "0"}
		h := hosttest.New(true)
		h.WriteErr = errors.New("read-only file system")
		r := newRig(t, h, func(_ *Options, s *Settings) {
			s.Policy.Sysctls = append(s.Policy.Sysctls, misspelt)
			s.Policy.SysctlD = "/etc/sysctl.d/x.conf"
		})
		time.Sleep(10 * time.Second)
		r.said()
		if s := r.snapshotNow(); s.State != "degraded" || s.Complaints[string(misspelt.Key)] == "" {
			t.Fatalf("before: %s, complaints %v", s.State, s.Complaints)
		}
		r.mu.Lock()
		r.settings.Policy.Sysctls = r.settings.Policy.Sysctls[:2]
		r.settings.Policy.SysctlD = ""
		r.mu.Unlock()
		r.Reload()
		want := []string{
			"10s RELOADING=1",
			"10s dropin observed: /etc/sysctl.d/x.conf is left as it is (no longer configured), after 10s",
			"10s drift observed: net.ipv4.ip_forwrd is left as it is (no longer configured), after 10s",
			"10s config observed: the configuration was reloaded", "10s READY=1",
		}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		time.Sleep(2 * time.Second)
		s := r.snapshotNow()
		if diff := cmp.Diff(map[string]string{}, s.Complaints); diff != "" || s.State != "healthy" ||
			s.Sentence != "br_netfilter loaded, 2 of 2 keys as wanted" {
			t.Errorf("after: %s: %s; complaints (-want +got):\n%s", s.State, s.Sentence, diff)
		}
	})
}

// B5: mode observe puts nothing right, and tells of it as soon as it is recorded.
func TestObservedDriftShowsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), func(_ *Options, s *Settings) { s.Policy.Mode = guard.Observe })
		time.Sleep(10 * time.Second)
		shows := func(when, state, sentence string, verdict guard.Verdict, have string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			s := r.snapshotNow()
			if s.State != state || s.Sentence != sentence || s.Verdict != verdict || s.Report.Items[1].Have != have || s.Report.Items[1].Verdict != verdict {
				t.Errorf("%s: %s: %s; verdict %s, item %+v", when, s.State, s.Sentence, s.Verdict, s.Report.Items[1])
			}
		}
		shows("before", "healthy", "br_netfilter loaded, 2 of 2 keys as wanted", guard.Right, "1")
		before := r.snapshotNow().Pass
		r.host.Write(guard.IPTables, "0")
		r.watch.tell(guard.IPTables)
		shows("written", "degraded", "br_netfilter loaded, 1 of 2 keys as wanted; not as wanted: net.bridge.bridge-nf-call-iptables", guard.Wrong, "0")
		r.host.Write(guard.IPTables, "1")
		r.watch.tell(guard.IPTables)
		if s := r.snapshotNow(); s.Pass == before {
			t.Error("there was no pass, which tells what the drift means")
		}
		shows("written back", "healthy", "br_netfilter loaded, 2 of 2 keys as wanted", guard.Right, "1")
	})
}

// B10: reloads that each change a value are no fight, neither about the sysctl nor
// about the drop-in that follows it, though other news comes at the same time.
func TestReloadsAreNoFight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, hosttest.New(true), func(_ *Options, s *Settings) { s.Policy.SysctlD = "/etc/sysctl.d/x.conf" })
		time.Sleep(10 * time.Second)
		for i := range 20 {
			r.mu.Lock()
			r.settings.Policy.Sysctls = []guard.Setting{r.settings.Policy.Sysctls[0], {Key: "net.ipv4.ip_forward", Value: strconv.Itoa(i % 2)}}
			r.mu.Unlock()
			r.link.in <- source.Hint{Source: "link", About: source.Devices, Kind: source.Changed, Reason: fmt.Sprintf("bridge br%d changed", i)}
			r.link.in <- source.Hint{Source: "link", About: source.Devices, Kind: source.Changed, Reason: "bridge br changed"}
			r.Reload()
			time.Sleep(500 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		if s := r.snapshotNow(); len(s.Fights) != 0 || s.State != "healthy" {
			t.Errorf("%s: %s; fights %v", s.State, s.Sentence, s.Fights)
		}
		for _, line := range r.said() {
			if strings.Contains(line, "contention") {
				t.Error(line)
			}
		}
	})
}
