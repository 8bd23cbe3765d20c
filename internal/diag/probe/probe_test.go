package probe

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/nfguard/nfguard/test/lab"
)

// with are settings with those values of iptables and ip6tables, and flags.
func with(iptables, ip6tables string, flags Flags) Settings {
	return Settings{
		Loaded: true, Flags: flags,
		Bridge: map[string]string{"bridge-nf-call-iptables": iptables, "bridge-nf-call-ip6tables": ip6tables, "bridge-nf-call-arptables": "0"},
	}
}

// TestRun: in a world on the real kernel, what is right and what is wrong by
// the settings.
func TestRun(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	const (
		works   = "answered answered answered answered answered answered answered answered answered answered"
		broken  = "answered answered wrong source wrong source answered answered answered answered answered answered"
		noHair  = "answered answered answered answered answered answered answered answered timeout timeout"
		missing = "absent absent absent absent absent absent absent absent absent absent"
	)
	off := with("1", "1", Flags{})
	off.NoIPv6 = "switched off"
	stiff := with("1", "1", Flags{})
	stiff.NoHairpin = true
	for _, tt := range []struct {
		name         string
		s            Settings
		ipv4, ipv6   string
		want         Verdict
		wantsHairpin bool
	}{
		{"keys 0", with("0", "0", Flags{}), broken, broken, Broken, false},
		{"keys 1", with("1", "1", Flags{}), works, works, Works, false},
		{"iptables only", with("1", "0", Flags{}), works, broken, Broken, false},
		{"flag for iptables only", with("0", "0", Flags{IPTables: true}), works, broken, Broken, false},
		{"flags", with("0", "0", Flags{IPTables: true, IP6Tables: true}), works, works, Works, false},
		{"no IPv6", off, works, missing, Works, false},
		{"ports without hairpin mode", stiff, noHair, noHair, Works, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Run(t.Context(), tt.s)
			if err != nil {
				t.Fatal(err)
			}
			got := map[Family]string{}
			for i := range r.Cells {
				c := &r.Cells[i]
				if got[c.Family] != "" {
					got[c.Family] += " "
				}
				got[c.Family] += string(c.Outcome)
				t.Logf("%s: %s (%v)", c, c.What(), c.Took)
			}
			if diff := cmp.Diff(map[Family]string{IPv4: tt.ipv4, IPv6: tt.ipv6}, got); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			if r.Verdict != tt.want || (r.Hairpin != "") != tt.wantsHairpin {
				t.Errorf("judged %+v, want %s", r.Judgement, tt.want)
			}
			t.Logf("%s, in %v", r.Meaning, r.Took)
		})
	}
}

// TestRead: the settings are those of the namespace of the caller.
func TestRead(t *testing.T) {
	ns := lab.NewNamespace(t)
	var got Settings
	var err error
	ns.Do(func() {
		if err = os.WriteFile(bridgeSysctls+"/bridge-nf-call-iptables", []byte("0\n"), 0); err == nil {
			got, err = Read()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{Loaded: true, Bridge: map[string]string{
		"bridge-nf-call-arptables": "1", "bridge-nf-call-ip6tables": "1", "bridge-nf-call-iptables": "0",
		"bridge-nf-filter-pppoe-tagged": "0", "bridge-nf-filter-vlan-tagged": "0", "bridge-nf-pass-vlan-input-dev": "0",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// TestLatePod: a pod that answers when the first questions have been given up
// is seen in the end, and works.
func TestLatePod(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	const late, tooLate = 2*patience + 100*time.Millisecond, 2*patience + lastPatience - 100*time.Millisecond
	for tries := 5; tries > 0; tries-- {
		cells, came := askLate(t, late)
		var silent []string
		for i := range cells {
			if c := &cells[i]; c.Outcome != Answered && c.Outcome != Absent {
				silent = append(silent, c.String()+": "+c.What())
			}
		}
		j := Judge(cells)
		if silent == nil && j.Verdict == Works && j.Hairpin == "" {
			return
		}
		if came < tooLate {
			t.Fatalf("the pod answers from %v on, and these are silent: %q; judged %+v", came, silent, j)
		}
	}
	t.Error("this machine stalls for too long to be late in time")
}

// askLate asks in a world one of whose pods answers after that time, or came,
// as it was.
func askLate(t *testing.T, after time.Duration) (cells []Cell, came time.Duration) {
	t.Helper()
	s := with("1", "1", Flags{})
	s.NoIPv6 = "not here"
	w, err := newWorld(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	stop, err := serve(t.Context(), w.families, w.client, w.server, w.remote)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	// Nobody is told where the pod is: what is sent to it waits.
	arp := func(on bool) error {
		return w.server.do(func() error {
			link, err := netlink.LinkByName(podDevice)
			if err != nil {
				return err
			}
			if on {
				return netlink.LinkSetARPOn(link)
			}
			return netlink.LinkSetARPOff(link)
		})
	}
	if err := arp(false); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	done := make(chan error, 1)
	time.AfterFunc(after, func() {
		err := arp(true)
		came = time.Since(began)
		done <- err
	})
	cells = w.ask(t.Context(), &s)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return cells, came
}

// TestAskedOnceMore is what stayed silent, and nothing else.
func TestAskedOnceMore(t *testing.T) {
	stiff := with("1", "0", Flags{})
	stiff.NoHairpin = true
	list := slices.Concat(
		cells(IPv4, Answered, TimedOut, Failed, Refused, TimedOut),
		cells(IPv6, Absent, WrongSource, Answered, Answered, TimedOut),
	)
	again := func(s *Settings) (asked []string) {
		for i := range list {
			if c := &list[i]; c.silent() && !s.forbids(c) {
				asked = append(asked, c.String())
			}
		}
		return asked
	}
	bridged, routed := "IPv4 UDP bridged, cluster IP 203.0.113.3:7", "IPv4 UDP routed, pod IP 198.51.100.2:7"
	itself, itself6 := "IPv4 UDP hairpin, cluster IP 203.0.113.1:7", "IPv6 UDP hairpin, cluster IP [2001:db8:0:3::1]:7"
	soft := with("1", "1", Flags{})
	flagged := with("0", "0", Flags{IP6Tables: true})
	flagged.NoHairpin = true
	absent := Settings{NoHairpin: true}
	for _, tt := range []struct {
		name string
		s    *Settings
		want []string
	}{
		{"hairpin mode", &soft, []string{bridged, routed, itself, itself6}},
		{"no hairpin mode, netfilter has bridged IPv4", &stiff, []string{bridged, routed, itself6}},
		{"no hairpin mode, netfilter has bridged IPv6 by a flag", &flagged, []string{bridged, routed, itself}},
		{"no hairpin mode, and no netfilter", &absent, []string{bridged, routed, itself, itself6}},
	} {
		if diff := cmp.Diff(tt.want, again(tt.s)); diff != "" {
			t.Errorf("%s: asked again (-want +got):\n%s", tt.name, diff)
		}
	}
}
