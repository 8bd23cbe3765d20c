package boot_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
)

// rightHost is a host whose next boot is as wanted, with our drop-ins.
var rightHost = map[string]string{
	"/etc/sysctl.d/99-zz-nfguard.conf":                       "# Written by nfguard\nnet.bridge.bridge-nf-call-iptables=1\n",
	"/etc/modules-load.d/nfguard.conf":                       "# Written by nfguard\nbr_netfilter\n",
	"/lib/modules/6.1.0-1/modules.dep":                       "kernel/net/bridge/br_netfilter.ko: kernel/net/bridge/bridge.ko\n",
	"/lib/modules/6.1.0-1/kernel/net/bridge/br_netfilter.ko": "", "/lib/modules/6.1.0-1/kernel/net/bridge/bridge.ko": "",
	"/boot/vmlinuz-6.1.0-1": "",
}

// hostWith makes rightHost, with files added to it: one without text is not
// there, and one below /usr/local/bin, rc.local and dispatchers are programs.
func hostWith(t *testing.T, files map[string]string) boot.Options {
	t.Helper()
	root := t.TempDir()
	for _, list := range []map[string]string{rightHost, files} {
		for name, text := range list {
			write(t, root, name, text)
			full := filepath.Join(root, name)
			if filepath.Dir(name) == "/usr/local/bin" || filepath.Base(name) == "rc.local" || strings.Contains(name, "dispatcher") || strings.Contains(name, "init.d") || strings.HasSuffix(name, ".init") || strings.Contains(name, "per-boot") || strings.Contains(name, "if-up.d") || strings.HasPrefix(name, "/etc/cron.") {
				os.Chmod(full, 0o755)
			}
		}
	}
	for name, text := range files {
		if text == "" {
			os.Remove(filepath.Join(root, name))
		}
	}
	return boot.Options{
		Root: root, Release: "6.1.0-1", Keys: guarded[:1],
		SysctlD: "/etc/sysctl.d/99-zz-nfguard.conf", ModulesLoad: "/etc/modules-load.d/nfguard.conf",
	}
}

