package daemon

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/kernel/pods"
)

// scoped turns the settings of a rig into those of scope "bridges".
func scoped(_ *Options, s *Settings) {
	s.Policy.Bridges = &guard.Selection{Match: []string{"cni*"}, Families: []guard.Family{guard.IPv4}}
	s.Policy.Sysctls = s.Policy.Sysctls[1:]
}

func (r *rig) appear(b ...guard.Bridge) {
	r.host.SetBridges(b...)
	for _, b := range b {
		r.link.in <- source.Hint{Source: "link", About: source.Devices, Kind: source.Appeared, Reason: "bridge " + b.Name + " appeared", Device: b.Name, Time: time.Now()}
	}
}

// A bridge that appears has its flags before the next pass, which waits for
// the end of a burst.
func TestBridgeAppears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(true)
		for _, f := range []guard.Family{guard.IPv4, guard.IPv6, guard.ARP} {
			h.Write(f.Key(), "0")
		}
		r := newRig(t, h, scoped)
		time.Sleep(10 * time.Second)
		r.said()
		r.appear(guard.Bridge{Name: "cni0", Index: 3})
		r.said()
		time.Sleep(50 * time.Millisecond)
		before := r.snapshotNow().Pass
		r.appear(guard.Bridge{Name: "cni1", Index: 4}, guard.Bridge{Name: "virbr0", Index: 5})
		want := []string{"10.05s bridge_flag corrected: bridge cni1 had iptables 0, set to 1 after 0s (matches cni*)"}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		if r.snapshotNow().Pass != before || r.host.Flags("virbr0") != (guard.Flags{}) {
			t.Errorf("it waited for a pass, or touched virbr0: %v", r.host.Flags("virbr0"))
		}
		time.Sleep(10 * time.Second)
		want = []string{
			"10.2s bridge observed: bridge cni0 was removed",
			"10.2s bridge observed: bridge cni1 appeared; br_netfilter loaded, 1 of 1 keys and 1 of 1 bridges as wanted",
			"10.2s bridge observed: bridge virbr0 appeared; br_netfilter loaded, 1 of 1 keys and 1 of 1 bridges as wanted",
		}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("records of the pass (-want +got):\n%s", diff)
		}
		if s := r.snapshotNow(); s.Scope != "bridges" || s.Totals.Corrected != 2 {
			t.Errorf("status: %+v", s)
		}
	})
}

// A pass that hangs keeps no bridge waiting, and a look at a bridge that hangs
// no sysctl; nor does it hold the end.
func TestBridgeAndHungWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(false)
		h.Hang = make(chan struct{})
		r := newRig(t, h, scoped)
		time.Sleep(5 * time.Second)
		r.appear(guard.Bridge{Name: "cni0", Index: 3})
		want := []string{"5s bridge_flag corrected: bridge cni0 had iptables 0, set to 1 after 0s (matches cni*)"}
		if diff := cmp.Diff(want, r.said()); diff != "" {
			t.Errorf("while modprobe hangs (-want +got):\n%s", diff)
		}
		close(h.Hang)
		time.Sleep(5 * time.Second)
		r.said()

		h.HangLook = make(chan struct{}) // somebody holds rtnl_lock
		r.appear(guard.Bridge{Name: "cni1", Index: 4})
		h.Write("net.ipv4.ip_forward", "1")
		r.watch.tell("net.ipv4.ip_forward")
		got := strings.Join(r.said(), "\n")
		if !strings.Contains(got, "10s drift corrected: net.ipv4.ip_forward was 1, set back to 0 after 0s") {
			t.Errorf("while a look at a bridge hangs: %s", got)
		}
		stop := time.Now()
		r.cancel()
		if err := <-r.done; err != nil || time.Since(stop) > 5*time.Second {
			t.Errorf("stopped after %v: %v", time.Since(stop), err)
		}
		r.done <- nil
		close(h.HangLook)
	})
}

// A reload from scope "host" to "bridges" sets the flags while the sysctls are
// still kept.
func TestScopeIsChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(true)
		h.SetBridges(guard.Bridge{Name: "cni0", Index: 3})
		r := newRig(t, h, nil)
		time.Sleep(10 * time.Second)
		r.said()
		h.HangLook = make(chan struct{})
		r.mu.Lock()
		scoped(nil, &r.settings)
		r.mu.Unlock()
		r.Reload()
		time.Sleep(time.Second)
		h.Write(guard.IPTables, "0")
		r.watch.tell(guard.IPTables)
		synctest.Wait()
		if h.Get(guard.IPTables) != "1" || h.Flags("cni0") != (guard.Flags{}) {
			t.Errorf("before the flags are set the sysctl is %s, the flags %v", h.Get(guard.IPTables), h.Flags("cni0"))
		}
		close(h.HangLook)
		time.Sleep(time.Second)
		h.Write(guard.IPTables, "0")
		time.Sleep(time.Minute)
		synctest.Wait()
		if h.Get(guard.IPTables) != "0" || h.Flags("cni0") != (guard.Flags{true}) {
			t.Errorf("after it the sysctl is %s, the flags %v", h.Get(guard.IPTables), h.Flags("cni0"))
		}
	})
}

// A writer in a pod is recorded by the names that the node has for it.
func TestPodIsNamed(t *testing.T) {
	const id = "2f1a6c0de4b5978812cd3390fe76ab54c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6"
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(true)
		h.Write("net.ipv4.ip_forward", "0")
		r := newRig(t, h, func(o *Options, _ *Settings) {
			o.PodName = func(uid, container string) pods.Name {
				if uid != id[:32] || container != id {
					t.Errorf("asked for %q, %q", uid, container)
				}
				return pods.Name{Namespace: "kube-system", Pod: "setup", Container: "init"}
			}
		})
		synctest.Wait()
		r.said()
		time.Sleep(5 * time.Second)
		h.Write(guard.IPTables, "0")
		r.watch.tellBy(guard.IPTables, source.Located(record.Process{PID: 7, Comm: "sh"}, "/kubepods/pod"+id[:32]+"/"+id))
		synctest.Wait()
		const want = "(written by sh[7], pod kube-system/setup, container init)"
		if got := strings.Join(r.said(), "\n"); !strings.Contains(got, want) {
			t.Errorf("records:\n%s\nwant %s", got, want)
		}

		// kube-proxy in a pod, whose record has no more than its place.
		h.SetKubeProxy(guard.KubeProxy{Processes: []guard.Process{{
			PID: 9, Comm: "kube-proxy", Container: id, Pod: id[:32], Started: time.Minute,
		}}})
		r.link.in <- source.Hint{Source: "exec", About: source.Processes, Kind: source.Appeared, Reason: "kube-proxy[9] was executed", Time: time.Now()}
		time.Sleep(time.Second)
		r.mu.Lock()
		defer r.mu.Unlock()
		named := slices.ContainsFunc(r.events, func(e record.Event) bool {
			return e.Kind == record.KindKubeProxy && e.Writer.PodName == "setup" && e.Writer.PodNamespace == "kube-system" && e.Writer.ContainerName == "init"
		})
		if !named {
			t.Errorf("no record of kube-proxy has the name of its pod: %+v", r.events)
		}
	})
}
