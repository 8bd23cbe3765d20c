package vm

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

// Cloud are the packages of Debian's cloud images that provisioning relies on.
var Cloud = []string{"cloud-init", "openssh-server", "python3-apt", "sudo"}

// Host is where a machine with a network finds what this one serves on its loopback.
const Host = "10.0.2.2"

// Network are the arguments of qemu for a network on which there is only [Host]: the guest
// has no route to others. more is what else "-nic user" is told.
func Network(more string) []string {
	return []string{"-nic", "user,model=virtio-net-pci" + more}
}

// Join brings the network up in the guest.
func (m *Machine) Join(t testing.TB) {
	t.Helper()
	m.Sh(t, "ip link set ens2 up; ip address add 10.0.2.15/24 dev ens2")
}

// Controller is the machine that runs Ansible, which is this one, without the user's own
// settings: keys, known hosts and configuration are in Dir.
type Controller struct {
	Dir    string
	Worker *Machine
}

// NewController boots a worker that is reached by ssh, through a port of this machine's
// loopback. Its network has no other way in, and none out but to [Host].
func NewController(t testing.TB) *Controller {
	t.Helper()
	for _, tool := range []string{"ansible-playbook", "ssh", "ssh-keygen"} {
		lab.Tool(t, lab.VM, tool)
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close() // qemu binds it a moment later
	m := Boot(t, Options{Packages: Cloud, Args: Network(fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:22", port))})
	m.Join(t)
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "key")).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	m.Push(t, filepath.Join(dir, "key.pub"), "/srv/key", 0o600)
	m.Sh(t, `useradd --create-home --shell /bin/sh admin
		install -D -o admin -m 600 /srv/key ~admin/.ssh/authorized_keys
		echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin`)

	for name, text := range map[string]string{
		"known_hosts": fmt.Sprintf("[127.0.0.1]:%d %s", port, m.Read(t, "/etc/ssh/ssh_host_ed25519_key.pub")),
		"inventory":   "[workers]\nworker\n",
		"ssh_config": fmt.Sprintf(`Host worker
HostName 127.0.0.1
Port %d
User admin
IdentityFile %[2]s/key
IdentitiesOnly yes
UserKnownHostsFile %[2]s/known_hosts
StrictHostKeyChecking yes
`, port, dir),
		"ansible.cfg": fmt.Sprintf(`[defaults]
inventory = %[1]s/inventory
interpreter_python = /usr/bin/python3
nocows = true
[ssh_connection]
ssh_args = -F %[1]s/ssh_config -o ControlMaster=auto -o ControlPersist=60s
control_path_dir = %[1]s
pipelining = true
`, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &Controller{dir, m}
}

// PlayRun is how a run of a playbook ended.
type PlayRun struct {
	Output          string
	Changed, Failed int
}

var recap = regexp.MustCompile(`(?m)^worker +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=(\d+) `)

// Play runs ansible-playbook in a directory, with more environment, against the worker. A
// run that does not come to the worker's recap fails the test.
func (c *Controller) Play(t testing.TB, dir string, env []string, args ...string) PlayRun {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ansible-playbook", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+c.Dir, "ANSIBLE_CONFIG="+filepath.Join(c.Dir, "ansible.cfg"), "LC_ALL=C.UTF-8")
	cmd.Env = append(cmd.Env, env...)
	out, _ := cmd.CombinedOutput() // the recap says how it ended
	counts := recap.FindSubmatch(out)
	if counts == nil {
		t.Fatalf("ansible-playbook %q:\n%s", args, out)
	}
	r := PlayRun{Output: string(out)}
	r.Changed, _ = strconv.Atoi(string(counts[1]))
	r.Failed, _ = strconv.Atoi(string(counts[2]))
	return r
}

// Want checks the recap of a run and a part of its output.
func (r PlayRun) Want(t testing.TB, changed, failed int, says string) {
	t.Helper()
	if r.Failed != failed || r.Changed != changed || !strings.Contains(r.Output, says) {
		t.Fatalf("want changed=%d failed=%d and %q:\n%s", changed, failed, says, r.Output)
	}
}
