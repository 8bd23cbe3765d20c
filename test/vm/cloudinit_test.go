package vm_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
	"github.com/nfguard/nfguard/test/vm"
)

// TestCloudInit boots a machine that is new to cloud-init with the example
// user data on a seed disk, as clouds without a metadata service do.
func TestCloudInit(t *testing.T) {
	lab.Need(t, lab.Root, lab.VM)
	t.Parallel()
	lab.Tool(t, lab.VM, "genisoimage")
	pkg, err := os.ReadFile(deb(t))
	if err != nil {
		t.Fatal(err)
	}
	userData, err := os.ReadFile(root + "/packaging/cloud-init/user-data.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// What users have to fill in.
	filled := strings.NewReplacer(
		"https://example.com/nfguard_1.0.0-1_amd64.deb", "http://10.0.2.100/nfguard.deb",
		strings.Repeat("0", 64), fmt.Sprintf("%x", sha256.Sum256(pkg)),
	).Replace(string(userData))

	seed := t.TempDir()
	write(t, filepath.Join(seed, "user-data"), filled)
	write(t, filepath.Join(seed, "meta-data"), "instance-id: worker-1\nlocal-hostname: worker-1\n")
	// This image has no locales, and already has ssh keys.
	write(t, filepath.Join(seed, "vendor-data"), "#cloud-config\nlocale: false\nssh_deletekeys: false\n")
	write(t, filepath.Join(seed, "network-config"), "version: 2\nethernets: {ens2: {addresses: [10.0.2.15/24]}}\n")
	disk := filepath.Join(t.TempDir(), "seed.iso")
	run(t, "genisoimage", "-quiet", "-volid", "CIDATA", "-rational-rock", "-output", disk, seed)

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(pkg) }))
	defer server.Close()
	m := vm.Boot(t, vm.Options{
		Packages: vm.Cloud,
		Append:   "systemd.wants=systemd-networkd.service", // the image has networks only on demand
		Args: []string{
			"-drive", "file=" + disk + ",if=none,id=seed,format=raw,readonly=on", "-device", "virtio-blk-pci,drive=seed",
			"-nic", "user,model=virtio-net-pci,restrict=on,guestfwd=tcp:10.0.2.100:80-tcp:" + server.Listener.Addr().String(),
		},
	})

	t.Run("cloud-init is content", func(t *testing.T) {
		var status struct {
			Status, Datasource string
			Errors             []string
		}
		r := m.Run(t, "cloud-init", "status", "--wait", "--format=json")
		if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil {
			t.Fatal(err, r)
		}
		if status.Status != "done" || len(status.Errors) > 0 || r.Code != 0 {
			t.Errorf("%s\n%s", r.Stdout, m.Sh(t, "cat /var/log/cloud-init-output.log; grep -E 'WARN|ERROR' /var/log/cloud-init.log || true"))
		}
	})
	t.Run("the user data is by its schema", func(t *testing.T) {
		m.Push(t, filepath.Join(seed, "user-data"), "/srv/user-data", 0o600)
		if got := m.Sh(t, "cloud-init schema --config-file /srv/user-data 2>&1"); got != "Valid cloud-config: /srv/user-data" {
			t.Error(got)
		}
	})
	t.Run("nfguard guards", func(t *testing.T) { wantGuarding(t, m) })
	t.Run("the configuration is in force", func(t *testing.T) { wantInForce(t, m, "50-cloud-init.toml") })
}
