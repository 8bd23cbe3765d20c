package boot_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/boot"
)

// TestJSON fixes the names of the fields: they are printed by check -o json.
func TestJSON(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/sysctl.d/zz.conf", "net.bridge.bridge-nf-call-iptables = 0\n")
	write(t, root, "etc/modprobe.d/x.conf", "blacklist br_netfilter\n")
	write(t, root, "etc/modules-load.d/x.conf", "br_netfilter\n")
	write(t, root, "etc/systemd/system/x.service", "[Service]\nExecStart=/sbin/modprobe br_netfilter\n")
	write(t, root, "etc/systemd/system/multi-user.target.wants/x.service", "")
	write(t, root, "lib/modules/6.1.0-1/modules.dep", "kernel/net/bridge/br_netfilter.ko:\n")
	write(t, root, "lib/modules/6.1.0-1/kernel/net/bridge/br_netfilter.ko", "")
	write(t, root, "lib/modules/6.1.0-2/modules.dep", "")
	write(t, root, "etc/ufw/ufw.conf/x", "")
	r := boot.Forecast(boot.Options{Root: root, Keys: guarded[:1], Release: "6.1.0-1", SysctlD: "/etc/sysctl.d/99-zz-nfguard.conf"})
	got, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/report.json"
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
