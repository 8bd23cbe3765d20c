package vm_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/internal/diag/fleet"
	"github.com/nfguard/nfguard/test/lab"
	"github.com/nfguard/nfguard/test/vm"
)

// TestAnsible has Debian's ansible-playbook set up a worker with the role and the example
// playbook, over ssh, as an operator does.
func TestAnsible(t *testing.T) {
	lab.Need(t, lab.Root, lab.VM)
	t.Parallel()
	for _, tool := range []string{"ansible-playbook", "ssh", "ssh-keygen"} {
		lab.Tool(t, lab.VM, tool)
	}
	pkg := deb(t)
	c := newController(t)
	m := c.worker

	file := []string{"-e", "nfguard_package_file=" + pkg}
	noARP := []string{"-e", `{"nfguard_config": {"sysctl": {"net.bridge.bridge-nf-call-arptables": "ignore"}}}`}
	for _, step := range []struct {
		name    string
		prepare string // in the guest
		args    [][]string
		changed int
		failed  int
		says    string // a part of the output
		check   func(*testing.T)
	}{
		{
			name:    "check mode on a clean machine changes nothing",
			prepare: "touch /srv/before",
			args:    [][]string{file, {"--check"}},
			changed: 2, // it would: the package, the configuration
			check: func(t *testing.T) {
				// Ansible's login leaves traces anyway.
				if got := m.Sh(t, `find / -xdev \( -path /home/admin -o -path /var/log -o -path /var/tmp -o -path /tmp \) -prune -o -type f -newer /srv/before -print`); got != "" {
					t.Errorf("it wrote:\n%s", got)
				}
			},
		},
		{
			name:    "the first run installs",
			args:    [][]string{file, noARP},
			changed: 5, // the copy, the package, the configuration, both handlers
			check: func(t *testing.T) {
				wantGuarding(t, m)
				wantInForce(t, m, "50-ansible.toml")
				// The package's own start would have come before the configuration.
				if got := m.Journal(t, "NFGUARD_EVENT=start"); len(got) != 1 {
					t.Errorf("nfguard has started %d times, want once", len(got))
				}
			},
		},
		{
			name: "the second run changes nothing",
			args: [][]string{file, noARP},
		},
		{
			name:    "a changed configuration reloads",
			prepare: "systemctl show -P MainPID nfguard >/srv/pid",
			args:    [][]string{file},
			changed: 2, // the configuration, the handler
			check: func(t *testing.T) {
				m.Sh(t, `[ "$(systemctl show -P MainPID nfguard)" = "$(cat /srv/pid)" ]`)
				m.Until(t, "nfguard check | grep -F arptables")
			},
		},
		{
			name:   "a wrong configuration stays out",
			args:   [][]string{file, {"-e", `{"nfguard_config": {"mode": "enforced"}}`}},
			failed: 1,
			says:   "mode: no such value",
			check:  func(t *testing.T) { wantGuarding(t, m) },
		},
		{
			name: "from a repository",
			prepare: `
				dpkg --purge nfguard
				cd /srv
				cp /var/cache/nfguard.deb .
				{ dpkg-deb --field nfguard.deb; echo "Filename: ./nfguard.deb"; echo "Size: $(stat -c %s nfguard.deb)"; echo "SHA256: $(sha256sum nfguard.deb | cut -d ' ' -f 1)"; } >Packages
				rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
				echo 'deb [trusted=yes] file:/srv ./' >/etc/apt/sources.list`,
			changed: 2, // the package, the handler: purging left the configuration
			check:   func(t *testing.T) { wantGuarding(t, m) },
		},
		{
			name: "from a repository, once more",
		},
		{
			name: "a host that can't be put right fails with the reasons",
			prepare: `
				echo install br_netfilter /bin/false >/etc/modprobe.d/hostile.conf
				rmmod br_netfilter`,
			failed: 1,
			says:   "/etc/modprobe.d/hostile.conf",
		},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			if step.prepare != "" {
				m.Sh(t, step.prepare)
			}
			c.play(t, slices.Concat(step.args...)...).want(t, step.changed, step.failed, step.says)
			if step.check != nil {
				step.check(t)
			}
		})
		if !ok {
			break // the runs depend on each other
		}
	}
}

