package probe

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
			if r.Took > time.Second {
				t.Errorf("took %v", r.Took)
			}
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
