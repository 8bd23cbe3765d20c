package attack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nfguard/nfguard/internal/printable"
	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// worker is a node with names that others choose.
type worker struct {
	*lab.Namespace
	t   *testing.T
	dir string
}

func newWorker(t *testing.T, config string) *worker {
	t.Helper()
	w := &worker{Namespace: lab.NewNamespace(t), t: t, dir: t.TempDir()}
	w.write("nfguard.toml", config+fmt.Sprintf("\n[persist]\nmodules_load = %q\nsysctl = %q\n", w.dir+"/modules.conf", w.dir+"/99-zz-nfguard.conf"))
	return w
}

func (w *worker) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// nfguard returns a command on a host without a journal and a CNI configuration.
func (w *worker) nfguard(args ...string) *exec.Cmd {
	cmd := w.Command("unshare", append([]string{
		"-m", "--propagation", "private", "sh", "-c",
		`mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /etc && mount -t tmpfs tmpfs /var/lib && exec "$@"`, "sh", binary,
	}, append(args, "--config", w.dir+"/nfguard.toml")...)...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+w.dir+"/run")
	return cmd
}

// run starts the daemon, waits until its output is enough, and returns it.
func (w *worker) run() (until func(enough func(said string) bool) string) {
	w.t.Helper()
	path := filepath.Join(w.dir, "said")
	out, err := os.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := w.nfguard("run")
	cmd.Stderr, cmd.SysProcAttr = out, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	w.Do(func() { err = cmd.Start() }) // its thread lasts as long as the test
	out.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return func(enough func(string) bool) string {
		w.t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			said, err := os.ReadFile(path)
			if err != nil || time.Now().After(deadline) {
				w.t.Fatalf("%v, nfguard said:\n%s", err, said)
			}
			if enough(string(said)) {
				return string(said)
			}
		}
	}
}

// harmless fails the test if text contains something that a terminal acts on, or that
// is not text.
func harmless(t *testing.T, what string, text []byte) {
	t.Helper()
	if !utf8.Valid(text) {
		t.Errorf("%s is no UTF-8: %q", what, text)
	}
	for _, r := range string(text) {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || strings.ContainsRune("\u200b\u200e\u202a\u202e\u2066\ufeff", r) {
			t.Errorf("%s has %q in it:\n%q", what, r, text)
			return
		}
	}
}

// names are names with which a process tries to hide, and how they are shown.
var names = map[string]string{
	"\x01":               `\x01`,
	"\xff":               `\xff`,
	"\x1b]0;x\a":         `\x1b]0;x\a`,
	"\x1b[8m":            `\x1b[8m`,
	"two\nlines":         `two\nlines`,
	"a\u202egpj":         `a\u202egpj`,
	"\u200b":             `\u200b`,
	"\r\x1b[2Knobody":    `\r\x1b[2Knobody`,
	"x[1])\nOBJECT_PID=": `x[1])\nOBJECT_PI`, // the kernel keeps 15 bytes
}

// A writer cannot hide by its name, neither from the records nor from status.
func TestM5WriterHidesByItsName(t *testing.T) {
	w := newWorker(t, "")
	until := w.run()
	until(func(said string) bool { return strings.Contains(said, `"NFGUARD_EVENT":"start"`) })
	for name, shown := range names {
		w.Run(t, "sh", "-c", `printf %s "$0" >/proc/$$/comm; echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables`, name)
		said := until(func(said string) bool {
			for line := range strings.Lines(said) {
				var r map[string]string
				if json.Unmarshal([]byte(line), &r) == nil && strings.Contains(r["MESSAGE"], " "+printable.UTF8(shown)+"[") && strings.HasPrefix(r["MESSAGE"], "net.bridge.") {
					return true
				}
			}
			return false
		})
		harmless(t, "the record", []byte(said))
	}
	for _, args := range [][]string{{"status"}, {"status", "-o", "json"}} {
		out, _ := w.nfguard(args...).CombinedOutput()
		harmless(t, strings.Join(args, " "), out)
	}
}

