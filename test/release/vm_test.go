package release

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
	"github.com/nfguard/nfguard/test/vm"
)

// The tests of these names boot virtual machines: make releasevm runs them.

// newAptMachine is a booted machine on whose network there is nothing but the release,
// with a repository or without.
func newAptMachine(t *testing.T, r releases) (*vm.Machine, *aptHost) {
	t.Helper()
	lab.Need(t, lab.Root, lab.VM)
	m := vm.Boot(t, vm.Options{Args: vm.Network("")})
	m.Join(t)
	h := &aptHost{served: r.first, sh: machineShell(t, m)}
	h.serve(t, vm.Host)
	h.alone(t)
	return m, h
}

// machineShell is an aptHost's shell in a machine. As this is emulated, and may hardly get
// a processor, its systemd waits for nfguard as long as it takes.
func machineShell(t *testing.T, m *vm.Machine) func(string) (string, error) {
	t.Helper()
	m.Write(t, "/etc/systemd/system/nfguard.service.d/patience.conf", []byte("[Service]\nTimeoutStartSec=infinity\n"), 0o644)
	m.Sh(t, "systemctl daemon-reload")
	return func(script string) (string, error) {
		t.Helper()
		r := m.Run(t, "sh", "-euc", "exec 2>&1; export DEBIAN_FRONTEND=noninteractive LC_ALL=C\n"+script)
		if r.Code != 0 {
			return r.Stdout, fmt.Errorf("exit status %d", r.Code)
		}
		return r.Stdout, nil
	}
}

// wantReady holds the running daemon to be READY and of the version v, and the host to be
// right.
func wantReady(t *testing.T, m *vm.Machine, v string) {
	t.Helper()
	if got, want := m.Sh(t, "systemctl show nfguard -P Type -P ActiveState -P SubState"), "notify\nactive\nrunning"; got != want {
		t.Errorf("nfguard.service is %q, want %q", got, want)
	}
	var status struct {
		Version, State string
		PID            int
	}
	m.Until(t, "nfguard status >/dev/null")
	if err := json.Unmarshal([]byte(m.Sh(t, "nfguard status -o json")), &status); err != nil {
		t.Fatal(err)
	}
	pid := m.Sh(t, "systemctl show nfguard -P MainPID")
	if status.Version != v || status.State != "healthy" || strconv.Itoa(status.PID) != pid {
		t.Errorf("want %s, healthy, PID %s; got %+v", v, pid, status)
	}
	if got := m.Sh(t, "/proc/"+pid+"/exe version"); !strings.HasPrefix(got, "nfguard "+v+" ") {
		t.Errorf("what runs is %s", got)
	}
	m.Sh(t, "nfguard check; cd /proc/sys/net/bridge; ! grep -Hvx 1 bridge-nf-call-*tables")
}

// TestVMApt has the apt of a booted Debian install from the signed repository, upgrade and
// downgrade, by the commands of docs/install.md, and then refuse what was tampered with.
func TestVMApt(t *testing.T) {
	r := made(t)
	m, h := newAptMachine(t, r)
	known := documented(t, "## Debian, Ubuntu", h.url)
	if len(known) != 2 {
		t.Fatalf("want how to install and how to go back, got %q", known)
	}
	for _, step := range []struct{ name, served, commands, version, config string }{
		{"install, as documented", r.first, known[0], "0.1.0", ""},
		{"upgrade", r.second, "apt-get update; apt-get upgrade", "0.2.0", "# In the next release."},
		{"downgrade and hold, as documented", r.second, known[1], "0.1.0", ""},
		{"upgrade while held", r.second, "apt-get update; apt-get upgrade", "0.1.0", ""},
		{"upgrade", r.second, "apt-mark unhold nfguard; apt-get upgrade", "0.2.0", "# In the next release."},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			h.served = step.served
			out := h.must(t, step.commands)
			if got := h.installed(); got != step.version+"-1" || strings.Contains(out, "W:") {
				t.Fatalf("want %s, got %s\n%s", step.version, got, out)
			}
			wantReady(t, m, "v"+step.version)
			if got := m.Sh(t, "grep -x '# In the next release.' /etc/nfguard/nfguard.toml || true"); got != step.config {
				t.Errorf("the packaged configuration has %q, want %q", got, step.config)
			}
		})
		if !ok {
			t.FailNow() // the steps depend on each other
		}
	}
	h.must(t, "apt-get -q purge nfguard")
	h.refusesTamperings(t, r)
	wantReady(t, m, "v0.2.0")
}

