package attack

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

// place is a test's directory, and a network namespace in which every key is 0.
type place struct {
	*lab.Namespace
	t   *testing.T
	dir string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{Namespace: lab.NewNamespace(t), t: t, dir: t.TempDir()}
	p.Run(t, "sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > $f; done")
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// write writes a file and returns its path.
func (p *place) write(name, text string) string {
	p.t.Helper()
	path := p.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func (p *place) read(name string) string {
	p.t.Helper()
	text, err := os.ReadFile(p.path(name))
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// link makes a link and returns its path.
func (p *place) link(target, name string) string {
	p.t.Helper()
	path := p.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// list lists everything below a directory, with the content of files.
func (p *place) list(name string) string {
	p.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(p.path(name), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			text, e := os.ReadFile(path)
			fmt.Fprintf(&b, "%s: %q %v\n", strings.TrimPrefix(path, p.dir), text, e)
		}
		return err
	})
	if err != nil {
		p.t.Error(err)
	}
	return b.String()
}

// shell runs a script in the network namespace and in its own mount namespace, and
// returns its output and exit code. $D is the directory, and nfguard the binary.
func (p *place) shell(script string) (out string, code int) {
	p.t.Helper()
	cmd := p.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "nfguard() { "+binary+" \"$@\"; }\n"+script)
	cmd.Env = append(os.Environ(), "D="+p.dir, "RUNTIME_DIRECTORY="+p.path("run"), "NO_COLOR=1")
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatalf("%s: %v\n%s", script, err, text)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

const bridgeKeys = "cat /proc/sys/net/bridge/bridge-nf-call-*tables | tr -d '\\n'"

// done returns the lines about what was done, or would be done.
func done(out, would string) (lines []string) {
	for _, m := range regexp.MustCompile(`(?m)^`+would+`((?:write|set|load|flag) .*)$`).FindAllStringSubmatch(out, -1) {
		lines = append(lines, m[1])
	}
	return lines
}

// TestC1TreeHasNoKernel: whatever the configuration of a tree guards, no sysctl
// of the running kernel is set, and a dry run says all that is done.
func TestC1TreeHasNoKernel(t *testing.T) {
	p := newPlace(t)
	p.write("tree/etc/nfguard/nfguard.toml", `[sysctl]
"kernel.core_pattern" = "|/tmp/x %p"
"net.ipv4.ip_forward" = 1
[confirm]
sysctl = ["kernel.core_pattern"]
`)
	p.write("core_pattern", "core\n")
	const hide = "mount --bind $D/core_pattern /proc/sys/kernel/core_pattern\n" // so that a failing test does not harm the host
	planned, code := p.shell(hide + "nfguard apply --dry-run --root $D/tree")
	if code != 1 {
		t.Errorf("the dry run exits %d:\n%s", code, planned)
	}
	if _, err := os.Stat(p.path("tree/etc/sysctl.d")); err == nil {
		t.Error("the dry run has written")
	}
	forward, _ := p.shell("cat /proc/sys/net/ipv4/ip_forward")
	out, code := p.shell(hide + "nfguard apply --root $D/tree")
	if code != 0 {
		t.Errorf("apply exits %d:\n%s", code, out)
	}
	if got := p.read("core_pattern"); got != "core\n" {
		t.Errorf("kernel.core_pattern is %q", got)
	}
	if got, _ := p.shell(bridgeKeys); got != "000" {
		t.Errorf("the keys are %s", got)
	}
	if got, _ := p.shell("cat /proc/sys/net/ipv4/ip_forward"); got != forward {
		t.Errorf("net.ipv4.ip_forward was %s and is %s", forward, got)
	}
	if was, is := done(planned, "would "), done(out, ""); len(was) != 2 || strings.Join(was, "\n") != strings.Join(is, "\n") {
		t.Errorf("would do %q, did %q", was, is)
	}
	if text := p.read("tree/etc/sysctl.d/99-zz-nfguard.conf"); !strings.Contains(text, "\nkernel.core_pattern = |/tmp/x %p\n") {
		t.Errorf("the drop-in of the tree is\n%s", text)
	}
	if out, code := p.shell("nfguard check --root $D/tree"); code != 0 {
		t.Errorf("check exits %d:\n%s", code, out)
	}
}

// TestT10TreeExitsAsCheck: if another file undoes ours, apply says so at once, and each
// next step names the tree.
func TestT10TreeExitsAsCheck(t *testing.T) {
	p := newPlace(t)
	p.write("tree/usr/lib/sysctl.d/zz-hardening.conf", "net.bridge.bridge-nf-call-iptables=0\n")
	for i, command := range []string{"check", "apply --dry-run", "apply", "check", "apply"} {
		out, code := p.shell("nfguard " + command + " --root $D/tree")
		if code != 1 {
			t.Errorf("%d: %s exits %d:\n%s", i, command, code, out)
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, "nfguard apply") && !strings.Contains(line, "nfguard apply --root "+p.path("tree")) {
				t.Errorf("%s: a next step does not name the tree: %s", command, line)
			}
		}
	}
	os.Remove(p.path("tree/usr/lib/sysctl.d/zz-hardening.conf"))
	if out, code := p.shell("nfguard apply --root $D/tree && nfguard check --root $D/tree"); code != 0 {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// TestH2TreeHasNoWayOut: links in a tree lead where they would on the host whose tree it
// is, never to the host that it is on.
func TestH2TreeHasNoWayOut(t *testing.T) {
	const up = "../../../../../../../../../../../.."
	tests := map[string]struct {
		make   func(p *place)
		before string // runs before the command, in its own mount namespace
		code   int
		inside string // the drop-in, below the tree; "" if it is refused
	}{
		"etc/sysctl.d, absolute": {
			make:   func(p *place) { p.link(p.path("victim"), "tree/etc/sysctl.d") },
			inside: "DIR/victim/99-zz-nfguard.conf",
		},
		"etc/sysctl.d, relative": {
			make:   func(p *place) { p.link(up+p.path("victim"), "tree/etc/sysctl.d") },
			inside: "DIR/victim/99-zz-nfguard.conf",
		},
		"etc, absolute": {
			make:   func(p *place) { p.link(p.path("victim"), "tree/etc") },
			inside: "DIR/victim/sysctl.d/99-zz-nfguard.conf",
		},
		"by /proc/self/root": {
			make: func(p *place) { p.link("/proc/self/root"+p.path("victim"), "tree/etc/sysctl.d") },
			code: 1,
		},
		"by /proc/self/root, with a /proc in the tree": {
			make: func(p *place) {
				p.link("/proc/self/root"+p.path("victim"), "tree/etc/sysctl.d")
				os.Mkdir(p.path("tree/proc"), 0o755)
			},
			before: "mount --bind /proc $D/tree/proc\n", code: 1,
		},
		"by [persist] and a link": {
			make: func(p *place) {
				p.link(p.path("victim"), "tree/x/v")
				p.write("tree/etc/nfguard/nfguard.toml", "[persist]\nsysctl = \"/x/v/resolv.conf\"\n")
			},
			inside: "DIR/victim/resolv.conf",
		},
		"by [persist] and /proc": {
			make: func(p *place) {
				p.write("tree/etc/nfguard/nfguard.toml", fmt.Sprintf("[persist]\nsysctl = %q\n", "/proc/self/root"+p.path("victim/resolv.conf")))
			},
			code: 1,
		},
		"by [persist], a /run of the host": {
			make: func(p *place) {
				os.Mkdir(p.path("tree/run"), 0o755)
				p.write("tree/etc/nfguard/nfguard.toml", "[persist]\nsysctl = \"/run/sysctl.d/x.conf\"\n")
			},
			before: "mount --bind $D/victim $D/tree/run\n", code: 1,
		},
		"the drop-in itself": {
			make: func(p *place) { p.link(up+p.path("victim/resolv.conf"), "tree/etc/sysctl.d/99-zz-nfguard.conf") },
			code: 1,
		},
		"the file in the making": {
			make: func(p *place) {
				p.link(up+p.path("victim/resolv.conf"), "tree/etc/sysctl.d/.99-zz-nfguard.conf.nfguard-new")
			},
			inside: "etc/sysctl.d/99-zz-nfguard.conf",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.write("tree/keep", "")
			p.write("victim/resolv.conf", "nameserver 192.0.2.1\n")
			p.write("victim/.resolv.conf12", "somebody's\n")
			p.write("victim/.99-zz-nfguard.conf3", "somebody's\n")
			tt.make(p)
			before := p.list("victim")
			planned, _ := p.shell(tt.before + "nfguard apply --dry-run --root $D/tree")
			out, code := p.shell(tt.before + "nfguard apply --root $D/tree")
			if code != tt.code {
				t.Errorf("exit %d, want %d:\n%s", code, tt.code, out)
			}
			if after := p.list("victim"); after != before {
				t.Errorf("outside the tree there was\n%sand is\n%s", before, after)
			}
			if was, is := done(planned, "would "), done(out, ""); strings.Join(was, "\n") != strings.Join(is, "\n") {
				t.Errorf("would do %q, did %q:\n%s", was, is, out)
			}
			if tt.inside != "" {
				text := p.read("tree/" + strings.ReplaceAll(tt.inside, "DIR", p.dir))
				if !strings.HasPrefix(text, "# Written by nfguard") {
					t.Errorf("the drop-in is %q", text)
				}
			}
			if out, code := p.shell(tt.before + "nfguard check --root $D/tree"); code != tt.code {
				t.Errorf("check exits %d after it:\n%s", code, out)
			}
		})
	}
	t.Run("the configuration", func(t *testing.T) {
		p := newPlace(t)
		p.write("victim/nfguard.toml", "secret = \"of the host\"\n")
		p.link(p.path("victim"), "tree/etc/nfguard")
		if out, code := p.shell("nfguard config show --root $D/tree"); code != 0 || strings.Contains(out, "secret") {
			t.Errorf("exit %d:\n%s", code, out)
		}
		p.write("tree2/etc/keep", "")
		p.link(p.path("victim/nfguard.toml"), "tree2/etc/nfguard/nfguard.toml")
		if out, code := p.shell("nfguard config show --root $D/tree2"); code != 2 || strings.Contains(out, "secret") {
			t.Errorf("exit %d:\n%s", code, out)
		}
	})
}

// TestL9DangerousKeysAreConfirmed, by root, in the configuration.
func TestL9DangerousKeysAreConfirmed(t *testing.T) {
	p := newPlace(t)
	p.write("nfguard.toml", "[sysctl]\n\"kernel.core_pattern\" = \"|/tmp/x %p\"\n\"kernel.modprobe\" = \"/tmp/x\"\n")
	out, code := p.shell("nfguard apply --dry-run --config $D/nfguard.toml")
	for _, want := range []string{
		":2: sysctl.\"kernel.core_pattern\": the kernel runs it as a program, as root\n",
		":3: sysctl.\"kernel.modprobe\": the kernel runs it as a program, as root\n",
		"nfguard: hint: if you mean it, list the key under [confirm] too: sysctl = [\"kernel.modprobe\"]\n",
	} {
		if code != 2 || !strings.Contains(out, want) {
			t.Errorf("exit %d, want %q:\n%s", code, want, out)
		}
	}
	p.write("conf.d/confirm.toml", "confirm.sysctl = [\"kernel.core_pattern\", \"kernel.modprobe\"]\n")
	if out, code := p.shell("nfguard config show --config $D/nfguard.toml"); code != 0 || !strings.Contains(out, "|/tmp/x %p") {
		t.Errorf("confirmed: exit %d:\n%s", code, out)
	}
}

// TestL5ConfigurationIsRoots: a configuration that others can change is refused, with
// the command that fixes it.
func TestL5ConfigurationIsRoots(t *testing.T) {
	p := newPlace(t)
	p.write("etc/nfguard.toml", "mode = \"observe\"\n")
	p.write("etc/conf.d/a.toml", "")
	for _, name := range []string{"etc", "etc/nfguard.toml", "etc/conf.d", "etc/conf.d/a.toml"} {
		for _, spoil := range []string{"chmod g+w", "chmod o+w", "chown 65534"} {
			out, _ := p.shell(spoil + " $D/" + name + "; nfguard config show --config $D/etc/nfguard.toml; echo exit $?")
			m := regexp.MustCompile(`nfguard: hint: (ch(?:mod|own) .*)\n`).FindStringSubmatch(out)
			if m == nil || !strings.Contains(out, "exit 2\n") || !strings.Contains(out, p.path(name)+": is ") {
				t.Fatalf("after %s %s:\n%s", spoil, name, out)
			}
			if out, code := p.shell(m[1] + "; nfguard config show --config $D/etc/nfguard.toml"); code != 0 || !strings.Contains(out, "observe") {
				t.Errorf("after %s, and then %s: exit %d:\n%s", spoil, m[1], code, out)
			}
		}
	}
}

// TestM7FilesOfOthersStay, however they are named under [persist].
func TestM7FilesOfOthersStay(t *testing.T) {
	p := newPlace(t)
	admin := p.write("10-admin.conf", "kernel.panic = 10\n")
	dot := p.write(".10-admin.conf1", "somebody's\n")
	p.write("nfguard.toml", fmt.Sprintf("[persist]\nmodules_load = %q\nsysctl = %q\n", p.path("modules.conf"), admin))
	stays := func(by string) {
		t.Helper()
		if p.read("10-admin.conf") != "kernel.panic = 10\n" || p.read(filepath.Base(dot)) != "somebody's\n" {
			t.Errorf("%s: there is\n%s", by, p.list("."))
		}
	}
	for _, command := range []string{"check", "apply --dry-run", "apply", "apply"} {
		out, code := p.shell("nfguard " + command + " --config $D/nfguard.toml")
		if code != 1 || !strings.Contains(out, "somebody else's, wanted as written by nfguard") || !strings.Contains(out, "or name another file: sysctl under [persist]") {
			t.Errorf("%s: exit %d:\n%s", command, code, out)
		}
		stays(command)
	}
	d := p.daemon("", "--config", p.path("nfguard.toml"))
	d.says(`"NFGUARD_SUBJECT":"` + admin + `"`)
	d.says("is somebody else's")
	d.stop()
	stays("the daemon")
	if out := p.list("."); bytes.Count([]byte(out), []byte(".nfguard-new")) > 0 {
		t.Errorf("left behind:\n%s", out)
	}
}
