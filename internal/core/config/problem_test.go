package config

import (
	"testing"

	"github.com/nfguard/nfguard/internal/core/guard"
)

func TestCheckProblems(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"unknown keys, all of them in order": {
			text: `
zz = 1
timing.resinc = "1s"
[jurnal]
sync = true
[kube_proxy]
x = 1
limit = 3
[contention.y]
z = 1
`,
			want: lines(
				`:2: zz: unknown key (hint: remove it; nfguard config show lists all keys)`,
				`:3: timing.resinc: unknown key (hint: write resync)`,
				`:4: jurnal: unknown key (hint: write journal)`,
				`:7: kube_proxy.x: unknown key (hint: remove it; [kube_proxy] has processes, units)`,
				`:8: kube_proxy.limit: unknown key (hint: write it below [contention])`,
				`:9: contention.y: unknown key (hint: remove it; [contention] has limit, window, policy)`,
			),
		},
		"the answer of the lock that mode enforce gives now": {
			text: "mode = \"lock\"\n[lock]\nanswer = \"rewrite\"\n",
			want: `:3: lock.answer: this key no longer exists (hint: remove it, and write mode = "enforce" instead of mode = "lock": there the write succeeds, and the kernel stores our value)`,
		},
		"the table of the lock, with nothing in it": {text: "[lock]\n#answer = \"refuse\"\n"},
		"keys without a name": {
			text: "\"\" = 1\n[timing]\n\"\" = 2\n",
			want: lines(
				`:1: "": unknown key (hint: remove it; nfguard config show lists all keys)`,
				`:3: timing."": unknown key (hint: remove it; [timing] has resync, audit)`,
			),
		},
		"wrong types": {
			text: `mode = 1
scope = ["host"]
timing = 3
journal.sync = "yes"
[[lock]]
[contention]
limit = "10"
window = 60
policy = { a = 1 }
[module]
name = true
[bridges]
match = "cni0"
ignore = ["virbr0", 1.5]
[persist]
sysctl = 2026-01-01
modules_load = []
`,
			want: lines(
				`:1: mode: must be a word in quotes, not a whole number (hint: the default is mode = "enforce")`,
				`:2: scope: must be a word in quotes, not a list (hint: the default is scope = "host")`,
				`:3: timing: must be a table (hint: write [timing] on a line of its own, its keys below)`,
				`:4: journal.sync: must be true or false, without quotes, not a text (hint: the default is sync = true)`,
				`:5: lock: unknown key (hint: remove it; nfguard config show lists all keys)`,
				`:7: contention.limit: must be a whole number, not a text (hint: the default is limit = 10)`,
				`:8: contention.window: must be a time with its unit, not a bare number (hint: write "60s" for seconds)`,
				`:9: contention.policy: must be a word in quotes, not a table (hint: the default is policy = "hold")`,
				`:11: module.name: must be a text in quotes, not true or false (hint: the default is name = "br_netfilter")`,
				`:13: bridges.match: must be a list of texts in quotes, or "auto", not "cni0" (hint: put it in brackets: ["cni0"])`,
				`:14: bridges.ignore: item 2: must be a text in quotes, not a decimal number (hint: the default is ignore = ["virbr*", "vmbr*", "lxcbr*", "lxdbr*", "incusbr*", "podman*", "cni-podman*", "nerdctl*"])`,
				`:16: persist.sysctl: must be a text in quotes, not a date (hint: the default is sysctl = "/etc/sysctl.d/99-zz-nfguard.conf")`,
				`:17: persist.modules_load: must be a text in quotes, not a list (hint: the default is modules_load = "/etc/modules-load.d/nfguard.conf")`,
			),
		},
		"bad values": {
			text: `mode = "enforec"
scope = "everywhere"
[timing]
resync = "99ms"
audit = "soon"
[contention]
limit = 0
window = true
[lock]
answer = ""
[module]
name = "-r"
[bridges]
match = ["cni*", "["]
ignore = [""]
[kube_proxy]
processes = ["/usr/bin/kube-proxy"]
units = ["k3s"]
[persist]
modules_load = "nfguard.conf"
sysctl = "/etc//sysctl.d/nfguard.conf"
[metrics]
textfile = "/var/lib/nfguard.txt"
`,
			want: lines(
				`:1: mode: no such value "enforec" (hint: write "enforce")`,
				`:2: scope: no such value "everywhere" (hint: write one of ["host", "bridges"])`,
				`:4: timing.resync: must be at least 100ms, not 99ms (hint: the default is resync = "auto")`,
				`:5: timing.audit: no such time "soon" (hint: write a number and a unit, such as "500ms", "30s" or "5m")`,
				`:7: contention.limit: must be from 1 to 1000000, not 0 (hint: the default is limit = 10)`,
				`:8: contention.window: must be a time in quotes, not true or false (hint: the default is window = "1m")`,
				`:10: lock.answer: this key no longer exists (hint: remove it; mode = "lock" always refuses writers)`,
				`:12: module.name: "-r" is no name of a module (hint: use letters, digits, _ and - only, without .ko)`,
				`:14: bridges.match: item 2: "[" is no well-formed pattern (hint: close every [, and write \[ for the character itself)`,
				`:15: bridges.ignore: item 1: is empty and matches no bridge (hint: remove it, or write "*" for every bridge)`,
				`:17: kube_proxy.processes: item 1: "/usr/bin/kube-proxy" is no name of a program (hint: write it without directory and arguments, such as "kube-proxy")`,
				`:18: kube_proxy.units: item 1: "k3s" is no name of a service (hint: write it in full, such as "kube-proxy.service")`,
				`:20: persist.modules_load: "nfguard.conf" is not an absolute path (hint: begin it with /)`,
				`:21: persist.sysctl: "/etc//sysctl.d/nfguard.conf" is not a clean path (hint: write "/etc/sysctl.d/nfguard.conf")`,
				`:23: metrics.textfile: "/var/lib/nfguard.txt" does not end in .prom, so nothing would read it (hint: name the file NAME.prom)`,
			),
		},
		"paths that name no file, or hold a newline": {
			text: "[persist]\nmodules_load = \"/etc/.conf\"\nsysctl = \"/etc/a\\nb.conf\"\n",
			want: lines(
				`:2: persist.modules_load: "/etc/.conf" does not end in .conf, so nothing would read it (hint: name the file NAME.conf)`,
				`:3: persist.sysctl: "/etc/a\nb.conf" holds characters that cannot be printed (hint: retype it)`,
			),
		},
		"one file for two purposes": {
			text: "[persist]\nmodules_load = \"/etc/x.conf\"\nsysctl = \"/etc/x.conf\"\n",
			want: `:3: persist.sysctl: modules_load and sysctl name the same file (hint: give each a file of its own)`,
		},
		"one file for two purposes, one by default": {
			text: "[persist]\nmodules_load = \"/etc/sysctl.d/99-zz-nfguard.conf\"\n",
			want: `:2: persist.modules_load: modules_load and sysctl name the same file (hint: give each a file of its own)`,
		},
		"bridge sysctls are switches": {
			text: `[sysctl]
"net.bridge.bridge-nf-call-iptables" = 2
"net.bridge.bridge-nf-call-ip6tables" = "yes"
"net.bridge.bridge-nf-call-arptables" = true
"net.bridge.bridge-nf-call-iptable" = 1
"net.bridge.other" = 1
`,
			want: lines(
				`:2: sysctl."net.bridge.bridge-nf-call-iptables": must be 0, 1 or "ignore", not "2" (hint: write 1; the kernel turns any other number into 1)`,
				`:3: sysctl."net.bridge.bridge-nf-call-ip6tables": must be 0, 1 or "ignore", not "yes" (hint: write 1; the kernel turns any other number into 1)`,
				`:4: sysctl."net.bridge.bridge-nf-call-arptables": must be a number or a text in quotes, not true or false (hint: write 1 for on, 0 for off)`,
				`:5: sysctl."net.bridge.bridge-nf-call-iptable": br_netfilter has no such sysctl (hint: write "net.bridge.bridge-nf-call-iptables")`,
				`:6: sysctl."net.bridge.other": br_netfilter has no such sysctl (hint: sysctl net.bridge lists them while the module is loaded)`,
			),
		},
		"values that no sysctl shows": {
			text: `[sysctl]
"kernel.a" = "  "
"kernel.b" = "1\n2"
"kernel.c" = 0.5
"kernel.d" = [1]
`,
			want: lines(
				`:2: sysctl."kernel.a": is empty (hint: write the value to guard, or "ignore")`,
				`:3: sysctl."kernel.b": "1\n2" holds characters that cannot be printed (hint: write it on one line, as the kernel shows it: sysctl -n kernel.b)`,
				`:4: sysctl."kernel.c": must be a number or a text in quotes, not a decimal number (hint: write it as the kernel shows it: sysctl -n kernel.c)`,
				`:5: sysctl."kernel.d": must be a number or a text in quotes, not a list (hint: write it as the kernel shows it: sysctl -n kernel.d)`,
			),
		},
		"sysctls that are dangerous": {
			text: `[sysctl]
"kernel.core_pattern" = "|/tmp/x %p"
"kernel/modprobe" = "/tmp/x"
"fs.binfmt_misc.register" = ":x:"
"kernel.usermodehelper.bset" = "0 0"
"kernel.modules_disabled" = 1
"kernel.kptr_restrict" = 0
"kernel.randomize_va_space" = "0x0"
"kernel.yama.ptrace_scope" = "no"
"kernel.perf_event_paranoid" = -1
"kernel.dmesg_restrict" = 1
"kernel.sysrq" = 1
"kernel.hotplug" = "ignore"
"kernel.poweroff_cmd" = "/sbin/poweroff"
[confirm]
sysctl = ["kernel.poweroff_cmd"]
`,
			want: lines(
				`:2: sysctl."kernel.core_pattern": the kernel runs it as a program, as root (hint: if you mean it, list the key under [confirm] too: sysctl = ["kernel.core_pattern"])`,
				`:3: sysctl."kernel.modprobe": the kernel runs it as a program, as root (hint: if you mean it, list the key under [confirm] too: sysctl = ["kernel.modprobe"])`,
				`:4: sysctl."fs.binfmt_misc.register": it decides which programs are run and with what rights (hint: if you mean it, list the key under [confirm] too: sysctl = ["fs.binfmt_misc.register"])`,
				`:5: sysctl."kernel.usermodehelper.bset": it decides which programs are run and with what rights (hint: if you mean it, list the key under [confirm] too: sysctl = ["kernel.usermodehelper.bset"])`,
				`:6: sysctl."kernel.modules_disabled": only a reboot undoes it, and no module can be loaded until then (hint: if you mean it, list the key under [confirm] too: sysctl = ["kernel.modules_disabled"])`,
				`:7: sysctl."kernel.kptr_restrict": it switches off a protection against the users of the host (hint: if you mean it, list the key under [confirm] too: sysctl = ["kernel.kptr_restrict"])`,
				`:8: sysctl."kernel.randomize_va_space": it switches off a protection against the users of the host (hint: if you mean it, list the key under [confirm] too: sysctl = ["kernel.randomize_va_space"])`,
				`:9: sysctl."kernel.yama.ptrace_scope": it switches off a protection against the users of the host (hint: if you mean it, list the key under [confirm] too: sysctl = ["kernel.yama.ptrace_scope"])`,
				`:10: sysctl."kernel.perf_event_paranoid": it switches off a protection against the users of the host (hint: if you mean it, list the key under [confirm] too: sysctl = ["kernel.perf_event_paranoid"])`,
			),
		},
		"a confirmation that means nothing": {
			text: "[confirm]\nsysctl = [\"kernel/core_pattern\", \"kernel\"]\n",
			want: `:2: confirm.sysctl: item 1: "kernel/core_pattern" is another spelling (hint: write "kernel.core_pattern")`,
		},
		"the scope bridges with what is for the other": {
			text: "scope = \"bridges\"\n[sysctl]\n\"net.bridge.bridge-nf-call-iptables\" = 1\n\"net.bridge.bridge-nf-filter-vlan-tagged\" = 1\n",
			want: `:3: sysctl."net.bridge.bridge-nf-call-iptables": 1 is for scope = "host": it would hand over the frames of every bridge ` +
				`(hint: write 0 to keep it at 0, or "ignore"; flags under [bridges] says what the bridges of pods hand over)`,
		},
		"flags that are none": {
			text: "bridges = { flags = [\"iptables\", \"ip6table\"] }\n",
			want: `:1: bridges.flags: item 2: no such value "ip6table" (hint: write "ip6tables")`,
		},
		"a flag that is there twice": {
			text: "[bridges]\nflags = [\"iptables\", \"iptables\"]\n",
			want: `:2: bridges.flags: item 2: "iptables" is there twice (hint: keep one of the two)`,
		},
		"flags of another type": {
			text: "[bridges]\nflags = \"iptables\"\n",
			want: `:2: bridges.flags: must be a list of texts in quotes, not a text (hint: the default is flags = ["iptables", "ip6tables", "arptables"])`,
		},
		"a sysctl in two spellings": {
			text: "[sysctl]\n\"net.ipv4.ip_forward\" = 1\n\"net/ipv4/ip_forward\" = 1\n",
			want: `:3: sysctl."net/ipv4/ip_forward": is set twice, first on line 2 (hint: keep one of the two)`,
		},
		"sysctls without quotes or table": {
			text: `"kernel.pid_max" = 1
net.ipv4.ip_forward = 1
[sysctl]
net.bridge.bridge-nf-call-iptables = 1
`,
			want: lines(
				`:1: "kernel.pid_max": unknown key (hint: write a sysctl below [sysctl], in quotes: "kernel.pid_max" = …)`,
				`:2: net: unknown key (hint: write a sysctl below [sysctl], in quotes: "net.ipv4.ip_forward" = …)`,
				`:4: sysctl.net: in TOML, the dots mean tables (hint: put the name in quotes: "net.bridge.bridge-nf-call-iptables" = …)`,
			),
		},
		"bad syntax": {
			text: "mode = \"observe\"\n[timing\n",
			want: `:2: expected '.' or ']' to end table name, but got '\n' instead (hint: write key = value on a line, put a text in "quotes", and a [table] on a line of its own)`,
		},
		"a document that ends too early": {
			text: `mode =`,
			want: `:1: mode: unexpected EOF; expected value (hint: write key = value on a line, put a text in "quotes", and a [table] on a line of its own)`,
		},
		"a control character at the beginning": {
			text: "\x7f",
			want: `:1: TOML files cannot contain control characters: '0x7f' (hint: write key = value on a line, put a text in "quotes", and a [table] on a line of its own)`,
		},
		"duplicate key": {
			text: "[timing]\naudit = \"1m\"\naudit = \"2m\"\n",
			want: `:3: timing.audit: is set twice (hint: keep one of the two)`,
		},
		"duplicate table": {
			text: "[timing]\n[lock]\n[timing]\n",
			want: `:3: timing: is set twice (hint: keep one of the two)`,
		},
		"lines after values of several lines, with the line ends of Windows": {
			text: "a = \"\"\"\r\n\r\n\"\"\"\r\nb = [\r\n1]\r\nc = 1\r\n",
			want: lines(
				`:1: a: unknown key (hint: remove it; nfguard config show lists all keys)`,
				`:4: b: unknown key (hint: remove it; nfguard config show lists all keys)`,
				`:6: c: unknown key (hint: remove it; nfguard config show lists all keys)`,
			),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := tree(t, map[string]string{"f": tt.text})
			diff(t, "error", tt.want, message(Check(root+"/f"), root+"/f"))
		})
	}
}

func TestSysctlKeysStayInProcSys(t *testing.T) {
	for _, name := range []string{
		"", ".", "..", "/", "a", "kernel", ".kernel.x", "kernel.x.", "kernel..x", "/kernel/x", "/proc/sys/kernel/x",
		"../x/y", "kernel/../x", "kernel.//.x", "a.//.//.etc.shadow", "kernel./.x", "//.x", "kernel.x\x00", "kernel.x\n",
		"kernel.é", "kernel.x y", "kernel.*", "-kernel.x", "#kernel.x", "kernel.x=1", `kernel.\x`, `kernel."x"`,
	} {
		key, p := sysctlKey(name)
		diff(t, name, guard.Key(""), key)
		diff(t, name, wrong("is no name of a sysctl", `write it as sysctl -a prints it, such as "net.ipv4.ip_forward"`), p)
	}
}