// Bridges can have any name that the kernel accepts. Output, JSON and metrics stay
// valid, and different names stay different.
func TestM6NamesOfBridges(t *testing.T) {
	w := newWorker(t, "[metrics]\ntextfile = \"/run/nfguard.prom\"\n")
	w.write("nfguard.toml", strings.ReplaceAll(read(t, w.dir+"/nfguard.toml"), "/run/nfguard.prom", w.dir+"/nfguard.prom"))
	bridges := []string{"br\x1b[2J", "x\xff", "x\xfe", `x\xff`, "a\u202eb", "z\u200b"}
	for _, name := range bridges {
		w.Run(t, "ip", "link", "add", "name", name, "type", "bridge")
		w.Run(t, "ip", "link", "add", "master", name, "type", "veth", "peer", "netns", lab.NewNamespace(t).Path())
	}
	for _, args := range [][]string{
		{"check"},
		{"check", "-o", "json"},
		{"check", "-o", "npd"},
		{"apply"},
		{"apply", "-o", "json"},
		{"probe", "--bridge", "br\x1b[2J", "--yes"},
		{"probe", "--bridge", "no\x1b[2J\xff"},
		{"probe", "dns", "--bridge", "a\u202eb", "no\x1b.example"},
		{"trace", "no\x1b[2J\xff"},
		{"no\x1b[2Jcommand"},
		{"config", "check", "no\x1b[2Jfile"},
		{"check", "--root", w.dir + "/no\x1b[2J"},
	} {
		out, _ := w.nfguard(args...).CombinedOutput() // whatever its exit code
		harmless(t, fmt.Sprintf("%q", args), out)
		if len(out) == 0 {
			t.Errorf("%q says nothing", args)
		}
	}

	out, _ := w.nfguard("check", "-o", "json").Output()
	var d struct{ Bridges []struct{ Name string } }
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, b := range d.Bridges {
		seen[b.Name] = true
	}
	for _, want := range []string{"br\x1b[2J", `x\xff`, `x\xfe`, `x\\xff`, "a\u202eb", "z\u200b"} {
		if !seen[want] {
			t.Errorf("no bridge %q in the JSON of check: %v", want, seen)
		}
	}

	until := w.run()
	until(func(said string) bool {
		_, err := os.Stat(w.dir + "/nfguard.prom")
		return err == nil && strings.Contains(said, `"NFGUARD_EVENT":"start"`)
	})
	prom := read(t, w.dir+"/nfguard.prom")
	harmless(t, "the textfile", []byte(prom))
	series := make(map[string]bool)
	for line := range strings.Lines(prom) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			if series[line[:i]] {
				t.Errorf("twice in the textfile: %s", line[:i])
			}
			series[line[:i]] = true
		}
	}
	if n := strings.Count(prom, "nfguard_bridge_pods{"); n != len(bridges) {
		t.Errorf("%d bridges in the textfile, want %d:\n%s", n, len(bridges), prom)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A user who can change the endpoints of a Service can make kube-proxy's rules point to
// the network of somebody else's containers. Their bridge is not touched.
func TestM3EndpointsSteerNoFlags(t *testing.T) {
	w := newWorker(t, "scope = \"bridges\"\n[bridges]\nmatch = \"auto\"\n")
	for i, name := range []string{"incusbr0", "podman0", "br-0123456789ab", "tenants"} {
		w.Run(t, "ip", "link", "add", name, "up", "type", "bridge")
		w.Run(t, "ip", "addr", "add", fmt.Sprintf("10.244.0.%d/24", 250+i), "dev", name)
		w.Run(t, "ip", "link", "add", "master", name, "type", "veth", "peer", "netns", lab.NewNamespace(t).Path())
	}
	standin.Start(t, w.Namespace, standin.Build(t), "-backend=nft", "-services=3")
	flags := func() string {
		return w.Run(t, "ip", "-d", "link", "show", "type", "bridge")
	}
	for range 2 {
		var out []byte
		for deadline := time.Now().Add(time.Minute); !bytes.Contains(out, []byte("although kube-proxy's rules send to 10.244.0.")); time.Sleep(100 * time.Millisecond) {
			out, _ = w.nfguard("check").CombinedOutput() // until the rules are there
			if time.Now().After(deadline) {
				t.Fatalf("check sees no rules:\n%s", out)
			}
		}
		if out, err := w.nfguard("apply").CombinedOutput(); err != nil {
			t.Errorf("apply: %v\n%s", err, out)
		}
		if got := flags(); strings.Contains(got, "nf_call_iptables 1") || strings.Contains(got, "nf_call_ip6tables 1") {
			t.Fatalf("flags are set:\n%s", got)
		}
	}
	out, _ := w.nfguard("check").CombinedOutput()
	for _, want := range []string{"ignored by incusbr*", "ignored by podman*"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("%s: not said\n%s", want, out)
		}
	}
}

// Root in a container writes a journal entry like nfguard's: in each of its formats,
// events says that nfguard.service did not write it.
func TestL1ForgedRecord(t *testing.T) {
	lab.Need(t, lab.Root)
	const id = "2f1a6c0de4b5978812cd3390fe76ab54c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6"
	entry := func(teller string) string {
		return "__REALTIME_TIMESTAMP=1795405977698463\n_BOOT_ID=b\n_HOSTNAME=w\n_MACHINE_ID=m\n_UID=0\n_PID=77\n_COMM=nfguard\n" + teller +
			"MESSAGE=net.bridge.bridge-nf-call-iptables was 0, set back to 1\nNFGUARD_EVENT=drift\nNFGUARD_OUTCOME=corrected\n" +
			"NFGUARD_SUBJECT=net.bridge.bridge-nf-call-iptables\nNFGUARD_WANT=1\nNFGUARD_HAVE=0\nNFGUARD_NOW=1\nNFGUARD_SOURCE=sysctl\n\n"
	}
	export := filepath.Join(t.TempDir(), "export")
	text := entry("_SYSTEMD_UNIT=nfguard.service\n_SYSTEMD_CGROUP=/system.slice/nfguard.service\n") +
		entry("_SYSTEMD_UNIT=cri-containerd-"+id+".scope\n_SYSTEMD_CGROUP=/kubepods.slice/cri-containerd-"+id+".scope\n")
	if err := os.WriteFile(export, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for form, want := range map[string]string{"text": "not by nfguard.service", "json": `"origin":"other"`, "html": "not by nfguard.service"} {
		out, err := exec.Command(binary, "events", "--journal", export, "-o", form).CombinedOutput()
		if n := bytes.Count(out, []byte(want)); n != 1 || err != nil {
			t.Errorf("%s: %v, %q is said %d times:\n%s", form, err, want, n, out)
		}
	}
}