// TestVMSysext merges the image of the first release, refreshes it by the second's, boots
// with it, and takes it away, by the commands of docs/install.md.
func TestVMSysext(t *testing.T) {
	r := made(t)
	m, h := newAptMachine(t, r)
	steps := documented(t, "## Hosts that take no packages", h.url)
	if len(steps) != 4 {
		t.Fatalf("want how to merge, to do so at each boot, to refresh and to end, got %q", steps)
	}
	ready := func(v string) {
		t.Helper()
		m.Until(t, "systemctl is-active nfguard")
		wantReady(t, m, v)
	}
	h.must(t, steps[0])
	ready("v0.1.0")
	if got := m.Sh(t, "findmnt -n -o FSTYPE /usr; ls /etc/modules-load.d/nfguard.conf; dpkg-query -W nfguard 2>&1 || true"); !strings.HasPrefix(got, "overlay\n/etc/modules-load.d/nfguard.conf\n") || !strings.Contains(got, "no packages found") {
		t.Errorf("got %s", got)
	}

	h.served = r.second
	fetch, _, _ := strings.Cut(steps[0], "systemd-sysext")
	h.must(t, strings.Replace(fetch, "nfguard-0.1.0-", "nfguard-0.2.0-", 1)+steps[2])
	ready("v0.2.0")

	h.must(t, steps[1])
	// It stands for what has to wait for nfguard.
	m.Write(t, "/etc/systemd/system/kubelet.service", []byte("[Service]\nType=oneshot\nExecStart=sh -c 'systemctl is-active nfguard >/run/seen'\n[Install]\nWantedBy=multi-user.target\n"), 0o644)
	m.Sh(t, "systemctl enable kubelet.service")
	m.Reboot(t)
	ready("v0.2.0")
	if got := m.Sh(t, "cat /run/seen"); got != "active" {
		t.Errorf("when kubelet started, nfguard was %s", got)
	}

	h.must(t, steps[3])
	got := m.Sh(t, `systemctl is-active nfguard || true
		test -e /usr/bin/nfguard || echo gone
		cat /proc/sys/net/bridge/bridge-nf-call-iptables
		ls /etc/modules-load.d/nfguard.conf
		systemctl --failed --no-legend --plain`)
	if diff := cmp.Diff("inactive\ngone\n1\n/etc/modules-load.d/nfguard.conf", got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestVMAnsible plays the built collection against a worker, in two steps, from the signed
// repository and then from a file.
func TestVMAnsible(t *testing.T) {
	lab.Need(t, lab.Root, lab.VM)
	r := made(t)
	dir := temp(t)
	env := collection(t, dir)
	c := vm.NewController(t)
	m := c.Worker
	h := &aptHost{served: r.first, sh: machineShell(t, m)}
	h.serve(t, vm.Host)
	h.alone(t)

	play := func(rollout string, from ...string) vm.PlayRun {
		t.Helper()
		args := append([]string{"-e", "nfguard_rollout=" + rollout}, from...)
		return c.Play(t, dir, env, append(args, "nfguard.nfguard.workers")...)
	}
	const key = "net.bridge.bridge-nf-call-iptables"
	wrong := "modprobe br_netfilter; sysctl -qw " + key + "=0; rm -f /etc/sysctl.d/99-zz-nfguard.conf /etc/modules-load.d/nfguard.conf"
	untouched := "[ $(sysctl -n " + key + ") = 0 ]; [ ! -e /etc/sysctl.d/99-zz-nfguard.conf ]"

	repository := []string{"-e", "nfguard_repository=" + h.url, "-e", "nfguard_repository_key=" + filepath.Join(r.first, "nfguard.asc")}
	m.Sh(t, wrong)
	play("observe", repository...).Want(t, 6, 0, key) // the key, the source, the package, the configuration, both handlers
	m.Sh(t, untouched)
	play("enforce", repository...).Want(t, 2, 0, "") // the configuration, the handler
	wantReady(t, m, "v0.1.0")
	play("enforce", repository...).Want(t, 0, 0, "")

	h.must(t, "apt-get -q purge nfguard")
	m.Sh(t, wrong)
	file := []string{"-e", "nfguard_package_file=" + one(t, r.second+"/nfguard_*_amd64.deb")}
	play("observe", file...).Want(t, 5, 0, key) // the copy, the package, the configuration, both handlers
	m.Sh(t, untouched)
	play("enforce", file...).Want(t, 2, 0, "")
	wantReady(t, m, "v0.2.0")
}

// TestVMCloudInit boots a machine that is new to cloud-init with the user data for the
// signed repository, filled in.
func TestVMCloudInit(t *testing.T) {
	lab.Need(t, lab.Root, lab.VM)
	genisoimage := lab.Tool(t, lab.VM, "genisoimage")
	r := made(t)
	h := &aptHost{served: r.first}
	h.serve(t, vm.Host)
	text := read(t, root+"/packaging/cloud-init/repository.yaml")
	const begin, end = "      -----BEGIN PGP PUBLIC KEY BLOCK-----\n", "      -----END PGP PUBLIC KEY BLOCK-----\n"
	before, rest, _ := strings.Cut(text, begin)
	_, after, found := strings.Cut(rest, end)
	if !found {
		t.Fatalf("there is no key to fill in:\n%s", text)
	}
	key := "      " + strings.ReplaceAll(strings.TrimSpace(read(t, r.first+"/nfguard.asc")), "\n", "\n      ") + "\n"
	userData := before + key + strings.ReplaceAll(after, "https://packages.example.com/nfguard", h.url)
	// It has the source that docs/install.md has.
	for line := range strings.Lines(known(t, h.url)) {
		if !strings.Contains(userData, "      "+line) {
			t.Errorf("repository.yaml lacks %q, which docs/install.md has", line)
		}
	}

	seed := temp(t)
	write(t, seed+"/user-data", userData)
	write(t, seed+"/meta-data", "instance-id: worker-1\nlocal-hostname: worker-1\n")
	// This image has no locales, already has ssh keys, and its repository is out of reach.
	write(t, seed+"/vendor-data", "#cloud-config\nlocale: false\nssh_deletekeys: false\napt: {preserve_sources_list: true}\n"+
		"bootcmd: [rm -f /etc/apt/sources.list /etc/apt/apt.conf.d/99mmdebstrap]\n")
	write(t, seed+"/network-config", "version: 2\nethernets: {ens2: {addresses: [10.0.2.15/24]}}\n")
	disk := temp(t) + "/seed.iso"
	run(t, genisoimage, "-quiet", "-volid", "CIDATA", "-rational-rock", "-output", disk, seed)
	m := vm.Boot(t, vm.Options{
		Packages: vm.Cloud,
		Append:   "systemd.wants=systemd-networkd.service", // the image has networks only on demand
		Args: append(vm.Network(""),
			"-drive", "file="+disk+",if=none,id=seed,format=raw,readonly=on", "-device", "virtio-blk-pci,drive=seed"),
	})

	var status struct {
		Status, Datasource string
		Errors             []string
	}
	done := m.Run(t, "cloud-init", "status", "--wait", "--format=json")
	if err := json.Unmarshal([]byte(done.Stdout), &status); err != nil {
		t.Fatal(err, done)
	}
	if status.Status != "done" || len(status.Errors) > 0 || done.Code != 0 {
		t.Errorf("%s\n%s", done.Stdout, m.Sh(t, "cat /var/log/cloud-init-output.log; grep -E 'WARN|ERROR' /var/log/cloud-init.log || true"))
	}
	m.Push(t, seed+"/user-data", "/srv/user-data", 0o600)
	if got := m.Sh(t, "cloud-init schema --config-file /srv/user-data 2>&1"); got != "Valid cloud-config: /srv/user-data" {
		t.Error(got)
	}
	wantReady(t, m, "v0.1.0")
	if got := m.Sh(t, "nfguard config show | grep -F arptables; cat /etc/apt/sources.list.d/*"); !strings.Contains(got, "50-cloud-init.toml") || strings.Contains(got, "trusted") {
		t.Errorf("got %s", got)
	}
}
