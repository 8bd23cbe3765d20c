package boot_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/test/lab"
)

// nextSteps reads the constants of next.go.
func nextSteps(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "next.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	steps := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			steps[spec.Names[0].Name] = text
		}
		return true
	})
	return steps
}

// said returns the arguments of a format in a text, and false where the text
// does not contain it.
func said(format, text string) ([]string, bool) {
	pattern := regexp.QuoteMeta(format)
	pattern = strings.ReplaceAll(pattern, "%s", "(.*?)")
	pattern = strings.ReplaceAll(pattern, "%q", `"(.+?)"`)
	m := regexp.MustCompile(pattern + "(?:$|, or |;| and | \\(|: |, which)").FindStringSubmatch(text)
	if m == nil {
		return nil, false
	}
	return m[1:], true
}

// world is a host that a person works on.
type world struct {
	t *testing.T
	o boot.Options
}

func (w *world) path(name string) string { return filepath.Join(w.o.Root, name) }

func (w *world) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// replace has other lines stand in place of one, which goes on where it ends
// with a backslash. It returns that line.
func (w *world) replace(p boot.Place, with ...string) string {
	w.t.Helper()
	lines := strings.SplitAfter(w.read(p.File), "\n")
	end := p.Line
	for end < len(lines) && strings.HasSuffix(strings.TrimSpace(lines[end-1]), `\`) {
		end++
	}
	was := strings.Join(lines[p.Line-1:end], "")
	write(w.t, w.o.Root, p.File, strings.Join(slices.Concat(lines[:p.Line-1], with, lines[end:]), ""))
	return was
}

func (w *world) append(name, text string) {
	old, _ := os.ReadFile(w.path(name))
	write(w.t, w.o.Root, name, string(old)+text)
}

// word takes a word from the kernel's command line.
func (w *world) word(of func(string) bool) {
	w.o.Cmdline = strings.Join(slices.DeleteFunc(strings.Fields(w.o.Cmdline), of), " ")
}

// bring installs the module for a kernel, as a package does.
func (w *world) bring(release string) {
	dir := "/lib/modules/" + release
	write(w.t, w.o.Root, dir+"/modules.dep", "kernel/net/bridge/br_netfilter.ko:\n")
	write(w.t, w.o.Root, dir+"/kernel/net/bridge/br_netfilter.ko", "~Module signature appended~\n")
}

// policy is what apply writes by.
func (w *world) policy() *guard.Policy {
	return &guard.Policy{Module: "br_netfilter", Sysctls: w.o.Keys, SysctlD: w.o.SysctlD, ModulesLoad: w.o.ModulesLoad}
}

// deeds carry out the next steps, by the names of their constants.
var deeds = map[string]func(w *world, f boot.Finding, args []string){
	"nextRemoveLine":    func(w *world, f boot.Finding, _ []string) { w.replace(f.Place) },
	"nextRemoveRule":    func(w *world, f boot.Finding, _ []string) { w.replace(f.Place) },
	"nextRemoveCommand": func(w *world, f boot.Finding, _ []string) { w.replace(f.Place) },
	"nextNoName":        func(w *world, f boot.Finding, _ []string) { w.replace(f.Place) },
	"nextNoIPv6":        func(w *world, f boot.Finding, _ []string) { w.replace(f.Place) },
	"nextSeeItLoads":    func(w *world, f boot.Finding, _ []string) { w.replace(f.Place) },
	"nextSeeItSets":     func(w *world, f boot.Finding, _ []string) { w.replace(f.Place) },
	"nextBootLoader": func(w *world, f boot.Finding, _ []string) {
		w.word(func(word string) bool {
			return strings.Contains(word, "netfilter") || strings.Contains(word, "nomodule")
		})
	},
	"nextUnmaskWord": func(w *world, _ boot.Finding, args []string) {
		w.word(func(word string) bool { return word == args[0] })
	},
	"nextUnmask": func(w *world, f boot.Finding, args []string) {
		if args[0] == "" || os.Remove(w.path(f.Place.File)) != nil {
			w.t.Errorf("unmask %q", args)
		}
	},
	"nextHide": func(w *world, f boot.Finding, args []string) {
		write(w.t, w.o.Root, args[0], w.read(f.Place.File))
		w.replace(boot.Place{File: args[0], Line: f.Place.Line})
	},
	"nextProfile": func(w *world, _ boot.Finding, args []string) {
		write(w.t, w.o.Root, "/etc/tuned/own/tuned.conf", "[main]\ninclude=base\n[sysctl]\n"+args[0]+"="+args[1]+"\n")
		write(w.t, w.o.Root, "/etc/tuned/active_profile", "own\n")
	},
	"nextLaterName": func(w *world, _ boot.Finding, args []string) {
		os.Remove(w.path(w.o.SysctlD))
		w.o.SysctlD = args[0]
		write(w.t, w.o.Root, args[0], w.policy().SysctlText(&guard.Observation{}))
	},
	"nextApply":       func(w *world, _ boot.Finding, args []string) { w.apply(args[1]) },
	"nextIsReadLater": func(w *world, _ boot.Finding, _ []string) { w.apply(w.o.SysctlD) },
	"nextOwnName": func(w *world, _ boot.Finding, args []string) {
		if args[0] == "sysctl" {
			w.o.SysctlD = args[1]
		} else {
			w.o.ModulesLoad = args[1]
		}
		w.apply(args[1])
	},
	"nextMoveAway": func(w *world, f boot.Finding, _ []string) { os.Remove(w.path(f.Place.File)) },
	"nextSysctlD": func(w *world, f boot.Finding, _ []string) {
		write(w.t, w.o.Root, "/etc/sysctl.d/own.conf", f.Subject+" = 1\n")
	},
	"nextUdevRule": func(w *world, _ boot.Finding, args []string) {
		text, err := os.ReadFile("../../../systemd/nfguard.rules")
		if err != nil {
			w.t.Fatal(err)
		}
		write(w.t, w.o.Root, args[0], string(text))
	},
	"nextSysctlInstead": func(w *world, f boot.Finding, _ []string) {
		w.word(func(word string) bool { return strings.Contains(word, f.Subject) })
		write(w.t, w.o.Root, "/etc/sysctl.d/own.conf", f.Subject+" = 1\n")
	},
	"nextModulesLoad": func(w *world, f boot.Finding, _ []string) {
		write(w.t, w.o.Root, "/etc/modules-load.d/own.conf", f.Subject+"\n")
	},
	"nextKeepLoading": func(*world, boot.Finding, []string) {}, // it stays, as a note that nothing breaks
	"nextBOM": func(w *world, f boot.Finding, _ []string) {
		write(w.t, w.o.Root, f.Place.File, strings.TrimPrefix(w.read(f.Place.File), "\ufeff"))
	},
	"nextName": func(w *world, f boot.Finding, args []string) { w.replace(f.Place, args[0]+"\n") },
	"nextOneName": func(w *world, f boot.Finding, _ []string) {
		was := w.replace(f.Place)
		w.append(f.Place.File, strings.Join(strings.Fields(was), "\n")+"\n")
	},
	"nextMoveComment": func(w *world, f boot.Finding, _ []string) {
		name, comment, _ := strings.Cut(w.replace(f.Place), "#")
		w.append(f.Place.File, "#"+strings.TrimSpace(comment)+"\n"+name+"\n")
	},
	"nextMoveModule": func(w *world, f boot.Finding, _ []string) {
		w.append("/etc/modules-load.d/own.conf", w.replace(f.Place))
	},
	"nextMoveSysctl": func(w *world, f boot.Finding, _ []string) { w.append("/etc/sysctl.d/own.conf", w.replace(f.Place)) },
	"nextCopyLine": func(w *world, f boot.Finding, args []string) {
		w.append(args[0], strings.Split(w.read(f.Place.File), "\n")[f.Place.Line-1]+"\n")
	},
	"nextRename": func(w *world, f boot.Finding, args []string) {
		if err := os.Rename(w.path(f.Place.File), w.path(args[0])); err != nil {
			w.t.Error(err)
		}
	},
	"nextAssign": func(w *world, f boot.Finding, args []string) {
		w.replace(f.Place, args[0]+" = "+args[1]+"\n")
	},
	"nextInstall":    func(w *world, f boot.Finding, _ []string) { w.bring(f.Subject) },
	"nextReinstall":  func(w *world, f boot.Finding, _ []string) { w.bring(f.Subject) },
	"nextOwner":      func(w *world, f boot.Finding, _ []string) { w.bring(f.Subject) },
	"nextOwnerByRPM": func(w *world, f boot.Finding, _ []string) { w.bring(f.Subject) },
	"nextImage":      func(w *world, f boot.Finding, _ []string) { w.bring(f.Subject) },
	"nextSign":       func(w *world, f boot.Finding, _ []string) { w.bring(f.Subject) },
	"nextDepmod": func(w *world, _ boot.Finding, args []string) {
		w.append("/lib/modules/"+args[1]+"/modules.dep", "kernel/net/bridge/br_netfilter.ko:\n")
	},
	"nextReboot":   func(w *world, _ boot.Finding, args []string) { w.o.Release = args[0] },
	"nextRebootOr": func(w *world, _ boot.Finding, args []string) { w.o.Release = args[0] },
	"nextOrBoot":   func(w *world, _ boot.Finding, args []string) { w.o.Release = args[1] },
	"nextForOther": func(w *world, _ boot.Finding, args []string) {
		w.bring(args[0])
		w.o.Release = args[0]
	},
	"nextOtherKernel": func(w *world, _ boot.Finding, _ []string) {
		w.bring("6.9.9-9")
		write(w.t, w.o.Root, "/boot/vmlinuz-6.9.9-9", "")
		w.o.Release = "6.9.9-9"
	},
	"nextRelabel": func(w *world, _ boot.Finding, args []string) {
		if err := unix.Setxattr(w.path(args[1]), "security.selinux", []byte("system_u:object_r:etc_t:s0\x00"), 0); err != nil {
			w.t.Error(err)
		}
	},
	"nextHost": func(w *world, _ boot.Finding, _ []string) { w.o.Loaded = true },
}

func (w *world) apply(name string) {
	text := w.policy().ModulesLoadText()
	if name == w.o.SysctlD {
		text = w.policy().SysctlText(&guard.Observation{})
	}
	if old, err := os.ReadFile(w.path(name)); err == nil && !guard.Ours(old) {
		w.t.Errorf("apply refuses to replace %s", name)
		return
	}
	write(w.t, w.o.Root, name, text)
}

// TestNextStepsHelp walks the next steps: each is carried out as it says, in a
// situation in which it is said, and then the finding is gone. What is left is
// what then stands there: nothing, but where it says so.
func TestNextStepsHelp(t *testing.T) {
	const (
		key  = string(guard.IPTables)
		fwd  = "net.ipv4.ip_forward"
		dep  = "/lib/modules/6.1.0-1/modules.dep"
		rule = `SUBSYSTEM=="module", KERNEL=="br_netfilter", RUN+="`
	)
	type files map[string]string
	none := files{"/etc/modules-load.d/nfguard.conf": ""}
	unset := files{"/etc/sysctl.d/99-zz-nfguard.conf": ""}
	with := func(base files, more files) files {
		all := files{}
		for _, list := range []files{base, more} {
			for name, text := range list {
				all[name] = text
			}
		}
		return all
	}
	newer := files{
		dep: "", "/lib/modules/6.1.0-10/modules.dep": "kernel/net/bridge/br_netfilter.ko:\n",
		"/lib/modules/6.1.0-10/kernel/net/bridge/br_netfilter.ko": "x", "/boot/vmlinuz-6.1.0-10": "x",
	}
	older := files{
		dep: "", "/lib/modules/6.1.0-0/modules.dep": "kernel/net/bridge/br_netfilter.ko:\n",
		"/lib/modules/6.1.0-0/kernel/net/bridge/br_netfilter.ko": "x", "/boot/vmlinuz-6.1.0-0": "x",
	}
	gone := []string{"/lib/modules/6.1.0-1", "/boot/vmlinuz-6.1.0-1"}
	named := func(release string) files {
		return files{"/lib/modules/" + release + "/modules.dep": "\n", "/boot/vmlinuz-" + release: "x"}
	}
	running := func(release string) func(*boot.Options) { return func(o *boot.Options) { o.Release = release } }
	tests := []struct {
		step    string // the constant
		name    string
		files   files
		remove  []string
		link    [2]string
		cmdline string
		root    bool // it takes root's rights
		set     func(*boot.Options)
		key     string   // "": iptables
		left    []string // sentences of findings afterwards
	}{
		{step: "nextRemoveLine", name: "a later file", files: files{"/etc/sysctl.d/~~.conf": "x=1\n" + key + "=0\n"}},
		{step: "nextRemoveLine", name: "taken out", files: files{"/etc/sysctl.d/99-zzz.conf": "-" + key + "\n"}},
		{step: "nextRemoveLine", name: "a blacklist", files: files{"/etc/modprobe.d/x.conf": "blacklist \\\nbr_netfilter\n"}},
		{step: "nextRemoveLine", name: "an install that loads nothing", files: files{"/etc/modprobe.d/x.conf": "install br_netfilter /bin/false\n"}},
		{step: "nextRemoveLine", name: "an install that sets it", files: files{"/etc/modprobe.d/x.conf": "install br_netfilter /sbin/modprobe -i br_netfilter; sysctl -w " + key + "=0\n"}},
		{step: "nextRemoveLine", name: "cron", files: files{"/etc/crontab": "@reboot root sysctl -w " + key + "=0\n"}},
		{step: "nextRemoveLine", name: "sysctl.conf", files: files{"/etc/sysctl.conf": key + "=0\n"}},
		{step: "nextRemoveLine", name: "ufw", files: files{"/etc/ufw/ufw.conf": "ENABLED=yes\n", "/etc/default/ufw": "IPT_SYSCTL=/etc/ufw/sysctl.conf\n", "/etc/ufw/sysctl.conf": key + "=0\n"}},
		{step: "nextNoName", files: files{"/etc/sysctl.d/~~.conf": key + "=0\n"}},
		{step: "nextLaterName", files: files{"/etc/sysctl.d/99-zzz.conf": key + "=0\n"}},
		{step: "nextHide", name: "sysctl.d", files: files{"/usr/lib/sysctl.d/99-zzz.conf": "x=1\n" + key + "=0\n"}},
		{step: "nextHide", name: "udev", files: files{"/usr/lib/udev/rules.d/x.rules": rule + "sysctl -w " + key + "=0\"\n"}},
		{step: "nextHide", name: "a unit", files: files{"/usr/lib/systemd/system/x.service": "[Service]\nExecStart=sysctl " + key + "=0\n", "/etc/systemd/system/multi-user.target.wants/x.service": "x"}},
		{step: "nextRemoveRule", files: files{"/etc/udev/rules.d/x.rules": "# x\n" + rule + "\\\nsysctl -w " + key + "=0\"\n"}},
		{step: "nextRemoveCommand", name: "rc.local", files: files{"/etc/rc.local": "#!/bin/sh\nsysctl -w " + key + "=0\nexit 0\n"}},
		{step: "nextRemoveCommand", name: "an interface", files: files{"/etc/network/interfaces": "auto br0\niface br0 inet manual\n up sysctl -w " + key + "=0\n"}},
		{step: "nextRemoveCommand", name: "a unit", files: files{"/etc/systemd/system/x.service": "[Service]\nExecStart=sysctl \\\n" + key + "=0\n", "/etc/systemd/system/multi-user.target.wants/x.service": "x"}},
		{step: "nextRemoveCommand", name: "a script", files: files{"/usr/local/bin/x": "#!/bin/sh\nsysctl " + key + "=0\n", "/etc/udev/rules.d/x.rules": rule + "/usr/local/bin/x\"\n"}},
		{step: "nextSeeItSets", files: files{"/etc/udev/rules.d/x.rules": rule + "/opt/x " + key + "\"\n"}},
		{step: "nextSeeItLoads", files: files{"/etc/modprobe.d/x.conf": "install br_netfilter /opt/load\n"}},
		{step: "nextProfile", files: files{"/etc/tuned/active_profile": "base\n", "/usr/lib/tuned/base/tuned.conf": "[sysctl]\n" + key + "=0\n", "/etc/tuned/tuned-main.conf": "reapply_sysctl=0\n"}},
		{step: "nextBootLoader", name: "a blacklist", cmdline: "quiet modprobe.blacklist=br_netfilter"},
		{step: "nextBootLoader", name: "no modules", cmdline: "quiet nomodule"},
		{step: "nextRelabel", files: files{
			"/etc/selinux/config":                         "SELINUX=enforcing\nSELINUXTYPE=x\n",
			"/etc/selinux/x/contexts/files/file_contexts": "/etc/.* system_u:object_r:etc_t:s0\n",
		}, root: true, set: func(o *boot.Options) {
			if err := unix.Setxattr(filepath.Join(o.Root, o.SysctlD), "security.selinux", []byte("system_u:object_r:etc_runtime_t:s0\x00"), 0); err != nil {
				t.Fatal(err)
			}
		}},
		{step: "nextUnmaskWord", cmdline: "quiet systemd.mask=systemd-sysctl.service"},
		{step: "nextUnmask", link: [2]string{"/etc/systemd/system/systemd-sysctl.service", "/dev/null"}},
		{step: "nextNoIPv6", key: string(guard.IP6Tables), files: files{"/etc/sysctl.d/99-zz-nfguard.conf": "# Written by nfguard\n" + string(guard.IP6Tables) + " = 1\n"}, cmdline: "ipv6.disable=1"},
		{step: "nextSysctlInstead", cmdline: "sysctl." + key + "=1", files: unset},
		{step: "nextSysctlD", key: fwd, files: unset, set: func(o *boot.Options) { o.SysctlD = "" }},
		{step: "nextUdevRule", files: with(none, files{"/etc/sysctl.d/99-zz-nfguard.conf": key + " = 0\n"}), set: func(o *boot.Options) {
			o.Unneeded, o.Keys = true, []guard.Setting{{Key: guard.IPTables, Value: "0"}}
		}},
		{step: "nextModulesLoad", files: none, set: func(o *boot.Options) { o.ModulesLoad = "" }},
		{step: "nextKeepLoading", files: files{"/etc/sysctl.d/x.conf": "kernel.modules_disabled = 1\n"}, left: []string{
			"at next boot no module can be loaded once systemd-sysctl has run: /etc/sysctl.d/x.conf:1 sets kernel.modules_disabled",
		}},
		{step: "nextApply", name: "the module", files: none},
		{step: "nextApply", name: "the sysctls", key: fwd, files: unset},
		{step: "nextApply", name: "of a tree", files: none, set: func(o *boot.Options) { o.Image, o.Release, o.Apply = true, "", "nfguard apply --root "+o.Root }},
		{step: "nextIsReadLater", key: fwd, files: with(unset, files{"/etc/sysctl.d/10-x.conf": fwd + "=0\n"})},
		{step: "nextOwnName", name: "modules_load", files: files{"/etc/modules-load.d/nfguard.conf": "", "/etc/x.conf": "# Written by nfguard\nbr_netfilter\n"}, set: func(o *boot.Options) { o.ModulesLoad = "/etc/x.conf" }},
		{step: "nextOwnName", name: "sysctl", key: fwd, files: files{"/etc/x.conf": "# Written by nfguard\n" + fwd + " = 1\n"}, set: func(o *boot.Options) { o.SysctlD = "/etc/x.conf" }},
		{step: "nextMoveAway", name: "the module", files: files{"/etc/modules-load.d/nfguard.conf": "overlay\n"}, left: []string{"nothing loads br_netfilter at next boot: no file in modules-load.d names it"}},
		{step: "nextMoveAway", name: "the sysctls", key: fwd, files: files{"/etc/sysctl.d/99-zz-nfguard.conf": "x.y=1\n"}, left: []string{fwd + " will not be set to 1 at next boot: no file in sysctl.d does"}},

		{step: "nextBOM", name: "a module", files: with(none, files{"/etc/modules-load.d/x.conf": "\ufeffbr_netfilter\n"})},
		{step: "nextBOM", name: "a sysctl", key: fwd, files: with(unset, files{"/etc/sysctl.d/x.conf": "\ufeff" + fwd + "=1\n"})},
		{step: "nextName", name: "a command", files: with(none, files{"/etc/modules-load.d/x.conf": "modprobe br_netfilter\n"})},
		{step: "nextName", name: "a letter less", files: with(none, files{"/etc/modules-load.d/x.conf": "br_netfiler\n"})},
		{step: "nextAssign", name: "a name that is none", key: fwd, files: with(unset, files{"/etc/sysctl.d/x.conf": "net.ipv4.ip_forwrd = 1\n"})},
		{step: "nextOneName", files: with(none, files{"/etc/modules-load.d/x.conf": "overlay br_netfilter\n"})},
		{step: "nextMoveComment", files: with(none, files{"/etc/modules-load.d/x.conf": "overlay\nbr_netfilter # why\n"})},
		{step: "nextMoveModule", files: with(none, files{"/etc/modules": "br_netfilter\n"})},
		{step: "nextMoveSysctl", key: fwd, files: with(unset, files{"/etc/sysctl.conf": "x=1\n" + fwd + "=1\n"})},
		{step: "nextCopyLine", name: "a module", files: with(none, files{"/usr/lib/modules-load.d/x.conf": "br_netfilter\n", "/etc/modules-load.d/x.conf": "# off\n"})},
		{step: "nextCopyLine", name: "a sysctl", key: fwd, files: with(unset, files{"/usr/lib/sysctl.d/x.conf": fwd + "=1\n", "/etc/sysctl.d/x.conf": "# off\n"})},
		{step: "nextRename", name: "a module", files: with(none, files{"/etc/modules-load.d/k8s": "overlay\nbr_netfilter\n"})},
		{step: "nextRename", name: "a sysctl", key: fwd, files: with(unset, files{"/usr/lib/sysctl.d/x.config": fwd + "=1\n", "/etc/sysctl.d/y.conf": "# there\n"})},
		{step: "nextAssign", name: "no equals sign", key: fwd, files: with(unset, files{"/etc/sysctl.d/x.conf": fwd + " 1\n"})},
		{step: "nextAssign", name: "a refused value", key: fwd, files: with(unset, files{"/etc/sysctl.d/x.conf": fwd + " = on\n"})},

		{step: "nextInstall", files: named("6.1.0-1-amd64"), remove: gone, set: running("6.1.0-1-amd64")},
		{step: "nextReinstall", files: with(named("6.1.0-1-amd64"), files{"/usr/share/doc/linux-image-6.1.0-1-amd64/copyright": "x"}), remove: gone, set: running("6.1.0-1-amd64")},
		{step: "nextOwner", files: named("6.1.1"), remove: gone, set: running("6.1.1")},
		{step: "nextOwnerByRPM", files: with(named("6.1.1"), files{"/var/lib/rpm/x": "x"}), remove: gone, set: running("6.1.1")},
		{step: "nextImage", files: named("6.1.1-flatcar"), remove: gone, set: running("6.1.1-flatcar")},
		{step: "nextDepmod", files: files{dep: "\n"}},
		{step: "nextSign", files: files{"/lib/modules/6.1.0-1/kernel/net/bridge/br_netfilter.ko": "\x7fELF, and no signature at its end"}, cmdline: "module.sig_enforce"},
		{step: "nextReboot", files: newer, remove: gone},
		{step: "nextForOther", files: named("6.1.0-9-amd64"), remove: gone},
		{step: "nextRebootOr", files: newer, remove: []string{"/lib/modules/6.1.0-1/kernel"}, left: []string{"kernel 6.1.0-1 will come up without br_netfilter: it is not in /lib/modules/6.1.0-1"}},
		{step: "nextOrBoot", files: older, remove: []string{"/lib/modules/6.1.0-1/kernel"}, left: []string{"kernel 6.1.0-1 will come up without br_netfilter: it is not in /lib/modules/6.1.0-1"}},
		{step: "nextOtherKernel", files: files{dep: "\n", "/boot/config-6.1.0-1": "CONFIG_NET=y\n"}, remove: []string{"/lib/modules/6.1.0-1/kernel"}, left: []string{"kernel 6.1.0-1 will come up without br_netfilter: that kernel was built without CONFIG_BRIDGE_NETFILTER"}},
		{step: "nextHost", files: files{"/run/.containerenv": "x"}, remove: gone},
	}
	steps, walked := nextSteps(t), make(map[string]bool)
	for _, tt := range tests {
		walked[tt.step] = true
		t.Run(strings.TrimSuffix(tt.step+" "+tt.name, " "), func(t *testing.T) {
			if tt.root {
				lab.Need(t, lab.Root)
			}
			o := hostWith(t, tt.files)
			w := &world{t, o}
			for _, name := range tt.remove {
				os.RemoveAll(w.path(name))
			}
			if tt.link[0] != "" {
				link(t, w.o.Root, tt.link[0], tt.link[1])
			}
			w.o.Cmdline = tt.cmdline
			if w.o.Keys[0].Key = guard.IPTables; tt.key != "" {
				w.o.Keys = []guard.Setting{{Key: guard.Key(tt.key), Value: "1"}}
				if tt.files["/etc/sysctl.d/99-zz-nfguard.conf"] == "" {
					os.Remove(w.path("/etc/sysctl.d/99-zz-nfguard.conf"))
				}
			}
			if tt.set != nil {
				tt.set(&w.o)
			}
			found := findings(&w.o)
			i := slices.IndexFunc(found, func(f boot.Finding) bool {
				_, ok := said(steps[tt.step], f.Next)
				return ok
			})
			if i < 0 {
				t.Fatalf("nothing says %q:\n%+v", steps[tt.step], found)
			}
			args, _ := said(steps[tt.step], found[i].Next)
			deeds[tt.step](w, found[i], args)
			var left []string
			for _, f := range findings(&w.o) {
				left = append(left, f.Sentence)
			}
			if diff := cmp.Diff(tt.left, left); diff != "" {
				t.Errorf("%s: %s\nthen (-want +got):\n%s", found[i].Sentence, found[i].Next, diff)
			}
		})
	}
	for name := range steps {
		if !walked[name] {
			t.Errorf("nobody has walked %s", name)
		}
	}
}

// findings are those of a forecast, and what is said of the module on the running
// kernel, which check has in the module's own line.
func findings(o *boot.Options) []boot.Finding {
	r := boot.Forecast(*o)
	list := r.Findings
	if m := r.Module; m.Next != "" && m.State != boot.Container && m.State != boot.Forbidden {
		list = append([]boot.Finding{{Subject: o.Release, Sentence: m.Reason, Next: m.Next}}, list...)
	}
	return list
}
