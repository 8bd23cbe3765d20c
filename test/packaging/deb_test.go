package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

func TestLintian(t *testing.T) {
	lintian := lab.Tool(t, lab.Root, "lintian")
	out, err := exec.Command(lintian, "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", current(t).deb).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDebInImage installs the package where systemd does not run, and purges it: only
// what others put there can be left.
func TestDebInImage(t *testing.T) {
	tree := debian(t)
	write(t, tree+"/etc/sysctl.d/50-other.conf", "kernel.panic = 10\n")
	dirs := []string{"etc", "usr", "run", "var/lib/systemd"}
	before := files(t, tree, dirs...)
	run(t, "cp", current(t).deb, tree+"/nfguard.deb")
	dpkg := func(args ...string) {
		t.Helper()
		cmd := exec.Command("chroot", append([]string{tree, "dpkg"}, args...)...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
		output(t, cmd)
	}
	dpkg("-i", "/nfguard.deb")
	if _, err := os.Lstat(tree + "/etc/systemd/system/multi-user.target.wants/nfguard.service"); err != nil {
		t.Errorf("the next boot will not start it: %v", err)
	}
	run(t, "chroot", tree, "nfguard", "apply", "--root", "/.")
	for path, want := range map[string]string{
		"/etc/modules-load.d/nfguard.conf":     "\nbr_netfilter\n",
		"/etc/sysctl.d/99-zz-nfguard.conf":     "\nnet.bridge.bridge-nf-call-iptables = 1\n",
		"/var/lib/systemd/catalog/database":    "Guarded setting @NFGUARD_SUBJECT@ had a foreign value",
		"/var/lib/dpkg/info/nfguard.conffiles": "/etc/nfguard/nfguard.toml\n",
	} {
		if !strings.Contains(read(t, tree+path), want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
	dpkg("--purge", "nfguard")
	if diff := cmp.Diff(before, files(t, tree, dirs...)); diff != "" {
		t.Errorf("what purging leaves (-before +after):\n%s", diff)
	}
}

// TestDebOnHost installs, uses, upgrades and removes the package on a running Debian.
func TestDebOnHost(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	legacy := lab.Tool(t, lab.Netns, "iptables-legacy")
	tree := debian(t)
	run(t, "cp", current(t).deb, tree+"/current.deb")
	run(t, "cp", next(t).deb, tree+"/next.deb")
	b := boot(t, tree)
	const key = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	show := func(property string) string { return "systemctl show -P " + property + " nfguard" }
	active := func() bool { return b.sh(show("ActiveState")) == "active" }

	t.Log("install")
	b.sh("echo 0 > " + key)
	begin := time.Now()
	b.sh("dpkg -i /current.deb")
	t.Logf("installed and ready after %v", time.Since(begin).Round(10*time.Millisecond))
	b.is("active", show("ActiveState"))
	b.is("enabled", "systemctl is-enabled nfguard")
	b.is("15s", show("WatchdogUSec"))
	b.is("1", "cat "+key)
	b.is("br_netfilter loaded, 3 of 3 keys as wanted", show("StatusText")+" | cut -d ';' -f 1")
	b.sh("test -e /etc/modules-load.d/nfguard.conf && test -e /etc/sysctl.d/99-zz-nfguard.conf")
	b.sh("journalctl -x -u nfguard --no-pager | grep -q 'Subject: nfguard has started to guard this node'")

	t.Log("the sandbox keeps the host's procfs, and with it the news of writes")
	b.is(b.sh("stat -c %d /proc"), "stat -c %d /proc/$("+show("MainPID")+")/root/proc")
	bound := "sed -n 's/^CapBnd:\t//p' /proc/$(" + show("MainPID") + ")/status"
	b.is("0000000000001000", bound) // NET_ADMIN
	b.is("644", "stat -c %a /run/nfguard/status.json")
	b.sh("setpriv --reuid=65534 --regid=65534 --clear-groups nfguard status -o json | grep -q '\"rights\": \"nfguard-helper\"'") // any user can ask
	b.is("-10", "ps -o ni= -p $("+show("MainPID")+") | tr -d ' '")
	b.is(`  "rights": "nfguard-helper",`, "nfguard status -o json | grep '\"rights\"'")

	t.Log("rules of iptables-legacy are seen from inside of the sandbox")
	for _, args := range []string{"-N KUBE-SERVICES", "-A KUBE-SERVICES -j RETURN", "-A PREROUTING -j KUBE-SERVICES"} {
		cmd := exec.Command("nsenter", append(strings.Fields("--target "+b.leader+" --net "+legacy+" -t nat"), strings.Fields(args)...)...)
		cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE="+filepath.Join(t.TempDir(), "lock"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
		}
	}
	b.sh("systemctl restart nfguard; nfguard status | grep -F 'iptables mode (legacy), IPv4'")

	t.Log("drop-ins that are removed are written again, by the helper")
	b.sh("rm /etc/modules-load.d/nfguard.conf /etc/sysctl.d/99-zz-nfguard.conf")
	b.until("they are back", func() bool {
		return b.command("test -e /etc/modules-load.d/nfguard.conf && test -e /etc/sysctl.d/99-zz-nfguard.conf").Run() == nil
	})
	b.until("the helper has ended", func() bool {
		return b.sh("systemctl show -P ActiveState nfguard-helper.service") == "inactive"
	})

	t.Log("without the helper it guards what it can, and says what it can not")
	b.sh("systemctl mask --now nfguard-helper.socket && systemctl restart nfguard")
	b.is("active", show("ActiveState"))
	b.sh("nfguard status | grep -F 'nfguard-helper.socket is not there'")
	b.sh("rm /etc/modules-load.d/nfguard.conf; nfguard check | grep -F modules-load.d")
	b.until("the drop-in is missed", func() bool {
		return b.command("nfguard status | grep -F 'without nfguard-helper.socket: write /etc/modules-load.d/nfguard.conf'").Run() == nil
	})
	b.sh("echo 0 > " + key + "; sleep 0.2")
	b.is("1", "cat "+key)
	b.sh("systemctl unmask nfguard-helper.socket && systemctl restart nfguard")
	b.sh("test -e /etc/modules-load.d/nfguard.conf")

	t.Log("a helper that does not answer is not waited for")
	write(t, tree+"/etc/systemd/system/nfguard-helper.service.d/t.conf", "[Service]\nExecStart=\nExecStart=/bin/sleep 300\n")
	b.sh("systemctl daemon-reload && systemctl restart nfguard")
	b.is("active", show("ActiveState"))
	b.is("0", show("NRestarts"))
	b.sh("nfguard status | grep -F 'nfguard-helper.service does not answer'")
	b.sh("rm -r /etc/systemd/system/nfguard-helper.service.d && systemctl daemon-reload")

	t.Log("names of writers without BPF, by the example")
	b.sh("mkdir -p /etc/systemd/system/nfguard.service.d && cp /usr/share/nfguard/systemd/fanotify.conf /etc/systemd/system/nfguard.service.d")
	b.sh("systemctl daemon-reload && systemctl restart nfguard")
	b.is("0000000000201000", bound) // and SYS_ADMIN

	t.Log("a foreign write")
	write(t, tree+"/etc/systemd/system/culprit.service", "[Service]\nType=oneshot\nExecStart=sh -c 'echo 0 > "+key+"; sleep 0.3'\n")
	b.sh("systemctl daemon-reload && systemctl start culprit")
	b.is("1", "cat "+key)
	r := b.record("NFGUARD_EVENT=drift NFGUARD_SOURCE=sysctl")
	for field, want := range map[string]string{
		"NFGUARD_OUTCOME": "corrected", "NFGUARD_HAVE": "0", "NFGUARD_NOW": "1",
		"OBJECT_COMM": "sh", "OBJECT_EXE": "/usr/bin/dash", "OBJECT_SYSTEMD_UNIT": "culprit.service",
	} {
		// journald adds its own value to OBJECT_*, after ours.
		got := r[field]
		if list, ok := got.([]any); ok {
			got = list[0]
		}
		if got != want {
			t.Errorf("%s: want %q, got %v", field, want, r[field])
		}
	}
	t.Log(r["MESSAGE"])

	t.Log("reload")
	b.sh("echo 'mode = \"observed\"' > /etc/nfguard/conf.d/site.toml; systemctl reload nfguard")
	b.record("NFGUARD_EVENT=config NFGUARD_OUTCOME=failed")
	b.is("active", show("ActiveState"))
	b.sh("echo 'mode = \"observe\"' > /etc/nfguard/conf.d/site.toml; systemctl reload nfguard")
	b.record("NFGUARD_EVENT=config NFGUARD_OUTCOME=observed")
	b.sh("rm /etc/nfguard/conf.d/site.toml; systemctl reload nfguard")

	t.Log("restarted more often than systemd starts a unit by default")
	b.sh("for i in 1 2 3 4 5 6 7 8; do systemctl restart nfguard; done")
	b.is(`  "rights": "nfguard-helper",`, "nfguard status -o json | grep '\"rights\"'")

	t.Log("killed, and hung")
	b.sh("systemctl kill -s KILL --kill-whom=main nfguard")
	b.until("it is started again", func() bool { return b.sh(show("NRestarts")) == "1" && active() })
	b.sh("mkdir -p /run/systemd/system/nfguard.service.d && printf '[Service]\\nWatchdogSec=1s\\n' >/run/systemd/system/nfguard.service.d/t.conf")
	b.sh("systemctl daemon-reload && systemctl restart nfguard && systemctl kill -s STOP --kill-whom=main nfguard")
	b.until("the watchdog has started it again", func() bool { return b.sh(show("NRestarts")) == "1" && active() })
	b.sh("journalctl -u nfguard --no-pager | grep -q 'Watchdog timeout'")
	b.sh("rm -r /run/systemd/system/nfguard.service.d && systemctl daemon-reload && systemctl restart nfguard")

	t.Log("upgrade")
	b.sh("sed -i '1i mode = \"observe\"' /etc/nfguard/nfguard.toml")
	pid := b.sh(show("MainPID"))
	b.sh("dpkg --force-confold -i /next.deb")
	b.is("active", show("ActiveState"))
	if b.sh(show("MainPID")) == pid {
		t.Error("the daemon before the upgrade still runs")
	}
	b.sh("nfguard status -o json | grep -q '\"version\": \"v999.0.0\"'")
	b.is(`mode = "observe"`, "head -n 1 /etc/nfguard/nfguard.toml")

	t.Log("disabled, it stays so over an upgrade")
	b.sh("systemctl disable --now nfguard && dpkg --force-confold -i /next.deb")
	b.is("disabled", "systemctl is-enabled nfguard")
	b.is("inactive", show("ActiveState"))
	b.sh("systemctl enable --now nfguard")

	t.Log("remove")
	b.sh("dpkg -r nfguard")
	b.is("inactive", "systemctl is-active nfguard")
	b.is("1", "cat "+key)
	b.sh("test -e /etc/modules-load.d/nfguard.conf && test -e /etc/nfguard/nfguard.toml")

	t.Log("reinstall")
	b.sh("dpkg -i /next.deb")
	b.is("active", show("ActiveState"))
	b.is(`mode = "observe"`, "head -n 1 /etc/nfguard/nfguard.toml")

	t.Log("purge")
	b.sh("rm -r /etc/systemd/system/nfguard.service.d /etc/nfguard/conf.d/00-here.toml")
	b.sh("dpkg --purge nfguard")
	b.is("1", "cat "+key)
	b.is("", "find / -xdev -name '*nfguard*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/tmp/*'")
}
