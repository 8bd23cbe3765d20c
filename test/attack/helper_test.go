package attack

import (
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

// helped runs the daemon with CAP_NET_ADMIN alone, as its unit does, and the helper as
// root, in private directories. It prints the results.
const helped = `
set -eu
mount --make-rprivate /
mount -t tmpfs none /mnt; cp -a /etc /mnt; mount --bind /mnt/etc /etc
rm -rf /etc/nfguard /etc/sysctl.d /etc/modules-load.d; mkdir /etc/nfguard /etc/sysctl.d /etc/modules-load.d
printf '%s' "$CONFIG" >/etc/nfguard/nfguard.toml
mount -t tmpfs none /run; mkdir -m 700 /run/nfguard-helper
systemd-socket-activate -d -l /run/nfguard-helper/socket "$NFGUARD" helper >/run/helper 2>&1 & helper=$!
i=0; until [ -S /run/nfguard-helper/socket ] || [ $i = 100 ]; do sleep 0.1; i=$((i+1)); done
setpriv --bounding-set=-all,+net_admin --inh-caps=-all "$NFGUARD" run >/run/daemon 2>&1 & daemon=$!
trap 'kill $daemon $helper 2>/dev/null || true; wait' EXIT
i=0; until grep -qs '"pass"' /run/nfguard/status.json && grep -q '"how": "subscribed: BPF raw' /run/nfguard/status.json || [ $i = 200 ]; do sleep 0.1; i=$((i+1)); done
echo "capabilities: $(sed -n 's/^CapEff:\t//p' /proc/$daemon/status)"
"$NFGUARD" status || true
ls /etc/sysctl.d /etc/modules-load.d
(echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables) 2>&1 || true
echo "key: $(cat /proc/sys/net/bridge/bridge-nf-call-iptables)"
kill -STOP $daemon
(echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables) 2>&1 || true
echo "key while the daemon is stopped: $(cat /proc/sys/net/bridge/bridge-nf-call-iptables)"
kill -KILL $daemon
i=0; until (echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables) 2>/dev/null || [ $i = 100 ]; do sleep 0.1; i=$((i+1)); done
echo "key after its end: $(cat /proc/sys/net/bridge/bridge-nf-call-iptables)"
`

// TestH3DaemonKeepsOneCapability: the helper does everything that takes more rights: the
// drop-ins, the names of writers, the lock, and noticing the start of kube-proxy.
func TestH3DaemonKeepsOneCapability(t *testing.T) {
	ns := lab.NewNamespace(t)
	for _, tool := range []string{"systemd-socket-activate", "setpriv", "unshare"} {
		lab.Tool(t, lab.Root, tool)
	}
	ns.Run(t, "ip", "link", "set", "lo", "up")
	cmd := ns.Command("unshare", "--mount", "sh", "-c", helped)
	cmd.Env = append(cmd.Environ(), "NFGUARD="+binary, "CONFIG=mode = \"lock\"\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"capabilities: 0000000000001000\n",
		"by nfguard-helper\n", "subscribed: BPF cgroup/sysctl, with inotify\n", "subscribed: BPF raw tracepoint",
		"99-zz-nfguard.conf\n", "/etc/modules-load.d:\nnfguard.conf\n",
		"key: 1\n", "key while the daemon is stopped: 1\n", "key after its end: 0\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
