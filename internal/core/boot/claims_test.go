package boot_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
)

// TestCarriers: who carries the state over a reboot, without files of ours.
func TestCarriers(t *testing.T) {
	const builtin = "/lib/modules/6.1.0-1/modules.builtin"
	for name, tt := range map[string]struct {
		files   map[string]string
		cmdline string
		want    boot.Others
	}{
		"our own files":           {},
		"another file":            {files: map[string]string{"/etc/modules-load.d/k8s.conf": "br_netfilter\n", "/etc/modules-load.d/nfguard.conf": ""}, want: boot.Others{Module: "/etc/modules-load.d/k8s.conf:1"}},
		"the command line":        {cmdline: "modules_load=br_netfilter", want: boot.Others{Module: "the kernel's command line"}},
		"another word of it":      {cmdline: "quiet modules_load=overlay"},
		"the module is built in":  {files: map[string]string{builtin: "kernel/net/bridge/br_netfilter.ko\n", "/etc/modules-load.d/nfguard.conf": ""}, want: boot.Others{Module: "every installed kernel, which has it built in,"}},
		"the module is not there": {files: map[string]string{builtin: "kernel/net/bridge/bridge.ko\n", "/etc/modules-load.d/nfguard.conf": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			o := hostWith(t, tt.files)
			o.Cmdline = tt.cmdline
			r := boot.Forecast(o)
			if diff := cmp.Diff(tt.want, r.Others); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestModuleFindings: what is said of the module, and nothing else.
func TestModuleFindings(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"right": {},
		"a container": {files: map[string]string{"/run/.containerenv": "", "/lib/modules/6.1.0-1/modules.dep": "", "/lib/modules/6.1.0-1/kernel/net/bridge/br_netfilter.ko": ""}, want: []string{
			"br_netfilter is not loaded: this is a container (/run/.containerenv), and modules are the host's",
		}},
		"our file, edited": {files: map[string]string{"/etc/modules-load.d/nfguard.conf": strings.TrimSpace((&guard.Policy{}).ModulesLoadText()) + "\nbr_netfilter # for k8s\n"}, want: []string{
			"nothing loads br_netfilter at next boot: /etc/modules-load.d/nfguard.conf:3 has a comment after its name in the line, and a line is one name",
		}},
		"another's file": {files: map[string]string{"/etc/modules-load.d/k8s.conf": "br_netfilter # for k8s\n", "/etc/modules-load.d/nfguard.conf": ""}, want: []string{
			"nothing loads br_netfilter at next boot: /etc/modules-load.d/k8s.conf:1 has a comment after its name in the line, and a line is one name",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := hostWith(t, tt.files)
			if name == "a container" {
				write(t, o.Root, "/run/.containerenv", "x")
			}
			o.Keys = nil
			var got []string
			for _, f := range boot.Forecast(o).Findings {
				got = append(got, f.Sentence)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTooManyCommands: what was not read of them is said.
func TestTooManyCommands(t *testing.T) {
	const key = "net.bridge.bridge-nf-call-iptables"
	for name, tt := range map[string]struct {
		files int
		want  []string
	}{
		"few":  {files: 1},
		"many": {files: 12, want: []string{"commands that are run at boot: they are too many: the rest was not read"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := "#!/bin/sh\nsysctl -w " + key + "=1\n" + strings.Repeat("true\n", 10_000)
			files := map[string]string{}
			for i := range tt.files {
				files["/etc/NetworkManager/dispatcher.d/"+string(rune('a'+i))] = text
			}
			got := boot.Forecast(hostWith(t, files)).Unread
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestMasked: what does not happen where a service is masked.
func TestMasked(t *testing.T) {
	for name, tt := range map[string]struct {
		unit string
		want []string
	}{
		"neither":        {"x.service", nil},
		"modules-load":   {"systemd-modules-load.service", []string{"nothing reads /etc/modules-load.d at next boot: systemd-modules-load.service is masked by /etc/systemd/system/systemd-modules-load.service"}},
		"systemd-sysctl": {"systemd-sysctl.service", []string{"nothing reads /etc/sysctl.d at next boot: systemd-sysctl.service is masked by /etc/systemd/system/systemd-sysctl.service"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := hostWith(t, nil)
			link(t, o.Root, "/etc/systemd/system/"+tt.unit, "/dev/null")
			o.Keys = nil
			var got []string
			for _, f := range boot.Forecast(o).Findings {
				got = append(got, f.Sentence)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTmpfilesMasked: nothing carries tmpfiles.d out where its service is masked.
func TestTmpfilesMasked(t *testing.T) {
	const key = "net.bridge.bridge-nf-call-iptables"
	for unit, want := range map[string][]string{
		"x.service":                      {key + " will be 0 once systemd-tmpfiles runs: /etc/tmpfiles.d/x.conf:1 sets it"},
		"systemd-tmpfiles-setup.service": nil,
	} {
		t.Run(unit, func(t *testing.T) {
			o := hostWith(t, map[string]string{"/etc/tmpfiles.d/x.conf": "w /proc/sys/net/bridge/bridge-nf-call-iptables - - - - 0\n"})
			link(t, o.Root, "/etc/systemd/system/"+unit, "/dev/null")
			var got []string
			for _, f := range boot.Forecast(o).Findings {
				got = append(got, f.Sentence)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