// TestAnsibleRollout observes a worker first, and then enforces.
func TestAnsibleRollout(t *testing.T) {
	lab.Need(t, lab.Root, lab.VM)
	t.Parallel()
	for _, tool := range []string{"ansible-playbook", "ssh", "ssh-keygen"} {
		lab.Tool(t, lab.VM, tool)
	}
	pkg := deb(t)
	c := newController(t)
	m := c.worker
	reports := filepath.Join(c.dir, "reports")
	of := func(rollout string, more ...string) []string {
		return append([]string{
			"-e", "nfguard_package_file=" + pkg, "-e", "nfguard_rollout=" + rollout, "-e", "nfguard_report_dir=" + reports,
			"-e", `{"nfguard_config": {"metrics": {"textfile": "/var/lib/prometheus/node-exporter/nfguard.prom"}}}`,
		}, more...)
	}
	reported := func(want string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(reports, "worker"))
		if err != nil {
			t.Fatal(err)
		}
		hosts, err := fleet.Parse(text, "worker")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(fleet.Merge(hosts).Verdict); got != want {
			t.Errorf("want the report to say %s, got %s:\n%s", want, got, text)
		}
	}
	m.Sh(t, "modprobe br_netfilter && sysctl -qw net.bridge.bridge-nf-call-iptables=0 && mkdir -p /var/lib/prometheus/node-exporter")
	untouched := "[ $(sysctl -n net.bridge.bridge-nf-call-iptables) = 0 ] && [ ! -e /etc/sysctl.d/99-zz-nfguard.conf ]"

	// The copy, the package, the configuration, both handlers; and no failure.
	c.play(t, of("observe")...).want(t, 5, 0, "net.bridge.bridge-nf-call-iptables")
	m.Sh(t, untouched)
	reported("wrong")
	// The unit's sandbox lets it write its metrics to Debian's usual place.
	m.Until(t, `grep -qx 'nfguard_verdict{verdict="wrong"} 1' /var/lib/prometheus/node-exporter/nfguard.prom`)
	c.play(t, of("observe")...).want(t, 0, 0, "")
	c.play(t, of("enforce")...).want(t, 2, 0, "") // the configuration, the handler
	wantGuarding(t, m)
	c.play(t, of("enforce")...).want(t, 0, 0, "as wanted: ")
	reported("right")
	c.play(t, of("enforce", "-e", `{"nfguard_config": {"mode": "lock"}}`)...).want(t, 0, 1, "leave mode out of nfguard_config")

	// Elsewhere it does not, and the hint says how to change that. The old file is removed.
	m.Write(t, "/etc/nfguard/conf.d/90-elsewhere.toml", []byte("[metrics]\ntextfile = '/srv/nfguard.prom'\n"), 0o644)
	m.Sh(t, "systemctl reload nfguard")
	m.Until(t, "journalctl -u nfguard -o json NFGUARD_LOG_PATH=/srv/nfguard.prom | grep -F 'ReadWritePaths=/srv'")
	m.Until(t, "[ ! -e /var/lib/prometheus/node-exporter/nfguard.prom ]")
	wantGuarding(t, m)
	m.Sh(t, "rm /etc/nfguard/conf.d/90-elsewhere.toml && systemctl reload nfguard")
	m.Until(t, `grep -qx 'nfguard_verdict{verdict="right"} 1' /var/lib/prometheus/node-exporter/nfguard.prom`)
	m.Sh(t, "systemctl stop nfguard && grep -qx 'nfguard_up 0' /var/lib/prometheus/node-exporter/nfguard.prom")
}

func TestAnsibleLint(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), lab.Tool(t, lab.VM, "ansible-lint"), "--offline", "--nocolor", "--strict", "--profile=production", "playbook.yml", "roles/nfguard")
	cmd.Dir = root + "/packaging/ansible"
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ansible-lint: %v\n%s", err, out)
	}
}

// controller is the machine that runs Ansible, which is this one, without the user's own
// settings: keys, known hosts and configuration are in dir.
type controller struct {
	dir    string
	worker *vm.Machine
}

// newController boots a worker that is reached by ssh, through a port of this
// machine's loopback. Its network has no other way in or out.
func newController(t *testing.T) *controller {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close() // qemu binds it a moment later
	m := vm.Boot(t, vm.Options{
		Packages: cloud,
		Args:     []string{"-nic", fmt.Sprintf("user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:%d-:22", port)},
	})
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "key"))
	m.Push(t, filepath.Join(dir, "key.pub"), "/srv/key", 0o600)
	m.Sh(t, `useradd --create-home --shell /bin/sh admin
		install -D -o admin -m 600 /srv/key ~admin/.ssh/authorized_keys
		echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin
		ip link set ens2 up
		ip address add 10.0.2.15/24 dev ens2`)

	write(t, filepath.Join(dir, "known_hosts"), fmt.Sprintf("[127.0.0.1]:%d %s", port, m.Read(t, "/etc/ssh/ssh_host_ed25519_key.pub")))
	write(t, filepath.Join(dir, "ssh_config"), fmt.Sprintf(`Host worker
HostName 127.0.0.1
Port %d
User admin
IdentityFile %[2]s/key
IdentitiesOnly yes
UserKnownHostsFile %[2]s/known_hosts
StrictHostKeyChecking yes
`, port, dir))
	write(t, filepath.Join(dir, "inventory"), "[workers]\nworker\n")
	write(t, filepath.Join(dir, "ansible.cfg"), fmt.Sprintf(`[defaults]
inventory = %[1]s/inventory
interpreter_python = /usr/bin/python3
nocows = true
[ssh_connection]
ssh_args = -F %[1]s/ssh_config -o ControlMaster=auto -o ControlPersist=60s
control_path_dir = %[1]s
pipelining = true
`, dir))
	return &controller{dir, m}
}

// playRun is how a run of the playbook ended.
type playRun struct {
	output          string
	changed, failed int
}

var recap = regexp.MustCompile(`(?m)^worker +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=(\d+) `)

// play runs the example playbook against the worker.
func (c *controller) play(t *testing.T, args ...string) playRun {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ansible-playbook", append(args, "playbook.yml")...)
	cmd.Dir = root + "/packaging/ansible"
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "ANSIBLE_CONFIG="+filepath.Join(c.dir, "ansible.cfg"), "LC_ALL=C.UTF-8")
	out, _ := cmd.CombinedOutput() // the recap says how it ended
	counts := recap.FindSubmatch(out)
	if counts == nil {
		t.Fatalf("ansible-playbook %q:\n%s", args, out)
	}
	r := playRun{output: string(out)}
	r.changed, _ = strconv.Atoi(string(counts[1]))
	r.failed, _ = strconv.Atoi(string(counts[2]))
	return r
}

// want checks the recap of a run and a part of its output.
func (r playRun) want(t *testing.T, changed, failed int, says string) {
	t.Helper()
	if r.failed != failed || r.changed != changed || !strings.Contains(r.output, says) {
		t.Fatalf("want changed=%d failed=%d and %q:\n%s", changed, failed, says, r.output)
	}
}
