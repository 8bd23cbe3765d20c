package boot_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
)

// TestNearMisses names the line that is meant to do it, and why it does not.
// The programs are asked in TestModulesLoad and TestSysctlPrograms.
func TestNearMisses(t *testing.T) {
	const (
		key  = "net.bridge.bridge-nf-call-iptables"
		load = "nothing loads br_netfilter at next boot: "
		fwd  = "net.ipv4.ip_forward will not be set to 1 at next boot: "
	)
	nothing := map[string]string{"/etc/modules-load.d/nfguard.conf": "", "/etc/sysctl.d/99-zz-nfguard.conf": ""}
	tests := []struct {
		name     string
		files    map[string]string
		link     [2]string
		key      guard.Key // "": only the module
		sentence string
		next     string
		note     bool
	}{
		{name: "a name without .conf", files: map[string]string{"/etc/modules-load.d/k8s": "overlay\nbr_netfilter\n"}, sentence: load + "/etc/modules-load.d/k8s:2 is not read: its name does not end in .conf", next: "rename it to /etc/modules-load.d/k8s.conf"},
		{name: "put aside", files: map[string]string{"/etc/modules-load.d/k8s.conf.bak": "br_netfilter\n"}, sentence: load + "/etc/modules-load.d/k8s.conf.bak:1 is not read: its name does not end in .conf", next: "rename it to /etc/modules-load.d/k8s.conf"},
		{name: "another ending", files: map[string]string{"/usr/lib/modules-load.d/k8s.config": "br_netfilter\n"}, sentence: load + "/usr/lib/modules-load.d/k8s.config:1 is not read: its name does not end in .conf", next: "rename it to /etc/modules-load.d/k8s.conf"},
		{name: "hidden by the same name", files: map[string]string{"/usr/lib/modules-load.d/k8s.conf": "br_netfilter\n", "/etc/modules-load.d/k8s.conf": "overlay\n"}, sentence: load + "/usr/lib/modules-load.d/k8s.conf:1 is not read: /etc/modules-load.d/k8s.conf has the same name and hides it", next: "copy that line to /etc/modules-load.d/k8s.conf"},
		{name: "the second name of a line", files: map[string]string{"/etc/modules-load.d/k8s.conf": "# x\noverlay br_netfilter\n"}, sentence: load + "/etc/modules-load.d/k8s.conf:2 has several names in a line, and a line is one name", next: "write each name on a line of its own"},
		{name: "several names and a comma", files: map[string]string{"/etc/modules-load.d/k8s.conf": "br-netfilter, overlay # for k8s\n"}, sentence: load + "/etc/modules-load.d/k8s.conf:1 has several names in a line, and a line is one name", next: "write each name on a line of its own"},
		{name: "a comment after the name", files: map[string]string{"/etc/modules-load.d/k8s.conf": "br_netfilter # overlay\n"}, sentence: load + "/etc/modules-load.d/k8s.conf:1 has a comment after its name in the line, and a line is one name", next: "move the comment to a line of its own"},
		{name: "a byte order mark", files: map[string]string{"/etc/modules-load.d/k8s.conf": "\ufeffbr_netfilter\r\n"}, sentence: load + "/etc/modules-load.d/k8s.conf:1 begins with a byte order mark, which counts as a part of the name", next: "save that file without a byte order mark"},
		{name: "/etc/modules without a link to it", files: map[string]string{"/etc/modules": "# x\nbr_netfilter\n"}, sentence: load + "/etc/modules:2 is not read: there is no link to it in modules-load.d", next: "move that line to a file in /etc/modules-load.d"},
		{name: "another module's comment", files: map[string]string{"/etc/modules-load.d/k8s.conf": "overlay # not br_netfilter\n"}, sentence: load + "no file in modules-load.d names it", next: "run nfguard apply, which writes /etc/modules-load.d/nfguard.conf"},
		{name: "a command", files: map[string]string{"/etc/modules-load.d/k8s.conf": "modprobe br_netfilter\n"}, sentence: load + "/etc/modules-load.d/k8s.conf:1 is a command, and what is read is the name of a module", next: "write the name br_netfilter there"},
		{name: "a file's name", files: map[string]string{"/etc/modules-load.d/k8s.conf": "overlay\nbr_netfilter.ko\n"}, sentence: load + "/etc/modules-load.d/k8s.conf:2 has the name of a file, and what is read is the name of a module", next: "write the name br_netfilter there"},
		{name: "a hyphen, which kmod takes", files: map[string]string{"/etc/modules-load.d/k8s.conf": "br-netfilter\n"}},
		{name: "a letter less", files: map[string]string{"/etc/modules-load.d/k8s.conf": "br_netfiler\n"}, sentence: load + "/etc/modules-load.d/k8s.conf:1 names br_netfiler, which is no module", next: "write the name br_netfilter there"},
		{name: "another name for it", files: map[string]string{"/etc/modules-load.d/k8s.conf": "bridge-netfilter\n"}, sentence: load + "/etc/modules-load.d/k8s.conf:1 names bridge_netfilter, which is no module", next: "write the name br_netfilter there"},
		{name: "another module", files: map[string]string{"/etc/modules-load.d/k8s.conf": "nf_conntrack\nnetfilter\n"}, sentence: load + "no file in modules-load.d names it", next: "run nfguard apply, which writes /etc/modules-load.d/nfguard.conf"},
		{name: "CRLF", files: map[string]string{"/etc/modules-load.d/k8s.conf": "overlay\r\nbr_netfilter\r\n"}},

		{name: "sysctl.conf that nobody links", key: "net.ipv4.ip_forward", files: map[string]string{"/etc/sysctl.conf": "# x\nnet.ipv4.ip_forward=1\n"}, sentence: fwd + "/etc/sysctl.conf:2 is not read at boot: there is no link to it in sysctl.d", next: "move that line to a file in /etc/sysctl.d"},
		{name: "sysctl.conf that is linked", key: "net.ipv4.ip_forward", files: map[string]string{"/etc/sysctl.conf": "net.ipv4.ip_forward=1\n"}, link: [2]string{"/etc/sysctl.d/99-sysctl.conf", "../sysctl.conf"}},
		{name: "sysctl.conf, and the kernel's own value is right", key: key, files: map[string]string{"/etc/sysctl.conf": key + " = 1\n"}, sentence: key + " is as the kernel has it at next boot: /etc/sysctl.conf:1 is not read at boot: there is no link to it in sysctl.d", next: "move that line to a file in /etc/sysctl.d", note: true},
		{name: "a sysctl file without .conf", key: "net.ipv4.ip_forward", files: map[string]string{"/etc/sysctl.d/k8s": "net/ipv4/ip_forward = 1\n"}, sentence: fwd + "/etc/sysctl.d/k8s:1 is not read: its name does not end in .conf", next: "rename it to /etc/sysctl.d/k8s.conf"},
		{name: "no equals sign", key: "net.ipv4.ip_forward", files: map[string]string{"/etc/sysctl.d/k8s.conf": "net.ipv4.ip_forward 1\n"}, sentence: fwd + `/etc/sysctl.d/k8s.conf:1 has no "=" between the name and the value`, next: "write net.ipv4.ip_forward = 1 there"},
		{name: "a colon", key: "net.ipv4.ip_forward", files: map[string]string{"/etc/sysctl.d/k8s.conf": "net.ipv4.ip_forward: 1\n"}, sentence: fwd + `/etc/sysctl.d/k8s.conf:1 has no "=" between the name and the value`, next: "write net.ipv4.ip_forward = 1 there"},
		{name: "a value that the kernel refuses", key: "net.ipv4.ip_forward", files: map[string]string{"/etc/sysctl.d/k8s.conf": "net.ipv4.ip_forward = yes\n"}, sentence: fwd + `/etc/sysctl.d/k8s.conf:1 sets it to "yes", which the kernel refuses`, next: "write net.ipv4.ip_forward = 1 there"},
		{name: "a letter less in a key", key: "net.ipv4.ip_forward", files: map[string]string{"/etc/sysctl.d/k8s.conf": "net.ipv4.ip_forwrd = 1\n"}, sentence: fwd + "/etc/sysctl.d/k8s.conf:1 sets net.ipv4.ip_forwrd, which is no sysctl", next: "write net.ipv4.ip_forward = 1 there"},
		{name: "a letter less in a bridge's key", key: key, note: true, files: map[string]string{"/etc/sysctl.d/k8s.conf": "net.bridge.bridge-nf-call-iptable = 1\n"}, sentence: key + " is as the kernel has it at next boot: /etc/sysctl.d/k8s.conf:1 sets net.bridge.bridge-nf-call-iptable, which is no sysctl", next: "write " + key + " = 1 there"},
		{name: "a part less in a bridge's key", key: key, note: true, files: map[string]string{"/etc/sysctl.d/k8s.conf": "net.bridge-nf-call-iptables = 1\n"}, sentence: key + " is as the kernel has it at next boot: /etc/sysctl.d/k8s.conf:1 sets net.bridge-nf-call-iptables, which is no sysctl", next: "write " + key + " = 1 there"},
		{name: "a colon in a bridge's key", key: key, note: true, files: map[string]string{"/etc/sysctl.d/k8s.conf": "net.bridge.bridge-nf-call-iptables : 1\n"}, sentence: key + " is as the kernel has it at next boot: /etc/sysctl.d/k8s.conf:1 has no \"=\" between the name and the value", next: "write " + key + " = 1 there"},
		{name: "another of the bridge's keys", key: key, files: map[string]string{"/etc/sysctl.d/k8s.conf": "net.bridge.bridge-nf-call-ip6tables = 1\n"}},
		{name: "a byte order mark before a sysctl", key: "net.ipv4.ip_forward", files: map[string]string{"/etc/sysctl.d/k8s.conf": "\ufeffnet.ipv4.ip_forward = 1\n"}, sentence: fwd + "/etc/sysctl.d/k8s.conf:1 begins with a byte order mark, which counts as a part of the name", next: "save that file without a byte order mark"},
		{name: "CRLF in a sysctl file", key: "net.ipv4.ip_forward", files: map[string]string{"/etc/sysctl.d/k8s.conf": "net.ipv4.ip_forward = 1\r\n"}},
		{name: "a file that is not read says otherwise", key: "net.ipv4.ip_forward", files: map[string]string{"/etc/sysctl.d/k8s": "net.ipv4.ip_forward = 0\n"}, sentence: fwd + "no file in sysctl.d does", next: "run nfguard apply, which writes /etc/sysctl.d/99-zz-nfguard.conf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{}
			for name, text := range nothing {
				files[name] = text
			}
			for name, text := range tt.files {
				files[name] = text
			}
			if tt.key != "" {
				files["/etc/modules-load.d/nfguard.conf"] = "br_netfilter\n"
			}
			o := hostWith(t, files)
			o.Keys = nil
			if tt.key != "" {
				o.Keys = []guard.Setting{{Key: tt.key, Value: "1"}}
			}
			if tt.link[0] != "" {
				link(t, o.Root, tt.link[0], tt.link[1])
			}
			want, got := "", ""
			if tt.sentence != "" {
				want = fmt.Sprintf("%s\n  breaks %v; next: %s\n", tt.sentence, !tt.note, tt.next)
			}
			for _, f := range boot.Forecast(o).Findings {
				got += fmt.Sprintf("%s\n  breaks %v; next: %s\n", f.Sentence, f.Breaks, f.Next)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOwnPaths: where nobody reads what we write, or somebody else's file stands
// there, no step leads to apply.
func TestOwnPaths(t *testing.T) {
	both := func(o *boot.Options, module, sysctl string) { o.ModulesLoad, o.SysctlD = module, sysctl }
	tests := []struct {
		name  string
		set   func(*boot.Options)
		files map[string]string
		want  []string
	}{
		{name: "outside of the directories", set: func(o *boot.Options) { both(o, "/etc/m.conf", "/etc/s.conf") }, want: []string{
			"net.ipv4.ip_forward will not be set to 1 at next boot: systemd-sysctl does not read /etc/s.conf: name a file that is read: sysctl = \"/etc/sysctl.d/99-zz-nfguard.conf\" under [persist]",
			"nothing loads br_netfilter at next boot: systemd-modules-load does not read /etc/m.conf: name a file that is read: modules_load = \"/etc/modules-load.d/nfguard.conf\" under [persist]",
		}},
		{name: "there already, outside of the directories", set: func(o *boot.Options) { both(o, "/etc/m.conf", "/etc/s.conf") }, files: map[string]string{
			"/etc/m.conf": "# Written by nfguard\nbr_netfilter\n", "/etc/s.conf": "# Written by nfguard\nnet.ipv4.ip_forward = 1\n",
		}, want: []string{
			"net.ipv4.ip_forward will not be set to 1 at next boot: systemd-sysctl does not read /etc/s.conf: name a file that is read: sysctl = \"/etc/sysctl.d/99-zz-nfguard.conf\" under [persist]",
			"nothing loads br_netfilter at next boot: systemd-modules-load does not read /etc/m.conf: name a file that is read: modules_load = \"/etc/modules-load.d/nfguard.conf\" under [persist]",
		}},
		{name: "somebody else's", files: map[string]string{
			"/etc/modules-load.d/nfguard.conf": "overlay\n", "/etc/sysctl.d/99-zz-nfguard.conf": "x.y = 1\n",
		}, want: []string{
			"net.ipv4.ip_forward will not be set to 1 at next boot: /etc/sysctl.d/99-zz-nfguard.conf is somebody else's, and does not set it: move that file away if nobody needs it there, or name another one under [persist]",
			"nothing loads br_netfilter at next boot: /etc/modules-load.d/nfguard.conf is somebody else's, and does not name it: move that file away if nobody needs it there, or name another one under [persist]",
		}},
		{name: "none are kept", set: func(o *boot.Options) { both(o, "", "") }, files: map[string]string{
			"/etc/modules-load.d/nfguard.conf": "", "/etc/sysctl.d/99-zz-nfguard.conf": "",
		}, want: []string{
			"net.ipv4.ip_forward will not be set to 1 at next boot: no file in sysctl.d does: set it in a file in /etc/sysctl.d",
			"nothing loads br_netfilter at next boot: no file in modules-load.d names it: write its name to a file in /etc/modules-load.d",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{}
			if tt.set != nil {
				files = map[string]string{"/etc/modules-load.d/nfguard.conf": "", "/etc/sysctl.d/99-zz-nfguard.conf": ""}
			}
			for name, text := range tt.files {
				files[name] = text
			}
			o := hostWith(t, files)
			o.Keys = []guard.Setting{{Key: "net.ipv4.ip_forward", Value: "1"}}
			if tt.set != nil {
				tt.set(&o)
			}
			var got []string
			for _, f := range boot.Forecast(o).Findings {
				got = append(got, f.Sentence+": "+f.Next)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
