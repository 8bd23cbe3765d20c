package boot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/test/lab"
)

// TestShell holds what is read of commands against what sh, sysctl and
// systemd-sysctl do with them, in a network namespace for each. D is the guarded
// sysctl, which is 1 before, and P its file.
func TestShell(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	lab.Tool(t, lab.Root, "sysctl")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"off.conf":   "# x\nnet.bridge.bridge-nf-call-iptables = 0\n",
		"on.conf":    "net/bridge/bridge-nf-call-iptables=1\n",
		"glob.conf":  "net.bridge.bridge-nf-call-ip*=0\n",
		"other.conf": "net.ipv4.ip_forward=1\n",
		"off.sh":     "#!/bin/sh\nset -e\nsysctl -q -w net.bridge.bridge-nf-call-iptables=0\n",
		"args.sh":    "#!/bin/sh\n[ \"$1\" = off ] && sysctl -q -w net.bridge.bridge-nf-call-iptables=0\nexit 0\n",
		"exit.sh":    "#!/bin/sh\nexit 0\nsysctl -q -w net.bridge.bridge-nf-call-iptables=0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	commands := []struct{ text, want string }{ // "?": what is set is not certain, and not said to be
		{"true", "1"},
		{"echo 0 > P", "0"},
		{"echo 0 >P", "0"},
		{"echo '0' >> P", "0"},
		{"/bin/echo \"0\" 1> P", "0"},
		{"echo 0 2> /dev/null > P", "0"},
		{"echo 0 > P 2>&1", "0"},
		{"echo 0 2>/dev/null", "1"},
		{"echo 0 # > P", "1"},
		{"echo '> P'", "1"},
		{"printf 0 > P", "0"},
		{"printf '%s\\n' 0 > P", "0"},
		{"echo 0 | tee P", "0"},
		{"echo 0 | tee -a /dev/null P >/dev/null", "0"},
		{"sysctl -w D=0", "0"},
		{"sysctl D=0", "0"},
		{"sysctl -q -e -w D=0 net.ipv4.ip_forward=1", "0"},
		{"sysctl -qw net/bridge/bridge-nf-call-iptables=0", "0"},
		{"sysctl -w 'D=0'", "0"},
		{"sysctl D", "1"},
		{"S='-q -w D=0'; sysctl $S", "0"},
		{"S='net.ipv4.ip_forward=1 D=0'; sysctl -w $S", "0"},
		{"S='net.ipv4.ip_forward=1 D=0'; A=$S; sysctl -w $A", "0"},
		{"S='net.ipv4.ip_forward=1 D=0'; sysctl -w \"$S\" || true", "1"},
		{"K='net.ipv4.ip_forward D'; for k in $K; do sysctl -q -w \"$k=0\"; done", "0"},
		{"K='net.ipv4.ip_forward D'; for k in \"$K\"; do sysctl -q -w \"$k=0\" || true; done", "1"},
		{"C='sysctl -q -w'; $C D=0", "0"},
		{"sysctl -n D > /dev/null", "1"},
		{"sysctl -p T/off.conf", "0"},
		{"sysctl -pT/off.conf", "0"},
		{"sysctl --load=T/off.conf", "0"},
		{"sysctl -q --load T/off.conf", "0"},
		{"sysctl -p T/off.conf T/on.conf", "1"},
		{"sysctl -p T/on.conf T/off.conf", "0"},
		{"sysctl -p T/other.conf", "1"},
		{"sysctl -p T/glob.conf", "0"},
		{"/lib/systemd/systemd-sysctl T/off.conf", "0"},
		{"sysctl -p T/nosuch.conf", "1"},
		{"sysctl -w D=1", "1"},
		{"sysctl -w D=0; sysctl -w D=1", "1"},
		{"sysctl -w D=0 && sysctl -w D=1", "1"},
		{"true && sysctl -w D=0", "0"},
		{"true || sysctl -w D=0", "1"},
		{"false && sysctl -w D=0", "1"},
		{"false || sysctl -w D=0", "0"},
		{"false; sysctl -w D=0", "0"},
		{"test -e P && echo 0 > P", "0"},
		{"[ -w P ] && echo 0 > P", "0"},
		{"[ -e /etc/nosuch ] && echo 0 > P", "1"},
		{"[ -e /etc/nosuch ] || echo 0 > P", "0"},
		{"[ -z \"$NOSUCH\" ] && echo 0 > P", "?"},
		{"if true; then echo 0 > P; fi", "?"},
		{"case x in x) echo 0 > P;; esac", "0"},
		{"case x in y) echo 0 > P;; esac", "1"},
		{"case x in y) echo 1 > P;; x|z) echo 0 > P;; *) echo 1 > P; esac", "0"},
		{"case x in\n(y)\n  echo 0 > P\n  ;;\n*)\n  case z in z) echo 0 > P;; esac\n  ;;\nesac", "0"},
		{"v=stop; case \"$v\" in start) echo 0 > P;; st*) ;; esac", "1"},
		{"case $(echo x) in x) echo 0 > P;; esac", "?"},
		{"case x in x) exit 0;; esac; echo 0 > P", "1"},
		{"sleep 0 && sysctl -w D=0", "0"},
		{"off() { case \"$1\" in on) echo 1 > P;; *) echo 0 > P;; esac; }; off off", "0"},
		{"for f in P; do echo 0 > $f; done", "0"},
		{"for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > \"$f\"; done", "0"},
		{"for i in iptables ip6tables; do echo 0 > /proc/sys/net/bridge/bridge-nf-call-$i; done", "0"},
		{"for i in iptables ip6tables; do sysctl -w net.bridge.bridge-nf-call-${i}=0; done", "0"},
		{"for f in /proc/sys/net/ipv4/ip_forward; do echo 0 > $f; done; true", "1"},
		{"for f in $(ls -d P); do echo 0 > $f; done", "?"},
		{"cd /proc/sys/net/bridge && echo 0 > bridge-nf-call-iptables", "0"},
		{"cd /proc/sys/net/bridge; for f in *iptables; do echo 0 > $f; done", "0"},
		{"v=0; echo $v > P", "0"},
		{"v=0\necho ${v} > P", "0"},
		{"echo $((1 - 1)) > P", "?"},
		{"cat T/zero > P", "?"},
		{"off() { sysctl -w D=0; }; off", "0"},
		{"off() { sysctl -w D=0; }", "1"},
		{"(echo 0 > P)", "0"},
		{"{ echo 0 > P; }", "0"},
		{"sh -c 'echo 0 > P'", "0"},
		{"sh -ec \"sysctl -w D=0\"", "0"},
		{"bash -c 'sysctl -w D=0' x", "0"},
		{"env X=1 sysctl -w D=0", "0"},
		{"nohup nice -n 5 sysctl -w D=0", "0"},
		{"timeout 5 sysctl -w D=0", "0"},
		{"exec sysctl -w D=0", "0"},
		{"sleep 0; sysctl -w D=0", "0"},
		{"sysctl -w D=0 &\nwait", "0"},
		{"T/off.sh", "0"},
		{"sh T/off.sh", "0"},
		{". T/off.sh", "0"},
		{"T/args.sh", "?"},
		{"T/exit.sh", "1"},
		{"exit 0; sysctl -w D=0", "1"},
		{"sysctl \\\n -w D=0", "0"},
		{"cat P > /dev/null; grep -q 0 P", "1"},
		{"python3 -c 'open(\"P\", \"w\").write(\"0\")'", "?"},
	}
	var script strings.Builder
	r := strings.NewReplacer("P", "/proc/sys/net/bridge/bridge-nf-call-iptables", "D", string(guard.IPTables), "T/", dir+"/")
	for i, c := range commands {
		name := filepath.Join(dir, "c"+strconv.Itoa(i))
		if err := os.WriteFile(name, []byte(r.Replace(c.text)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&script, "echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables; timeout 20 sh %s >/dev/null 2>&1 </dev/null; echo %d $(cat /proc/sys/net/bridge/bridge-nf-call-iptables)\n", name, i)
	}
	out, err := exec.Command("timeout", "240", "unshare", "--net", "sh", "-c", script.String()).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seen := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(seen) != len(commands) {
		t.Fatalf("%d runs of %d:\n%s", len(seen), len(commands), out)
	}
	o := Options{Keys: []guard.Setting{{Key: guard.IPTables, Value: "1"}}}
	tree := open(&o)
	defer tree.close()
	f := &forecast{o: &o, t: tree, paths: []string{guard.IPTables.Path(), guard.IP6Tables.Path(), guard.ARPTables.Path()}}
	for i, c := range commands {
		_, really, _ := strings.Cut(seen[i], " ")
		s := start{Reader: RCLocal, acts: f.runs(Place{"x", 1}, r.Replace(c.text), true).acts}
		sure, maybe := s.outcome(o.Keys[0])
		got := "1"
		switch {
		case maybe != nil:
			got = "?"
		case sure.Effect != "":
			got = sure.Effect
		}
		if got != c.want {
			t.Errorf("%q is read as %s, want %s", c.text, got, c.want)
		}
		if c.want != "?" && really != c.want {
			t.Errorf("%q really sets %s, and is said to set %s", c.text, really, c.want)
		}
	}
}