// TestStarts names who writes a guarded sysctl at boot after our file, where it
// stands, and what to do.
func TestStarts(t *testing.T) {
	const (
		key   = "net.bridge.bridge-nf-call-iptables"
		off   = "/sbin/sysctl -w " + key + "=0"
		rules = "/etc/udev/rules.d/99-x.rules"
		unit  = "/etc/systemd/system/x.service"
		wants = "/etc/systemd/system/multi-user.target.wants/x.service"
		nm    = "/etc/NetworkManager/dispatcher.d/50-x"

		nmWants = "/etc/systemd/system/multi-user.target.wants/NetworkManager.service"

		mod = `ACTION=="add", SUBSYSTEM=="module", KERNEL=="br_netfilter", `
	)
	type files map[string]string
	udev := func(rule string) files { return files{rules: rule + "\n"} }
	service := func(lines string) files { return files{unit: "[Service]\n" + lines, wants: "x"} }
	be := func(when, at, how string) string { return key + " will be 0 " + when + ": " + at + " " + how }
	loaded := "once br_netfilter is loaded"
	tests := []struct {
		name     string
		files    files
		sentence string // of the only finding; "" for none
		next     string
		note     bool
	}{
		// udev
		{name: "udev runs sysctl", files: udev(mod + `RUN+="` + off + `"`), sentence: be(loaded, rules+":1", "runs "+off), next: "remove that rule"},
		{
			name:     "udev runs sysctl with a file",
			files:    files{rules: "# x\n" + mod + "\\\n  RUN+=\"/sbin/sysctl -p /etc/bridge.conf\"\n", "/etc/bridge.conf": "a=1\n" + key + " = 0\n"},
			sentence: be(loaded, rules+":2", "runs /sbin/sysctl -p /etc/bridge.conf (/etc/bridge.conf:2)"), next: "remove that rule",
		},
		{name: "udev runs a shell", files: udev(mod + `RUN+="/bin/sh -c 'echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables'"`), sentence: be(loaded, rules+":1", "runs /bin/sh -c 'echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables'"), next: "remove that rule"},
		{name: "udev runs a shell with a loop", files: udev(mod + `RUN{program}+="/bin/sh -c 'for f in /proc/sys/net/bridge/bridge-nf-*; do echo 0 > $$f; done'"`), sentence: be(loaded, rules+":1", "runs /bin/sh -c 'for f in /proc/sys/net/bridge/bridge-nf-*; do echo 0 > $$f; done'"), next: "remove that rule"},
		{name: "udev runs a shell, quoted", files: udev(mod + `RUN+="/bin/bash -c \"printf 0 | tee /proc/sys/net/bridge/bridge-nf-call-iptables\""`), sentence: be(loaded, rules+":1", `runs /bin/bash -c "printf 0 | tee /proc/sys/net/bridge/bridge-nf-call-iptables"`), next: "remove that rule"},
		{
			name:     "udev runs a script",
			files:    files{rules: mod + `RUN+="/usr/local/bin/off"` + "\n", "/usr/local/bin/off": "#!/bin/sh\n# x\n" + off + "\n"},
			sentence: be(loaded, "/usr/local/bin/off:3", "sets it, run by "+rules+":1"), next: "remove that command",
		},
		{name: "udev sets it itself", files: udev(mod + `SYSCTL{net.bridge.bridge-nf-call-iptables}="0"`), sentence: be(loaded, rules+":1", "says "+mod+`SYSCTL{net.bridge.bridge-nf-call-iptables}="0"`), next: "remove that rule"},
		{name: "udev, of another module", files: udev(`ACTION=="add", SUBSYSTEM=="module", KERNEL=="bridge", RUN+="` + off + `"`), sentence: be("once the module bridge is loaded", rules+":1", "runs "+off), next: "remove that rule"},
		{name: "udev, of an interface", files: udev(`SUBSYSTEM=="net", ACTION=="add", RUN+="` + off + `"`), sentence: be("once an interface is there", rules+":1", "runs "+off), next: "remove that rule"},
		{name: "udev, of a disk", files: udev(`SUBSYSTEM=="block", RUN+="` + off + `"`), sentence: be("once its device is there", rules+":1", "runs "+off), next: "remove that rule"},
		{name: "udev, under a condition", files: udev(mod + `ENV{X}=="y", RUN+="` + off + `"`), sentence: key + " may be set to 0 " + loaded + ": " + rules + ":1 runs " + off, next: "remove that rule", note: true},
		{name: "udev, of a package", files: files{"/usr/lib/udev/rules.d/60-x.rules": mod + `RUN+="` + off + `"`}, sentence: be(loaded, "/usr/lib/udev/rules.d/60-x.rules:1", "runs "+off), next: "copy the file to /etc/udev/rules.d/60-x.rules, which hides it, and remove the line there"},
		{name: "udev, of /run", files: files{"/run/udev/rules.d/60-x.rules": mod + `RUN+="` + off + `"`}, sentence: be(loaded, "/run/udev/rules.d/60-x.rules:1", "runs "+off), next: "remove that rule"},
		{name: "udev, hidden by /etc", files: files{"/usr/lib/udev/rules.d/60-x.rules": mod + `RUN+="` + off + `"`, "/etc/udev/rules.d/60-x.rules": "# off\n"}},
		{name: "udev, another name", files: files{"/etc/udev/rules.d/60-x.rules.bak": mod + `RUN+="` + off + `"`}},
		{name: "udev, a comment", files: udev("#" + mod + `RUN+="` + off + `"`)},
		{name: "udev, a comment within a rule", files: udev(`ACTION=="remove", \` + "\n# x\n  " + `RUN+="` + off + `"`)},
		{name: "udev, a comment within a rule that is carried out", files: udev(mod + "\\\n# x\n  " + `RUN+="` + off + `"`), sentence: be(loaded, rules+":1", "runs "+off), next: "remove that rule"},
		{name: "udev, on removal", files: udev(`ACTION=="remove", SUBSYSTEM=="module", RUN+="` + off + `"`)},
		{name: "udev, passed over", files: udev(`SUBSYSTEM!="block", GOTO="end"` + "\n" + `KERNEL=="br_netfilter", RUN+="/bin/true"` + "\n" + mod + `RUN+="` + off + `"` + "\n" + `LABEL="end"`)},
		{name: "udev, not passed over", files: udev(`SUBSYSTEM!="module", GOTO="end"` + "\n" + `RUN+="` + off + `"` + "\n" + `LABEL="end"`), sentence: be(loaded, rules+":2", "runs "+off), next: "remove that rule"},
		{name: "udev sets it as wanted", files: udev(mod + `RUN+="/sbin/sysctl -w ` + key + `=1"`)},
		{name: "udev runs systemd-sysctl", files: udev(mod + `RUN+="/usr/lib/systemd/systemd-sysctl --prefix=/net/bridge"`)},
		{name: "udev reads it", files: udev(mod + `PROGRAM=="/bin/cat /proc/sys/net/bridge/bridge-nf-call-iptables", RUN+="/bin/grep 0 /proc/sys/net/bridge/bridge-nf-call-iptables"`)},
		{name: "udev sets the flag of a bridge, which the sysctl outweighs", files: udev(`SUBSYSTEM=="net", ATTR{bridge/nf_call_iptables}="0"`)},
		{
			name: "udev runs what is not known", files: udev(mod + `RUN+="/usr/bin/python3 /opt/off.py net.bridge.bridge-nf-call-iptables"`),
			sentence: key + " may be set " + loaded + ": " + rules + ":1 runs /usr/bin/python3 /opt/off.py " + key + ", and what it sets is not known",
			next:     "see what it sets it to, and remove that where it is not 1", note: true,
		},
		// modprobe.d
		{
			name: "install, and then systemd-sysctl", files: files{"/etc/modprobe.d/x.conf": "install br_netfilter /sbin/modprobe -i br_netfilter && " + off + "\n"},
			sentence: key + " becomes 0 " + loaded + ": /etc/modprobe.d/x.conf:1 runs /sbin/modprobe -i br_netfilter && " + off +
				"; at next boot systemd-sysctl comes after that, but not whenever it is loaded",
			next: "remove that line", note: true,
		},
		{
			name: "install, and nobody after it", files: files{"/etc/modprobe.d/x.conf": "install br_netfilter /sbin/modprobe -i br_netfilter $CMDLINE_OPTS; " + off + "\n", "/etc/sysctl.d/99-zz-nfguard.conf": ""},
			sentence: be(loaded, "/etc/modprobe.d/x.conf:1", "runs /sbin/modprobe -i br_netfilter $CMDLINE_OPTS; "+off), next: "remove that line",
		},
		{
			name: "install of what it needs", files: files{"/etc/modprobe.d/x.conf": "install bridge /sbin/modprobe -i bridge; " + off + "\n", "/etc/sysctl.d/99-zz-nfguard.conf": ""},
			sentence: be("once bridge is loaded", "/etc/modprobe.d/x.conf:1", "runs /sbin/modprobe -i bridge; "+off), next: "remove that line",
		},
		{name: "install, and no more", files: files{"/etc/modprobe.d/x.conf": "install br_netfilter /sbin/modprobe --ignore-install br_netfilter $CMDLINE_OPTS\n"}},
		{name: "remove", files: files{"/etc/modprobe.d/x.conf": "remove br_netfilter " + off + "; /sbin/modprobe -r --ignore-remove br_netfilter\n"}},
		{name: "softdep", files: files{"/etc/modprobe.d/x.conf": "softdep br_netfilter post: nf_tables\n"}},
		// systemd
		{name: "a unit", files: service("Type=oneshot\nExecStart=" + off + "\n"), sentence: be("once x.service starts", unit+":3", "runs "+off), next: "remove that command"},
		{name: "a unit, with a prefix and a continuation", files: service("ExecStartPre=-/usr/sbin/sysctl -q \\\n  " + key + "=0\nExecStart=/bin/true\n"), sentence: be("once x.service starts", unit+":2", "runs /usr/sbin/sysctl -q "+key+"=0"), next: "remove that command"},
		{name: "a unit, by name only", files: service("ExecStart=sysctl -w " + key + "=0\n"), sentence: be("once x.service starts", unit+":2", "runs sysctl -w "+key+"=0"), next: "remove that command"},
		{name: "a unit with a shell", files: service("ExecStart=/bin/sh -c \"modprobe br_netfilter; echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables\"\n"), sentence: be("once x.service starts", unit+":2", `runs /bin/sh -c "modprobe br_netfilter; echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables"`), next: "remove that command"},
		{name: "a unit with two commands in a line", files: service("Type=oneshot\nExecStart=/bin/true ; " + off + "\n"), sentence: be("once x.service starts", unit+":3", "runs /bin/true ; "+off), next: "remove that command"},
		{name: "a unit with a variable", files: service("Environment=V=0\nExecStart=/sbin/sysctl -w " + key + "=${V}\n"), sentence: key + " may be set once x.service starts: " + unit + ":3 runs /sbin/sysctl -w " + key + "=${V}, and what it sets is not known", next: "see what it sets it to, and remove that where it is not 1", note: true},
		{name: "a unit of a package", files: files{"/usr/lib/systemd/system/x.service": "[Service]\nExecStart=" + off + "\n", wants: "x"}, sentence: be("once x.service starts", "/usr/lib/systemd/system/x.service:2", "runs "+off), next: "copy the file to /etc/systemd/system/x.service, which hides it, and remove the line there"},
		{name: "a drop-in of a unit", files: files{"/usr/lib/systemd/system/x.service": "[Service]\nExecStart=/bin/true\n", unit + ".d/y.conf": "[Service]\nExecStartPost=" + off + "\n", wants: "x"}, sentence: be("once x.service starts", unit+".d/y.conf:2", "runs "+off), next: "remove that command"},
		{name: "taken back by a drop-in", files: files{unit: "[Service]\nExecStart=" + off + "\n", unit + ".d/y.conf": "[Service]\nExecStart=\nExecStart=/bin/true\n", wants: "x"}},
		{name: "a unit that nothing starts", files: files{unit: "[Service]\nExecStart=" + off + "\n"}},
		{name: "what a unit does as it stops", files: service("ExecStart=/bin/true\nExecStop=" + off + "\n")},
		{name: "a timer", files: files{unit: "[Service]\nExecStart=" + off + "\n", "/etc/systemd/system/timers.target.wants/x.timer": "x"}, sentence: be("once x.service starts", unit+":2", "runs "+off), next: "remove that command"},
		{name: "a template", files: files{"/etc/systemd/system/x@.service": "[Service]\nExecStart=" + off + "\n", "/etc/systemd/system/multi-user.target.wants/x@1.service": "x"}, sentence: be("once x@1.service starts", "/etc/systemd/system/x@.service:2", "runs "+off), next: "remove that command"},
		{name: "a unit that runs a script, under a condition", files: files{unit: "[Service]\nExecStart=/usr/local/bin/off\n", wants: "x", "/usr/local/bin/off": "#!/bin/bash -e\nif [ \"$1\" = start ]; then\n  " + off + "\nfi\n"}, sentence: key + " may be set to 0 once x.service starts: /usr/local/bin/off:3 sets it, run by " + unit + ":2", next: "remove that command", note: true},
		{name: "a unit with a condition", files: files{unit: "[Unit]\nConditionPathExists=/x\n\n[Service]\nExecStart=" + off + "\n", wants: "x"}, sentence: key + " may be set to 0 once x.service starts: " + unit + ":5 runs " + off, next: "remove that command", note: true},
		{name: "a unit of the way down", files: files{unit: "[Service]\nExecStart=" + off + "\n", "/etc/systemd/system/sleep.target.wants/x.service": "x"}},
		// ifupdown
		{name: "an interface", files: files{"/etc/network/interfaces": "auto lo vmbr0\niface vmbr0 inet static\n\taddress 10.0.0.2/24\n\tpost-up echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables\n\tdown " + off + "\n"}, sentence: be("once its interface comes up", "/etc/network/interfaces:4", "runs echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables"), next: "remove that command"},
		{name: "an interface that is not up at boot", files: files{"/etc/network/interfaces.d/x": "iface vmbr0 inet manual\n  up " + off + "\n"}, sentence: key + " may be set to 0 once its interface comes up: /etc/network/interfaces.d/x:2 runs " + off, next: "remove that command", note: true},
		// rc.local, cron
		{
			name: "a dispatcher of NetworkManager", files: files{nm: "#!/bin/sh\n" + off + "\n", nmWants: "x"},
			sentence: be("once its interface comes up", nm+":2", "sets it"), next: "remove that command",
		},
		{
			name: "a dispatcher of NetworkManager, which is not enabled", files: files{nm: "#!/bin/sh\n" + off + "\n"},
			sentence: key + " may be set to 0 once its interface comes up: " + nm + ":2 sets it", next: "remove that command", note: true,
		},
		{
			name: "a dispatcher that asks for the event", files: files{nm: "#!/bin/sh\nif [ \"$2\" = up ]; then\n  " + off + "\nfi\n", nmWants: "x"},
			sentence: key + " may be set to 0 once its interface comes up: " + nm + ":3 sets it", next: "remove that command", note: true,
		},
		{
			name: "networkd-dispatcher", files: files{"/etc/networkd-dispatcher/routable.d/50-x": "#!/bin/sh\n" + off + "\n", "/etc/systemd/system/multi-user.target.wants/networkd-dispatcher.service": "x"},
			sentence: be("once its interface comes up", "/etc/networkd-dispatcher/routable.d/50-x:2", "sets it"), next: "remove that command",
		},
		{name: "rc.local", files: files{"/etc/rc.local": "#!/bin/sh -e\n\necho 0 > /proc/sys/net/bridge/bridge-nf-call-iptables\nexit 0\n"}, sentence: be("once rc.local runs", "/etc/rc.local:3", "sets it"), next: "remove that command"},
		{name: "rc.local, after its exit", files: files{"/etc/rc.local": "#!/bin/sh -e\nexit 0\n" + off + "\n"}},
		{name: "cron at boot", files: files{"/etc/cron.d/x": "SHELL=/bin/sh\n@reboot root " + off + "\n"}, sentence: be("once cron starts", "/etc/cron.d/x:2", "runs "+off), next: "remove that line"},
		{name: "cron later", files: files{"/etc/crontab": "*/5 *\t* * *   root\t" + off + "\n"}, sentence: be("once cron runs it", "/etc/crontab:1", "runs "+off), next: "remove that line"},
		{name: "cron of root", files: files{"/var/spool/cron/crontabs/root": "@reboot sysctl -p /etc/x.conf\n", "/etc/x.conf": key + "=0\n"}, sentence: be("once cron starts", "/var/spool/cron/crontabs/root:1", "runs sysctl -p /etc/x.conf (/etc/x.conf:1)"), next: "remove that line"},
		{name: "cron each hour, a script", files: files{"/etc/crontab": "17 * * * * root cd / && run-parts --report /etc/cron.hourly\n", "/etc/cron.hourly/x": "#!/bin/sh\n" + off + "\n"}, sentence: be("once cron runs it", "/etc/cron.hourly/x:2", "sets it, run by /etc/crontab:1"), next: "remove that command"},
		{name: "cron each day, a script with a dot", files: files{"/etc/cron.d/x": "1 2 * * * root run-parts /etc/cron.daily\n", "/etc/cron.daily/x.sh": "#!/bin/sh\n" + off + "\n"}, sentence: key + " may be set to 0 once cron runs it: /etc/cron.daily/x.sh:2 sets it, run by /etc/cron.d/x:1", next: "remove that command", note: true},
		{name: "cron each day, a script that is no program", files: files{"/etc/cron.d/x": "1 2 * * * root run-parts /etc/parts\n", "/etc/parts/x": "#!/bin/sh\n" + off + "\n"}},
		{name: "cron only lists scripts", files: files{"/etc/cron.d/x": "1 2 * * * root run-parts --test /etc/cron.daily\n", "/etc/cron.daily/x": "#!/bin/sh\n" + off + "\n"}},
		{name: "anacron", files: files{"/etc/anacrontab": "SHELL=/bin/sh\n@monthly 45 m true\n1\t5\tcron.daily\tnice run-parts /etc/cron.daily\n", "/etc/cron.daily/x": "#!/bin/sh\n" + off + "\n"}, sentence: be("once cron runs it", "/etc/cron.daily/x:2", "sets it, run by /etc/anacrontab:3"), next: "remove that command"},
		{
			name:     "a drop-in of systemd-sysctl.service",
			files:    files{"/usr/lib/systemd/system/sysinit.target.wants/systemd-sysctl.service": "x", "/usr/lib/systemd/system/systemd-sysctl.service": "[Unit]\nConditionPathIsReadWrite=/proc/sys/net/\n[Service]\nExecStart=/usr/lib/systemd/systemd-sysctl\n", "/etc/systemd/system/systemd-sysctl.service.d/x.conf": "[Service]\nExecStartPost=" + off + "\n"},
			sentence: be("once systemd-sysctl.service starts", "/etc/systemd/system/systemd-sysctl.service.d/x.conf:2", "runs "+off), next: "remove that command",
		},
		{name: "cron at boot, after a while", files: files{"/etc/cron.d/x": "@reboot root sleep 30 && " + off + "\n"}, sentence: be("once cron starts", "/etc/cron.d/x:1", "runs sleep 30 && "+off), next: "remove that line"},
		{name: "cron at boot, if it can", files: files{"/etc/cron.d/x": "@reboot root curl -f http://x/ && " + off + "\n"}, sentence: key + " may be set to 0 once cron starts: /etc/cron.d/x:1 runs curl -f http://x/ && " + off, next: "remove that line", note: true},
		{name: "if-up.d", files: files{"/etc/network/if-up.d/x": "#!/bin/sh\n" + off + "\n"}, sentence: be("once its interface comes up", "/etc/network/if-up.d/x:2", "sets it"), next: "remove that command"},

		{name: "tmpfiles", files: files{"/etc/tmpfiles.d/x.conf": "# x\nw /proc/sys/net/bridge/bridge-nf-call-iptables - - - - 0\n"}, sentence: be("once systemd-tmpfiles runs", "/etc/tmpfiles.d/x.conf:2", "sets it"), next: "remove that line"},
		{name: "tmpfiles, appended, at boot only", files: files{"/etc/tmpfiles.d/x.conf": "w+!\t/proc/sys/net/bridge/bridge-nf-*  - - - - 0\\n\n"}, sentence: be("once systemd-tmpfiles runs", "/etc/tmpfiles.d/x.conf:1", "sets it"), next: "remove that line"},
		{name: "tmpfiles, of a package", files: files{"/usr/lib/tmpfiles.d/x.conf": "w /proc/sys/net/bridge/bridge-nf-call-iptables - - - - 0\n"}, sentence: be("once systemd-tmpfiles runs", "/usr/lib/tmpfiles.d/x.conf:1", "sets it"), next: "copy the file to /etc/tmpfiles.d/x.conf, which hides it, and remove the line there"},
		{name: "tmpfiles, hidden", files: files{"/usr/lib/tmpfiles.d/x.conf": "w /proc/sys/net/bridge/bridge-nf-call-iptables - - - - 0\n", "/etc/tmpfiles.d/x.conf": "# none\n"}},
		{name: "tmpfiles, 1 after it", files: files{"/etc/tmpfiles.d/x.conf": "w /proc/sys/net/bridge/bridge-nf-call-iptables - - - - 0\n", "/etc/tmpfiles.d/y.conf": "w /proc/sys/net/bridge/bridge-nf-call-iptables - - - - 1\n"}},
		{name: "tmpfiles, another type", files: files{"/etc/tmpfiles.d/x.conf": "f /proc/sys/net/bridge/bridge-nf-call-iptables - - - - 0\n"}},
		{name: "tmpfiles, what it cannot read", files: files{"/etc/tmpfiles.d/x.conf": "w~ /proc/sys/net/bridge/bridge-nf-call-iptables - - - - MAo=\n"}, sentence: key + " may be set once systemd-tmpfiles runs: /etc/tmpfiles.d/x.conf:1 sets it, and what it sets is not known", next: "see what it sets it to, and remove that where it is not 1", note: true},

		{name: "an init script", files: files{"/etc/init.d/hard": "#!/bin/sh\ncase \"$1\" in\n  stop) " + off + " ;;\n  start)\n    " + off + "\n    ;;\nesac\n", "/etc/rc3.d/S20hard": "x"}, sentence: be("once the init script hard starts", "/etc/init.d/hard:5", "sets it"), next: "remove that command"},
		{name: "an init script, by a function", files: files{"/etc/rc.d/init.d/hard": "#!/bin/bash\nstart() {\n  echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables\n}\ncase $1 in\nstart) start ;;\nesac\n", "/etc/rc.d/rc5.d/S99hard": "x"}, sentence: be("once the init script hard starts", "/etc/rc.d/init.d/hard:3", "sets it"), next: "remove that command"},
		{name: "an init script, as it stops", files: files{"/etc/init.d/hard": "#!/bin/sh\ncase \"$1\" in stop) " + off + " ;; esac\n", "/etc/rc3.d/S20hard": "x"}},
		{name: "an init script that is not started", files: files{"/etc/init.d/hard": "#!/bin/sh\n" + off + "\n", "/etc/rc3.d/K20hard": "x"}},
		{name: "an init script with a unit", files: files{"/etc/init.d/x": "#!/bin/sh\n" + off + "\n", "/etc/rc3.d/S20x": "x", unit: "[Service]\nExecStart=/bin/true\n"}},

		{name: "cloud-init, bootcmd", files: files{"/etc/cloud/cloud.cfg.d/99_x.cfg": "#cloud-config\nbootcmd:\n - echo hello\n - " + off + "\n"}, sentence: be("once cloud-init runs its bootcmd", "/etc/cloud/cloud.cfg.d/99_x.cfg:4", "runs "+off), next: "remove that command"},
		{name: "cloud-init, a list", files: files{"/var/lib/cloud/instance/user-data.txt": "#cloud-config\nbootcmd:\n  - [ cloud-init-per, once, x, true ]\n  - [ sysctl, -w, \"" + key + "=0\" ]\n"}, sentence: be("once cloud-init runs its bootcmd", "/var/lib/cloud/instance/user-data.txt:4", "runs sysctl -w "+key+"=0"), next: "remove that command"},
		{name: "cloud-init, a list below", files: files{"/etc/cloud/cloud.cfg": "bootcmd:\n- - sysctl\n  - -w\n  - " + key + "=0\nruncmd:\n- true\n"}, sentence: be("once cloud-init runs its bootcmd", "/etc/cloud/cloud.cfg:2", "runs sysctl -w "+key+"=0"), next: "remove that command"},
		{name: "cloud-init, a block", files: files{"/etc/cloud/cloud.cfg": "bootcmd:\n- |\n  true\n  " + off + "\nusers: []\n"}, sentence: be("once cloud-init runs its bootcmd", "/etc/cloud/cloud.cfg:4", "sets it"), next: "remove that command"},
		{name: "cloud-init, quoted", files: files{"/etc/cloud/cloud.cfg": "bootcmd: [ 'sh -c \"" + off + "\"' ] \n"}, sentence: be("once cloud-init runs its bootcmd", "/etc/cloud/cloud.cfg:1", "runs sh -c \""+off+"\""), next: "remove that command"},
		{name: "cloud-init, runcmd of the first boot", files: files{"/etc/cloud/cloud.cfg.d/x.cfg": "runcmd:\n- " + off + "\n"}, sentence: be("once cloud-init runs its runcmd", "/etc/cloud/cloud.cfg.d/x.cfg:2", "runs "+off), next: "remove that command"},
		{name: "cloud-init, runcmd that was run", files: files{"/etc/cloud/cloud.cfg.d/x.cfg": "runcmd:\n- " + off + "\n", "/var/lib/cloud/instance/sem/config_runcmd": "1\n"}},
		{name: "cloud-init, a script of each boot", files: files{"/etc/cloud/x": "x", "/var/lib/cloud/scripts/per-boot/x.sh": "#!/bin/sh\n" + off + "\n"}, sentence: be("once cloud-init runs its scripts", "/var/lib/cloud/scripts/per-boot/x.sh:2", "sets it"), next: "remove that command"},
		{name: "cloud-init, a script of the first boot", files: files{"/var/lib/cloud/instance/user-data.txt": "#!/bin/sh\n" + off + "\n"}, sentence: be("once cloud-init runs its scripts", "/var/lib/cloud/instance/user-data.txt:2", "sets it"), next: "remove that command"},
		{name: "cloud-init, a script that was run", files: files{"/var/lib/cloud/instance/user-data.txt": "#!/bin/sh\n" + off + "\n", "/var/lib/cloud/instance/sem/config_scripts_user": "1\n"}},
		{name: "cloud-init, switched off", files: files{"/etc/cloud/cloud.cfg": "bootcmd:\n- " + off + "\n", "/etc/cloud/cloud-init.disabled": "x"}},
		{name: "cloud-init, another key", files: files{"/etc/cloud/cloud.cfg": "bootcmd:\n- true\nwrite_files:\n- " + off + "\n"}},
		{name: "cron, a file that it passes over", files: files{"/etc/cron.d/x.disabled": "@reboot root " + off + "\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := hostWith(t, tt.files)
			r := boot.Forecast(o)
			want := ""
			if tt.sentence != "" {
				want = fmt.Sprintf("%s\n  breaks %v; next: %s\n", tt.sentence, !tt.note, tt.next)
			}
			got := ""
			for _, f := range r.Findings {
				got += fmt.Sprintf("%s\n  breaks %v; next: %s\n", f.Sentence, f.Breaks, f.Next)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			effect := "1"
			if want != "" && !tt.note {
				effect = "0"
			}
			if last := r.Keys[0].NextBoot(); last.Effect != effect || r.Keys[0].Right != (effect == "1") {
				t.Errorf("at next boot it is %q by %s, right %v; want %q", last.Effect, last.Place, r.Keys[0].Right, effect)
			}
			if r.Unread != nil {
				t.Errorf("unread: %q", r.Unread)
			}
		})
	}
}

// TestLateLoader: what loads the module besides systemd-modules-load, and what
// a blacklist means then.
func TestLateLoader(t *testing.T) {
	const unit = "/etc/systemd/system/k3s.service"
	k3s := func(more map[string]string) map[string]string {
		files := map[string]string{
			unit: "[Unit]\nAfter=network-online.target\n\n[Service]\nExecStartPre=-/sbin/modprobe br_netfilter\nExecStartPre=-/sbin/modprobe overlay\nExecStart=/usr/local/bin/k3s server\n",
			"/etc/systemd/system/multi-user.target.wants/k3s.service": "x",
		}
		for name, text := range more {
			files[name] = text
		}
		return files
	}
	const none = "/etc/modules-load.d/nfguard.conf"
	tests := []struct {
		name     string
		files    map[string]string
		cmdline  string
		by       string
		findings []string
		breaks   bool
	}{
		{name: "a unit only", files: k3s(map[string]string{none: ""}), by: unit + ":5"},
		{name: "a unit that is not started", files: map[string]string{none: "", unit: "[Service]\nExecStartPre=/sbin/modprobe br_netfilter\n"}, findings: []string{
			"nothing loads br_netfilter at next boot: no file in modules-load.d names it",
		}, breaks: true},
		{name: "a blacklist, and a unit", files: k3s(map[string]string{"/etc/modprobe.d/x.conf": "blacklist br_netfilter\n"}), by: unit + ":5", findings: []string{
			"br_netfilter will not be loaded by systemd-modules-load at next boot: /etc/modprobe.d/x.conf:1 forbids it: blacklist br_netfilter; " + unit + ":5 loads it all the same, once k3s.service starts",
		}},
		{name: "a blacklist", files: map[string]string{"/etc/modprobe.d/x.conf": "blacklist br_netfilter\n"}, findings: []string{
			"br_netfilter will not be loaded by systemd-modules-load at next boot: /etc/modprobe.d/x.conf:1 forbids it: blacklist br_netfilter; a plain modprobe would load it",
		}, breaks: true},
		{name: "an install that loads nothing, and a unit", files: k3s(map[string]string{"/etc/modprobe.d/x.conf": "install br_netfilter /bin/echo no\n"}), findings: []string{
			"br_netfilter will not be loaded at next boot: /etc/modprobe.d/x.conf:1 forbids it: install br_netfilter /bin/echo no",
		}, breaks: true},
		{name: "a blacklist, and a unit that honours it", files: map[string]string{
			"/etc/modprobe.d/x.conf": "blacklist br_netfilter\n", unit: "[Service]\nExecStartPre=/sbin/modprobe -ab overlay br_netfilter\n", "/etc/systemd/system/multi-user.target.wants/k3s.service": "x",
		}, findings: []string{
			"br_netfilter will not be loaded by systemd-modules-load at next boot: /etc/modprobe.d/x.conf:1 forbids it: blacklist br_netfilter; a plain modprobe would load it",
		}, breaks: true},
		{name: "no modules at all", cmdline: "nomodule", findings: []string{
			"br_netfilter will not be loaded at next boot: the kernel's command line switches off the loading of modules",
		}, breaks: true},
		{name: "systemd-modules-load is masked", cmdline: "systemd.mask=systemd-modules-load.service", findings: []string{
			"nothing reads /etc/modules-load.d at next boot: systemd-modules-load.service is masked by the kernel's command line",
		}, breaks: true},
		{name: "insmod goes past an install", files: map[string]string{
			"/etc/modprobe.d/x.conf": "install br_netfilter /bin/false\n", unit: "[Service]\nExecStart=/sbin/modprobe -i br_netfilter\n", "/etc/systemd/system/multi-user.target.wants/k3s.service": "x",
		}, by: unit + ":2"},
		{name: "a softdep", files: map[string]string{none: "", "/etc/modprobe.d/x.conf": "softdep bridge post: br-netfilter\n", "/etc/modules-load.d/x.conf": "bridge\n"}, by: "/etc/modules-load.d/x.conf:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := hostWith(t, tt.files)
			o.Cmdline = tt.cmdline
			r := boot.Forecast(o)
			if got := r.Module.LoadedBy.String(); got != tt.by {
				t.Errorf("loaded by %q, want %q", got, tt.by)
			}
			var got []string
			breaks := false
			for _, f := range r.Findings {
				got, breaks = append(got, f.Sentence), breaks || f.Breaks
			}
			if diff := cmp.Diff(tt.findings, got); diff != "" || breaks != tt.breaks {
				t.Errorf("findings (-want +got), breaks %v:\n%s", breaks, diff)
			}
		})
	}
}

// TestSeveralKeys: each key has the line of its own.
func TestSeveralKeys(t *testing.T) {
	o := hostWith(t, map[string]string{
		"/etc/udev/rules.d/x.rules": `SUBSYSTEM=="module", KERNEL=="br_netfilter", RUN+="/sbin/sysctl -p /etc/x.conf"`,
		"/etc/x.conf":               string(guard.IP6Tables) + "=0\n" + string(guard.IPTables) + "=0\n",
	})
	o.Keys = guarded[:2]
	var got []string
	for _, f := range boot.Forecast(o).Findings {
		got = append(got, f.Sentence)
	}
	const rule = " will be 0 once br_netfilter is loaded: /etc/udev/rules.d/x.rules:1 runs /sbin/sysctl -p /etc/x.conf (/etc/x.conf:"
	if diff := cmp.Diff([]string{string(guard.IPTables) + rule + "2)", string(guard.IP6Tables) + rule + "1)"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
