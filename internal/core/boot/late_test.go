package boot_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
)

// A key comes with the value 1 when the module is loaded; the 0 of sysctl.d is not heard
// where that is later, unless a rule of udev, as the packaged one, has it read again.
func TestLateLoad(t *testing.T) {
	packaged, err := os.ReadFile("../../../systemd/nfguard.rules")
	if err != nil {
		t.Fatal(err)
	}
	const (
		key    = "net.bridge.bridge-nf-call-iptables"
		dropin = "/etc/sysctl.d/99-zz-nfguard.conf"
		rule   = "/usr/lib/udev/rules.d/99-nfguard.rules"
		none   = "/etc/modules-load.d/nfguard.conf"
		late   = key + " will be 1 when something loads br_netfilter: " + dropin + ":2 was read before that, and no rule of udev has it read again"
		loads  = "nothing loads br_netfilter at next boot: no file in modules-load.d names it"
	)
	zero := "# Written by nfguard\n" + key + " = 0\n"
	match := `ACTION=="add", SUBSYSTEM=="module", KERNEL=="br_netfilter", RUN+="/usr/lib/systemd/systemd-sysctl `
	for _, tt := range []struct {
		name     string
		files    map[string]string
		unneeded bool
		want     []string
	}{
		{name: "loaded before sysctl.d is read"},
		{name: "not loaded by any file", files: map[string]string{none: ""}, want: []string{late, loads}},
		{name: "not loaded by any file, with the packaged rule", files: map[string]string{none: "", rule: string(packaged)}, want: []string{loads}},
		{name: "not needed", files: map[string]string{none: ""}, unneeded: true, want: []string{late}},
		{name: "not needed, with the packaged rule", files: map[string]string{none: "", rule: string(packaged)}, unneeded: true},
		{name: "the packaged rule is hidden", files: map[string]string{none: "", rule: string(packaged), "/etc/udev/rules.d/99-nfguard.rules": "#\n"}, unneeded: true, want: []string{late}},
		{name: "a rule without a prefix", files: map[string]string{none: "", rule: match + "\"\n"}, unneeded: true},
		{name: "a rule with the prefix in a word of its own", files: map[string]string{none: "", rule: match + "--prefix net.bridge\"\n"}, unneeded: true},
		{name: "a rule with another prefix", files: map[string]string{none: "", rule: match + "--prefix=/net/ipv4\"\n"}, unneeded: true, want: []string{late}},
		{name: "a rule that may not be carried out", files: map[string]string{none: "", rule: `TAG=="x", ` + match + "\"\n"}, unneeded: true, want: []string{late}},
		{name: "the packaged rule, and the program it looks for", files: map[string]string{none: "", rule: string(packaged), "/usr/lib/systemd/systemd-sysctl": "x"}, unneeded: true},
		{name: "a rule that looks for a file", files: map[string]string{none: "", rule: `TEST=="/etc/x", ` + match + "\"\n", "/etc/x": "x"}, unneeded: true},
		{name: "a rule that looks for a file that is not there", files: map[string]string{none: "", rule: `TEST=="/etc/x", ` + match + "\"\n"}, unneeded: true, want: []string{late}},
		{name: "a rule that has a file not be there", files: map[string]string{none: "", rule: `TEST!="/etc/x", ` + match + "\"\n", "/etc/x": "x"}, unneeded: true, want: []string{late}},
		{name: "a rule that looks for a file that comes and goes", files: map[string]string{none: "", rule: `TEST!="/run/x", ` + match + "\"\n"}, unneeded: true, want: []string{late}},
		{name: "a rule that looks for a file of its device", files: map[string]string{none: "", rule: `TEST!="x", ` + match + "\"\n"}, unneeded: true, want: []string{late}},
		{name: "a rule that looks for a program", files: map[string]string{none: "", rule: `TEST{0111}=="/etc/x", ` + match + "\"\n", "/etc/x": "x"}, unneeded: true, want: []string{late}},
		{name: "a rule for another device", files: map[string]string{none: "", rule: "ACTION==\"add\", SUBSYSTEM==\"net\", RUN+=\"/usr/lib/systemd/systemd-sysctl\"\n"}, unneeded: true, want: []string{late}},
		{name: "a blacklist", files: map[string]string{"/etc/modprobe.d/x.conf": "blacklist br_netfilter\n"}, want: []string{
			late, "br_netfilter will not be loaded by systemd-modules-load at next boot: /etc/modprobe.d/x.conf:1 forbids it: blacklist br_netfilter; a plain modprobe would load it",
		}},
		{name: "not needed, and nothing reads sysctl.d", files: map[string]string{none: "", rule: string(packaged), "/etc/systemd/system/systemd-sysctl.service": "-"}, unneeded: true, want: []string{
			"nothing reads /etc/sysctl.d at next boot: systemd-sysctl.service is masked by /etc/systemd/system/systemd-sysctl.service",
		}},
		{name: "set by others, after it", files: map[string]string{
			"/etc/udev/rules.d/x.rules": `ACTION=="add", SUBSYSTEM=="module", KERNEL=="br_netfilter", RUN+="/sbin/sysctl -w ` + key + "=1\"\n",
		}, want: []string{key + " will be 1 once br_netfilter is loaded: /etc/udev/rules.d/x.rules:1 runs /sbin/sysctl -w " + key + "=1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := hostWith(t, tt.files)
			write(t, o.Root, dropin, zero)
			if name := "/etc/systemd/system/systemd-sysctl.service"; tt.files[name] != "" {
				os.Remove(o.Root + name)
				link(t, o.Root, name, "/dev/null")
			}
			o.Keys, o.Unneeded = []guard.Setting{{Key: guard.IPTables, Value: "0"}}, tt.unneeded
			r := boot.Forecast(o)
			var got []string
			for _, f := range r.Findings {
				got = append(got, f.Sentence)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if right := len(tt.want) == 0 || tt.want[0][:3] != "net"; r.Keys[0].Right != right {
				t.Errorf("the key is right at next boot: %v", r.Keys[0].Right)
			}
		})
	}
}
