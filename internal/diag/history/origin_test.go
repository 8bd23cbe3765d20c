package history

import (
	"strings"
	"testing"
)

// Root in a container has uid 0, and can choose its name and what it writes, but not
// its unit and control group.
func TestL1Origin(t *testing.T) {
	const id = "2f1a6c0de4b5978812cd3390fe76ab54c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6"
	for _, tt := range []struct {
		name, source string
		teller       Teller
		want         Origin
		note         string
	}{
		{"the service", "sysctl", Teller{UID: "0", Comm: "nfguard", PID: 9, Unit: Service, Cgroup: "/system.slice/nfguard.service"}, ByService, ""},
		{"its control group is not known", "sysctl", Teller{UID: "0", Comm: "nfguard", PID: 9, Unit: Service}, ByService, ""},
		{
			"apply by hand", "apply",
			Teller{UID: "0", Comm: "nfguard", PID: 9, Unit: "session-3.scope", Cgroup: "/user.slice/user-0.slice/session-3.scope"},
			ByHand,
			"not by nfguard.service: nfguard apply, run by hand by nfguard[9] of uid 0, session-3.scope",
		},
		{
			"the daemon by hand", "sysctl",
			Teller{UID: "0", Comm: "nfguard", PID: 9, Unit: "session-3.scope", Cgroup: "/user.slice/user-0.slice/session-3.scope"},
			ByOther,
			"not by nfguard.service: written to the journal by nfguard[9] of uid 0, session-3.scope",
		},
		{
			"a container's root", "sysctl",
			Teller{UID: "0", Comm: "nfguard", PID: 9, Unit: "cri-containerd-" + id + ".scope", Cgroup: "/kubepods.slice/kubepods-pod" + id[:32] + ".slice/cri-containerd-" + id + ".scope"},
			ByOther, "not by nfguard.service: written to the journal by nfguard[9] of uid 0, cri-containerd-" + id + ".scope",
		},
		{
			"a container's root who claims to be apply", "apply",
			Teller{UID: "0", Comm: "nfguard", PID: 9, Unit: "docker-" + id + ".scope", Cgroup: "/system.slice/docker-" + id + ".scope"},
			ByOther, "not by nfguard.service: written to the journal by nfguard[9] of uid 0, docker-" + id + ".scope",
		},
		{
			"a container without a unit", "apply",
			Teller{UID: "0", Comm: "nfguard", PID: 9, Cgroup: "/kubepods/pod" + id[:32] + "/" + id},
			ByOther, "not by nfguard.service: written to the journal by nfguard[9] of uid 0",
		},
		{
			"a group inside a container, named like the service", "sysctl",
			Teller{UID: "0", Comm: "nfguard", PID: 9, Unit: Service, Cgroup: "/docker/" + id + "/nfguard.service"},
			ByOther, "not by nfguard.service: written to the journal by nfguard[9] of uid 0, nfguard.service",
		},
		{"of another uid", "sysctl", Teller{UID: "7", Comm: "nfguard", PID: 9, Unit: Service}, ByOther, "not by nfguard.service: written to the journal by nfguard[9] of uid 7, nfguard.service"},
	} {
		r := Record{Source: tt.source, Teller: tt.teller}
		if got := r.Origin(); got != tt.want {
			t.Errorf("%s: by %s, want %s", tt.name, got, tt.want)
		}
		if got := strings.Join(r.Notes(""), "; "); got != tt.note {
			t.Errorf("%s: noted %q, want %q", tt.name, got, tt.note)
		}
	}
}

// A fight or a start that somebody else has written to the journal takes in none of
// our changes, and ends none of our fights.
func TestL1NobodyElsesFight(t *testing.T) {
	by := func(r Record) Record {
		r.Teller = Teller{UID: "0", Comm: "nfguard", PID: 4000, Unit: "session-3.scope"}
		return r
	}
	start := fightRecord(40, 0, "nfguard", "start", "observed", 0)
	start.Event = "start"
	got := story([]Record{
		drift(9, "a"),
		by(fightRecord(10, 10, "a", "sysctl", "held", 1)),
		drift(11, "a"),
		by(fightRecord(12, 10, "a", "timer", "observed", 50)),
		fightRecord(30, 30, "b", "sysctl", "held", 1),
		by(start),
		by(fightRecord(50, 30, "b", "timer", "observed", 7)),
		fightRecord(70, 30, "b", "timer", "observed", 20),
	})
	want := "9s a\n11s a\n" +
		"12s a: fight over, 51 changes in 2 records, 10s to 12s, by tuned.service\n" +
		"40s nfguard\n" +
		"50s b: fight over, 7 changes in 1 records, 30s to 50s, by tuned.service\n" +
		"1m10s b: fight over, 21 changes in 2 records, 30s to 1m10s, by tuned.service\n"
	if got != want {
		t.Errorf("folded:\n%s\nwant:\n%s", got, want)
	}
}

// The totals have changes by pod, for pods whose name is known.
func TestTotalsByPod(t *testing.T) {
	tally := NewTally(noon.Location())
	for i, pod := range []string{"kube-system/setup", "kube-system/setup", "default/web", ""} {
		r := drift(i, "a")
		r.Process.PodNamespace, r.Process.PodName, _ = strings.Cut(pod, "/")
		tally.Add(&r)
	}
	got := tally.Totals().Pods
	if len(got) != 2 || got[0].Name != "kube-system/setup" || got[0].Changes != 2 || got[1].Name != "default/web" || got[1].Changes != 1 {
		t.Errorf("by pod: %+v", got)
	}
}
