package boot

import (
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// The parsers take whatever is in a file: they never panic, and a place that
// they name is in the file.

func FuzzSysctl(f *testing.F) {
	f.Add("net.bridge.bridge-nf-call-iptables = 1\n-net/*/b[a-\n# x\n{a,{b,c}}*=\x00\n", "1")
	f.Add("-\n=\n-=\n/=/\n.=.\n[=[\n\\=\\\n{{,}}?=1", "1")
	f.Fuzz(func(t *testing.T, text, want string) {
		lines := parseSysctl("f", []byte(text), func(string) bool { return true })
		total := strings.Count(text, "\n") + 1
		for _, key := range []string{"net/bridge/bridge-nf-call-iptables", "a"} {
			s := guard.Setting{Key: guard.Key(strings.ReplaceAll(key, "/", ".")), Value: want}
			writes, _ := systemdWrites(lines, key)
			for _, w := range [][]assignment{writes, procpsWrites(lines, key, procpsKinds[3]), procpsWrites(lines, key, procpsKinds[0])} {
				o := outcome(SystemdSysctl, s, w)
				if o.Line < 0 || o.Line > total {
					t.Errorf("%+v of %d lines", o, total)
				}
				// What is written once more, last and by name, wins with each reader.
				last := append(lines[:len(lines):len(lines)], assignment{Place{"g", 1}, key, key, "1", true})
				again, _ := systemdWrites(last, key)
				for _, w := range [][]assignment{again, procpsWrites(last, key, procpsKinds[3]), procpsWrites(last, key, procpsKinds[0])} {
					if o := outcome(SystemdSysctl, guard.Setting{Key: s.Key, Value: "1"}, w); o.Effect != "1" || o.File != "g" {
						t.Errorf("the last line does not win: %+v", o)
					}
				}
			}
		}
	})
}

func FuzzModprobe(f *testing.F) {
	f.Add("install br_* \\\n /bin/false\nblacklist br-netfilter\n# \\\n\\", "module_blacklist=\"a b\",c -- x=y")
	f.Fuzz(func(t *testing.T, text, cmdline string) {
		rules := parseModprobe("f", []byte(text), len(text)%2 == 0)
		fc := forecast{o: &Options{}, t: &tree{}, words: parseCmdline(cmdline)}
		r := fc.forbidden(rules, "br_netfilter", []string{"bridge"})
		if r != nil && (r.Line < 0 || r.Line > strings.Count(text, "\n")+1 || r.text == "") {
			t.Errorf("%+v", r)
		}
		fc.bootSysctl("a/b")
		fc.ipv6Off()
	})
}

func FuzzModulesDep(f *testing.F) {
	f.Add("kernel/net/br_netfilter.ko#/br_netfilter.ko.xz: kernel")
	f.Add("kernel/x.ko: kernel/net/bridge/br_netfilter.ko\nkernel/net/bridge/br_netfilter.ko.xz: kernel/net/bridge/bridge.ko.xz\n")
	f.Fuzz(func(t *testing.T, text string) {
		names := []string{"/br_netfilter.ko", "/br-netfilter.ko"}
		got, ok := entry([]byte(text), names)
		want := "" // what looking at each line says
		for _, name := range names {
			for line := range strings.Lines(text) {
				line = strings.TrimSuffix(line, "\n")
				file, _, _ := strings.Cut(line, ":")
				for _, end := range []string{"", ".xz", ".zst", ".gz"} {
					if want == "" && strings.HasSuffix(file, name+end) {
						want = line
					}
				}
			}
		}
		if got != want || ok != (want != "") {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

// FuzzStarts: whatever is run at boot, the places that are named are in it.
func FuzzStarts(f *testing.F) {
	f.Add("for i in a b; do echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables; done\nf() { f; }; f\nsysctl -w net.bridge.bridge-nf-call-iptables=$x", `ACTION=="add", GOTO="x"\`+"\n"+`RUN+="/bin/sh -c 'echo $$f'", LABEL="x"`)
	f.Add("if [ -e /x ]; then cat <<E; fi; case x in x) y;; esac; `", `[Service]`+"\nExecStart=-sysctl \\\n a=\"b\"\n")
	f.Fuzz(func(t *testing.T, text, file string) {
		o := Options{Module: "br_netfilter"}
		fc := forecast{o: &o, t: &tree{}, paths: []string{guard.IPTables.Path()}}
		ran := fc.runs(Place{"x", 1}, text, true)
		lines := strings.Count(text, "\n") + 1
		for _, a := range ran.acts {
			if a.at.Line < 1 || a.at.Line > lines {
				t.Errorf("%+v of %d lines", a, lines)
			}
		}
		rules := parseUdev("f", file)
		for i := range rules {
			fc.udevActs(&rules[i])
			for _, e := range rules[i].events("br_netfilter") {
				fc.t.reaches(rules, jumps(rules), i, e)
			}
		}
		unitCommands("f", file, nil)
		words(file)
	})
}

func FuzzTuned(f *testing.F) {
	f.Add("[main]\ninclude=a, b\n[sysctl]\nreplace=1\nx=1 # y\n[]\n[\n]\n=\n[x]\ntype=sysctl")
	f.Fuzz(func(_ *testing.T, text string) {
		parseProfile("f", []byte(text))
		shellValue([]byte(text), "ENABLED")
		mainOption([]byte(text), "reapply_sysctl")
	})
}
