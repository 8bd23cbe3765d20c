package vm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	pkg := deb(t)
	dir, url := repository(t) // before the machine: gpgv refuses keys that its clock finds to be of the future
	c := vm.NewController(t)
	m := c.Worker

	file := []string{"-e", "nfguard_package_file=" + pkg}
	signed := [][]string{{"-e", "nfguard_repository=" + url, "-e", "nfguard_repository_key=" + dir + "/nfguard.asc"}}
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
			name: "from a signed repository",
			prepare: `
				dpkg --purge nfguard
				rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*`,
			args:    signed,
			changed: 4, // the key, the source, the package, the handler: purging left the configuration
			check:   func(t *testing.T) { wantGuarding(t, m) },
		},
		{
			name: "from a signed repository, once more",
			args: signed,
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
			play(t, c, slices.Concat(step.args...)...).Want(t, step.changed, step.failed, step.says)
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
	pkg := deb(t)
	c := vm.NewController(t)
	m := c.Worker
	reports := filepath.Join(c.Dir, "reports")
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
	play(t, c, of("observe")...).Want(t, 5, 0, "net.bridge.bridge-nf-call-iptables")
	m.Sh(t, untouched)
	reported("wrong")
	// The unit's sandbox lets it write its metrics to Debian's usual place.
	m.Until(t, `grep -qx 'nfguard_verdict{verdict="wrong"} 1' /var/lib/prometheus/node-exporter/nfguard.prom`)
	play(t, c, of("observe")...).Want(t, 0, 0, "")
	play(t, c, of("enforce")...).Want(t, 2, 0, "") // the configuration, the handler
	wantGuarding(t, m)
	play(t, c, of("enforce")...).Want(t, 0, 0, "as wanted: ")
	reported("right")
	play(t, c, of("enforce", "-e", `{"nfguard_config": {"mode": "lock"}}`)...).Want(t, 0, 1, "leave mode out of nfguard_config")

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

// play runs the example playbook.
func play(t *testing.T, c *vm.Controller, args ...string) vm.PlayRun {
	t.Helper()
	return c.Play(t, root+"/packaging/ansible", nil, append(args, "playbook.yml")...)
}

func TestAnsibleLint(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), lab.Tool(t, lab.VM, "ansible-lint"), "--offline", "--nocolor", "--strict", "--profile=production", "playbook.yml", "roles/nfguard")
	cmd.Dir = root + "/packaging/ansible"
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ansible-lint: %v\n%s", err, out)
	}
}
