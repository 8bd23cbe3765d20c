package packaging

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// intruder puts the program test/attack/intruder into the daemon's place.
const intruder = `[Service]
Type=oneshot
ExecStart=
ExecStart=/intruder
ExecReload=
Restart=no
WatchdogSec=0
TimeoutStartSec=5min
StandardOutput=truncate:/srv/inside
`

// TestH3SandboxHolds acts as a daemon that was taken over. Each attempt has to
// fail from inside the unit's sandbox, and to succeed outside of it.
func TestH3SandboxHolds(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	tree := debian(t)
	run(t, "cp", current(t).deb, tree+"/current.deb")
	cmd := exec.Command("go", "build", "-o", tree+"/intruder", root+"/test/attack/intruder")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	output(t, cmd)
	b := boot(t, tree)
	b.sh("dpkg -i /current.deb && systemctl stop nfguard")
	b.sh("systemd-run --quiet /intruder listen")
	b.until(10*time.Second, "somebody listens", func() bool { return b.command("test -e /run/intruder.ready").Run() == nil })

	write(t, tree+"/etc/systemd/system/nfguard.service.d/intruder.conf", intruder)
	b.sh("systemctl daemon-reload && systemctl start nfguard")
	inside, outside := attempts(t, b.sh("cat /srv/inside")), attempts(t, b.sh("/intruder"))
	if len(inside) == 0 || len(inside) != len(outside) {
		t.Fatalf("%d attempts from inside, %d from outside", len(inside), len(outside))
	}
	var proven, nowhere []string
	for i, in := range inside {
		out := outside[i]
		t.Logf("%-60s inside: %-40s outside: %s", in.Name, verdict(in), verdict(out))
		if in.Error == "" && !slices.Contains(permitted, in.Name) {
			t.Errorf("succeeded from inside the sandbox: %s", in.Name)
		}
		if strings.HasPrefix(in.Error, "not the attempt") {
			t.Errorf("%s: %s", in.Name, in.Error)
		}
		if out.Error == "" {
			proven = append(proven, in.Name)
		} else if !strings.Contains(in.Name, "the helper") {
			nowhere = append(nowhere, in.Name)
		}
	}
	for _, name := range nowhere {
		if !slices.Contains(notInContainers, name) {
			t.Errorf("failed outside as well, so that it proves nothing: %s", name)
		}
	}
	t.Logf("%d attempts fail because of the sandbox; %d can't be made in a container at all: %s", len(proven), len(nowhere), strings.Join(nowhere, ", "))
	b.is("", "find / -xdev -name '*intruder*' -not -path '/intruder' -not -path '/etc/systemd/system/nfguard.service.d/*' -not -path '/run/*' -not -path '/var/lib/intruder.sock' -newer /current.deb -not -path '/proc/*' -not -path '/sys/*'")
}

// permitted is what SECURITY.md says that a daemon which was taken over can do.
var permitted = []string{}

// notInContainers is what this kernel, or systemd-nspawn, lets nobody do. The
// same attempts are made in the virtual machine.
var notInContainers = []string{}

// tried is what became of an attempt.
type tried struct {
	Name  string `json:"name"`
	Error string `json:"error"` // "": it succeeded
}

func attempts(t testing.TB, text string) (list []tried) {
	t.Helper()
	for line := range strings.Lines(text) {
		var a tried
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		list = append(list, a)
	}
	return list
}

func verdict(a tried) string {
	if a.Error == "" {
		return "SUCCEEDED"
	}
	return strings.ReplaceAll(a.Error, "\n", " ")
}
