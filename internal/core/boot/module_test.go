package boot_test

import (
	"bytes"
	gocmp "cmp"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nfguard/nfguard/internal/core/boot"
)

// TestVerdict tells apart why the module is not there, on a running kernel.
func TestVerdict(t *testing.T) {
	const (
		dir = "/lib/modules/6.1.0-1"
		ko  = dir + "/kernel/net/bridge/br_netfilter.ko"
		dep = "kernel/net/bridge/br_netfilter.ko.xz: kernel/net/bridge/bridge.ko.xz\n"
	)
	installed := map[string]string{dir + "/modules.dep": dep, ko + ".xz": "", dir + "/kernel/net/bridge/bridge.ko.xz": ""}
	with := func(base map[string]string, more ...string) map[string]string {
		all := make(map[string]string)
		for name, text := range base {
			all[name] = text
		}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	other := func(release string) map[string]string {
		dir := "/lib/modules/" + release
		return map[string]string{dir + "/modules.dep": dep, dir + "/kernel/net/bridge/br_netfilter.ko.xz": "", dir + "/kernel/net/bridge/bridge.ko.xz": "", dir + "/vmlinuz": ""}
	}
	newer, older := other("6.1.0-10"), other("6.0.9-9")
	tests := []struct {
		name    string
		files   map[string]string
		cmdline string
		loaded  bool
		want    boot.Module
	}{
		{name: "loadable", files: installed, want: boot.Module{State: boot.Loadable}},
		{name: "loaded", files: installed, loaded: true, want: boot.Module{State: boot.Loaded}},
		{name: "loaded, and its files are gone", loaded: true, want: boot.Module{State: boot.Loaded}},
		{
			name: "built in", files: map[string]string{dir + "/modules.builtin": "kernel/net/bridge/bridge.ko\nkernel/net/bridge/br_netfilter.ko\n"},
			loaded: true, want: boot.Module{State: boot.BuiltIn},
		},
		{name: "built in, says the configuration", files: map[string]string{"/boot/config-6.1.0-1": "CONFIG_NET=y\nCONFIG_BRIDGE_NETFILTER=y\n"}, want: boot.Module{State: boot.BuiltIn}},
		{name: "forbidden", files: with(installed, "/etc/modprobe.d/x.conf", "\nblacklist br_netfilter\n"), want: boot.Module{
			State: boot.Forbidden, Place: boot.Place{File: "/etc/modprobe.d/x.conf", Line: 2},
			Reason: "/etc/modprobe.d/x.conf:2 forbids it: blacklist br_netfilter", Next: "remove that line",
		}},
		{name: "forbidden by the kernel, what it needs", files: installed, cmdline: "module_blacklist=foo,bridge", want: boot.Module{
			State: boot.Forbidden, Place: boot.Place{File: "the kernel's command line"},
			Reason: "the kernel's command line forbids it: module_blacklist=foo,bridge", Next: "remove it from the boot loader's configuration",
		}},
		{name: "the kernel takes no dash for a dash", files: installed, cmdline: "module_blacklist=br-netfilter", want: boot.Module{State: boot.Loadable}},
		{name: "missing", files: map[string]string{dir + "/modules.dep": "kernel/x.ko: kernel/net/bridge/br_netfilter.ko\n", "/etc/os-release": "ID=debian\n"}, want: boot.Module{
			State: boot.Missing, Reason: "it is not in " + dir, Next: "install the package that owns this kernel, or its modules package",
		}},
		{name: "missing, what it needs", files: map[string]string{dir + "/modules.dep": dep, ko + ".xz": "", "/etc/os-release": "ID=ubuntu\nID_LIKE=debian\n"}, want: boot.Module{
			State: boot.Missing, Reason: dir + "/kernel/net/bridge/bridge.ko.xz is not there",
			Next: "install the package that owns this kernel, or its modules package",
		}},
		{name: "missing, and a newer kernel has it", files: with(newer, dir+"/modules.dep", ""), want: boot.Module{
			State: boot.Missing, Reason: "it is not in " + dir,
			Next: "reboot into kernel 6.1.0-10, which has it, or install the package that owns this kernel, or its modules package",
		}},
		{name: "missing, and an older kernel has it", files: with(older, dir+"/modules.dep", ""), want: boot.Module{
			State: boot.Missing, Reason: "it is not in " + dir,
			Next: "install the package that owns this kernel, or its modules package, or boot kernel 6.0.9-9, which has it",
		}},
		{name: "not in modules.dep", files: map[string]string{dir + "/modules.dep": "", dir + "/weak-updates/br-netfilter.ko.zst": ""}, want: boot.Module{
			State: boot.Unindexed, Reason: dir + "/weak-updates/br-netfilter.ko.zst is there, but not in modules.dep", Next: "run depmod -a 6.1.0-1",
		}},
		{name: "removed by an upgrade", files: newer, want: boot.Module{
			State: boot.Removed, Reason: dir + " is gone, probably by a kernel upgrade", Next: "reboot into kernel 6.1.0-10, which has it",
		}},
		{name: "removed by an upgrade to a kernel that lacks it", files: map[string]string{"/lib/modules/6.1.0-2-amd64/modules.dep": ""}, want: boot.Module{
			State: boot.Removed, Reason: dir + " is gone, probably by a kernel upgrade",
			Next: "for kernel 6.1.0-2-amd64, which is installed, install linux-image-6.1.0-2-amd64; then reboot into it",
		}},
		{name: "removed, and no other kernel is there", want: boot.Module{
			State: boot.Removed, Reason: dir + " is not there, and no other kernel is installed",
			Next: "install the package that owns this kernel, or its modules package",
		}},
		{name: "removed, and rpm knows no owner of what is not there", files: map[string]string{"/var/lib/rpm/Packages": ""}, want: boot.Module{
			State: boot.Removed, Reason: dir + " is not there, and no other kernel is installed",
			Next: "install the package that owns this kernel, or its modules package",
		}},
		{name: "not built", files: map[string]string{dir + "/modules.dep": "", "/boot/config-6.1.0-1": "CONFIG_NET=y\n# CONFIG_BRIDGE_NETFILTER is not set\n"}, want: boot.Module{
			State: boot.Unbuilt, Reason: "that kernel was built without CONFIG_BRIDGE_NETFILTER", Next: "install a kernel that has it, and boot that",
		}},
		{name: "not built, says the running kernel", files: map[string]string{"/proc/config.gz": zipped("CONFIG_NET=y\n# CONFIG_BRIDGE is not set\n")}, want: boot.Module{
			State: boot.Unbuilt, Reason: "that kernel was built without CONFIG_BRIDGE_NETFILTER", Next: "install a kernel that has it, and boot that",
		}},
		{name: "not built, and a newer kernel has it", files: with(newer, dir+"/modules.dep", "", "/boot/config-6.1.0-1", "CONFIG_NET=y\n"), want: boot.Module{
			State: boot.Unbuilt, Reason: "that kernel was built without CONFIG_BRIDGE_NETFILTER",
			Next: "reboot into kernel 6.1.0-10, which has it, or install a kernel that has it, and boot that",
		}},
		{name: "unsigned", files: map[string]string{dir + "/modules.dep": "kernel/net/bridge/br_netfilter.ko:\n", ko: "\x7fELF and so on, for a while"}, cmdline: "module.sig_enforce=1", want: boot.Module{
			State: boot.Unsigned, Reason: ko + " has no signature, and the kernel's command line asks for one", Next: "sign it, or install the distribution's module",
		}},
		{name: "signed", files: map[string]string{dir + "/modules.dep": "kernel/net/bridge/br_netfilter.ko:\n", ko: "\x7fELF~Module signature appended~\n"}, cmdline: "lockdown=integrity", want: boot.Module{State: boot.Loadable}},
		{name: "a container", files: map[string]string{"/run/.containerenv": ""}, want: boot.Module{
			State: boot.Container, In: "/run/.containerenv",
			Reason: "this is a container (/run/.containerenv), and modules are the host's", Next: "load it on the host: modprobe br_netfilter",
		}},
		{name: "a pod, which containerd marks with nothing", files: map[string]string{"/var/run/secrets/kubernetes.io/serviceaccount/token": "x"}, want: boot.Module{
			State: boot.Container, In: "/var/run/secrets/kubernetes.io",
			Reason: "this is a container (/var/run/secrets/kubernetes.io), and modules are the host's", Next: "load it on the host: modprobe br_netfilter",
		}},
		{name: "a container of a manager that keeps to systemd's interface", files: map[string]string{"/run/host/container-manager": "lxc\n"}, want: boot.Module{
			State: boot.Container, In: "/run/host/container-manager",
			Reason: "this is a container (/run/host/container-manager), and modules are the host's", Next: "load it on the host: modprobe br_netfilter",
		}},
		{name: "a container with the host's modules", files: with(installed, "/run/systemd/container", "docker\n"), want: boot.Module{State: boot.Loadable, In: "/run/systemd/container"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				write(t, root, name, text)
			}
			tt.want.Name = "br_netfilter"
			o := boot.Options{Root: root, Release: "6.1.0-1", Cmdline: tt.cmdline, Loaded: tt.loaded}
			if diff := cmp.Diff(tt.want, boot.Running(o)); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

// TestNextBoot looks at single findings, on a host that is otherwise right.
func TestNextBoot(t *testing.T) {
	const ours = "net.bridge.bridge-nf-call-iptables=1\nnet.bridge.bridge-nf-call-ip6tables=1\nnet.bridge.bridge-nf-call-arptables=1\n"
	tests := []struct {
		name    string
		files   map[string]string
		links   map[string]string
		remove  []string
		release string
		cmdline string
		want    []boot.Finding
	}{
		{name: "nothing"},
		{name: "a kernel without modules", files: map[string]string{
			"/etc/modules-load.d/nfguard.conf": "", "/proc/config.gz": zipped("CONFIG_NET=y\nCONFIG_BRIDGE_NETFILTER=y\n"),
		}, release: "6.1.0-x", remove: []string{"/lib/modules", "/boot"}},
		{name: "loaded by the command line", files: map[string]string{"/etc/modules-load.d/nfguard.conf": ""}, cmdline: "modules-load=x,br-netfilter"},
		{name: "a comment in the line", files: map[string]string{"/etc/modules-load.d/nfguard.conf": "; x\nbr_netfilter # for kube-proxy\n"}, want: []boot.Finding{{
			Subject: "br_netfilter", Place: boot.Place{File: "/etc/modules-load.d/nfguard.conf", Line: 2}, Breaks: true,
			Sentence: "nothing loads br_netfilter at next boot: /etc/modules-load.d/nfguard.conf:2 has a comment after its name in the line, and a line is one name",
			Next:     "move the comment to a line of its own",
		}}},
		{name: "an install command", files: map[string]string{"/etc/modprobe.d/x.conf": "install br_netfilter /usr/local/bin/load $CMDLINE_OPTS\n"}, want: []boot.Finding{{
			Subject: "br_netfilter", Place: boot.Place{File: "/etc/modprobe.d/x.conf", Line: 1},
			Sentence: "br_netfilter is loaded at next boot if the command of /etc/modprobe.d/x.conf:1 loads it: install br_netfilter /usr/local/bin/load $CMDLINE_OPTS",
			Next:     "see whether this command loads it, and remove that line where it does not",
		}}},
		{name: "no modules at all", cmdline: "quiet nomodule", want: []boot.Finding{{
			Subject: "br_netfilter", Place: boot.Place{File: "the kernel's command line"}, Breaks: true,
			Sentence: "br_netfilter will not be loaded at next boot: the kernel's command line switches off the loading of modules",
			Next:     "remove it from the boot loader's configuration",
		}}},
		{name: "masked", cmdline: "systemd.mask=systemd-sysctl.service", links: map[string]string{"/etc/systemd/system/systemd-modules-load.service": "/dev/null"}, want: []boot.Finding{
			{
				Subject: "systemd-modules-load.service", Place: boot.Place{File: "/etc/systemd/system/systemd-modules-load.service"}, Breaks: true,
				Sentence: "nothing reads /etc/modules-load.d at next boot: systemd-modules-load.service is masked by /etc/systemd/system/systemd-modules-load.service",
				Next:     "systemctl unmask systemd-modules-load.service",
			},
			{
				Subject: "systemd-sysctl.service", Place: boot.Place{File: "the kernel's command line"}, Breaks: true,
				Sentence: "nothing reads /etc/sysctl.d at next boot: systemd-sysctl.service is masked by the kernel's command line",
				Next:     "remove systemd.mask=systemd-sysctl.service from the boot loader's configuration",
			},
		}},
		{name: "too early", cmdline: "sysctl/net/bridge/bridge-nf-call-iptables=0", want: []boot.Finding{{
			Subject: "net.bridge.bridge-nf-call-iptables", Place: boot.Place{File: "the kernel's command line"},
			Sentence: "sysctl.net.bridge.bridge-nf-call-iptables on the kernel's command line will do nothing: the key comes later, with br_netfilter",
			Next:     "set it in a file in /etc/sysctl.d instead",
		}}},
		{name: "built in, and our file gone", cmdline: "sysctl.net.bridge.bridge-nf-call-iptables=0", files: map[string]string{
			"/etc/sysctl.d/99-zz-nfguard.conf": "", "/lib/modules/6.1.0-1/modules.builtin": "kernel/net/bridge/br_netfilter.ko\n",
		}, want: []boot.Finding{{
			Subject: "net.bridge.bridge-nf-call-iptables", Place: boot.Place{File: "the kernel's command line"}, Breaks: true,
			Sentence: "net.bridge.bridge-nf-call-iptables will be 0 at next boot: the kernel's command line says so",
			Next:     "remove it from the boot loader's configuration",
		}}},
		{name: "without IPv6", cmdline: "ipv6.disable=1", want: []boot.Finding{{
			Subject: "net.bridge.bridge-nf-call-ip6tables", Place: boot.Place{File: "/etc/sysctl.d/99-zz-nfguard.conf", Line: 2},
			Sentence: "with ipv6.disable=1 every bridged IPv6 frame will be dropped: /etc/sysctl.d/99-zz-nfguard.conf:2 sets net.bridge.bridge-nf-call-ip6tables to 1",
			Next:     "remove that line, or ipv6.disable=1",
		}}},
		{name: "no name can win", files: map[string]string{"/etc/sysctl.d/~~.conf": "net.bridge.bridge-nf-call-iptables=0\n"}, want: []boot.Finding{{
			Subject: "net.bridge.bridge-nf-call-iptables", Place: boot.Place{File: "/etc/sysctl.d/~~.conf", Line: 1}, Breaks: true,
			Sentence: "net.bridge.bridge-nf-call-iptables will be 0 at next boot and after `sysctl --system`: /etc/sysctl.d/~~.conf:1 is read after /etc/sysctl.d/99-zz-nfguard.conf",
			Next:     "remove that line: no name would have our file read after it",
		}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range map[string]string{
				"/etc/sysctl.d/99-zz-nfguard.conf": ours, "/etc/modules-load.d/nfguard.conf": "br_netfilter\n",
				"/lib/modules/6.1.0-1/modules.dep":                       "kernel/net/bridge/br_netfilter.ko:\n",
				"/lib/modules/6.1.0-1/kernel/net/bridge/br_netfilter.ko": "", "/boot/vmlinuz-6.1.0-1": "",
			} {
				write(t, root, name, text)
			}
			for _, name := range tt.remove {
				if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range tt.files {
				write(t, root, name, text)
			}
			for name, target := range tt.links {
				link(t, root, name, target)
			}
			r := boot.Forecast(boot.Options{
				Root: root, Release: gocmp.Or(tt.release, "6.1.0-1"), Cmdline: tt.cmdline, Keys: guarded,
				SysctlD: "/etc/sysctl.d/99-zz-nfguard.conf", ModulesLoad: "/etc/modules-load.d/nfguard.conf",
			})
			if diff := cmp.Diff(tt.want, r.Findings, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if r.Unread != nil {
				t.Errorf("unread: %q", r.Unread)
			}
		})
	}
}

// TestUnread: what cannot be read is said, and the rest is forecast.
func TestUnread(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/sysctl.d/a.conf/x", "")
	write(t, root, "etc/sysctl.d/b.conf", "net.bridge.bridge-nf-call-iptables=0\n"+string(make([]byte, 2<<20)))
	link(t, root, "etc/sysctl.d/c.conf", "c.conf")
	link(t, root, "etc/sysctl.d/d.conf", "../../../../../../../../etc/sysctl.d/e.conf") // ".." of the root is the root
	write(t, root, "etc/sysctl.d/e.conf", "net.bridge.bridge-nf-call-iptables=1\n")
	write(t, root, "etc/modprobe.d", "")
	r := boot.Forecast(boot.Options{Root: root, Keys: guarded[:1]})
	want := []string{
		"/etc/modprobe.d: not a directory",
		"/etc/sysctl.d/a.conf: is a directory, not a regular file",
		"/etc/sysctl.d/b.conf: is larger than 1 MiB: the rest was not read",
		"/etc/sysctl.d/c.conf: too many levels of symbolic links",
	}
	if diff := cmp.Diff(want, r.Unread); diff != "" {
		t.Errorf("unread (-want +got):\n%s", diff)
	}
	if !r.Keys[0].Right {
		t.Errorf("%+v", r.Keys[0])
	}
	r = boot.Forecast(boot.Options{Root: filepath.Join(root, "nowhere")})
	if len(r.Unread) != 1 {
		t.Errorf("without a root: %q", r.Unread)
	}
	if _, err := os.Stat(filepath.Join(root, "nowhere")); err == nil {
		t.Error("it was made")
	}
}
