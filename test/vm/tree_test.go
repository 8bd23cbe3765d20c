package vm_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
	"github.com/nfguard/nfguard/test/vm"
)

// TestImage builds an image: nfguard is installed into a Debian tree without a running
// systemd and without systemctl, and writes its drop-ins there. The builder is a machine
// whose kernel could load the module, but must not.
func TestImage(t *testing.T) {
	lab.Need(t, lab.Root, lab.VM)
	pkg := deb(t)
	m := vm.Boot(t, vm.Options{})
	m.Push(t, pkg, "/srv/nfguard.deb", 0o644)
	// The machine's own Debian serves as the tree: without /proc, /sys and /run,
	// and with a layer for what is written.
	m.Sh(t, `
		mount -t tmpfs -o mode=755 layer /mnt
		mkdir /mnt/upper /mnt/work /mnt/tree
		mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/tree
		rm /mnt/tree/bin/systemctl`)
	// What an installation could have changed on the builder.
	const builder = `
		cut -d ' ' -f 1 /proc/modules | sort
		find /etc /usr /run/systemd -xdev -type f -newer /srv/nfguard.deb
		systemctl list-unit-files 'nfguard*' || true`
	before := m.Sh(t, builder)
	if strings.Contains(before, "br_netfilter") {
		t.Fatalf("the module is loaded, so this can show nothing:\n%s", before)
	}

	t.Run("the package", func(t *testing.T) {
		r := m.Run(t, "dpkg", "--root=/mnt/tree", "--install", "/srv/nfguard.deb")
		if r.Code != 0 || r.Stderr != "" {
			t.Fatalf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		if got := m.Sh(t, "readlink /mnt/tree/etc/systemd/system/multi-user.target.wants/nfguard.service"); got != "/lib/systemd/system/nfguard.service" {
			t.Errorf("it is enabled by %q", got)
		}
	})
	t.Run("apply", func(t *testing.T) {
		for _, want := range []bool{true, false} {
			var got struct {
				Changed bool
				Verdict string
			}
			out := m.Sh(t, "/mnt/tree/usr/bin/nfguard apply --root /mnt/tree -o json")
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			if got.Changed != want || got.Verdict != "right" {
				t.Errorf("changed %t, verdict %s; want %t, right", got.Changed, got.Verdict, want)
			}
		}
		want := "br_netfilter\nnet.bridge.bridge-nf-call-iptables = 1\nnet.bridge.bridge-nf-call-ip6tables = 1\nnet.bridge.bridge-nf-call-arptables = 1"
		got := m.Sh(t, "cd /mnt/tree/etc; cat modules-load.d/nfguard.conf sysctl.d/99-zz-nfguard.conf | grep -v '^#'")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("the drop-ins (-want +got)\n%s", d)
		}
	})
	t.Run("the builder is as it was", func(t *testing.T) {
		if d := cmp.Diff(before, m.Sh(t, builder)); d != "" {
			t.Errorf("(-before +after)\n%s", d)
		}
	})
}
