package fleet_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/diag/fleet"
	"github.com/nfguard/nfguard/test/lab"
)

// TestAnsible has ansible itself run nfguard check on three hosts: one right, one wrong
// and one without nfguard.
func TestAnsible(t *testing.T) {
	ansible := lab.Tool(t, lab.Root, "ansible")
	dir := t.TempDir()
	for _, name := range []string{"right", "wrong"} {
		text, err := os.ReadFile("../../internal/diag/fleet/testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		said := strings.ReplaceAll(string(text), "6.18.44-amd64", `a\nb \"quoted\" \\n`)
		script := "#!/bin/sh\ncat <<'EOF'\n" + said + "EOF\necho 'nfguard: talk' >&2\n[ " + name + " = right ]\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inventory := "worker-1 answer=right\nworker-2 answer=wrong\nworker-3 answer=missing\n" +
		"[all:vars]\nansible_connection=local\nansible_python_interpreter=/usr/bin/python3\n"
	if err := os.WriteFile(filepath.Join(dir, "inventory"), []byte(inventory), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, how := range [][]string{{}, {"-o"}, {"--tree", filepath.Join(dir, "tree")}} {
		t.Run(strings.Join(how, " "), func(t *testing.T) {
			args := append([]string{"-i", filepath.Join(dir, "inventory"), "all", "-m", "command", "-a", dir + "/{{ answer }}"}, how...)
			cmd := exec.Command(ansible, args...)
			cmd.Env = append(os.Environ(), "HOME="+dir, "ANSIBLE_NOCOLOR=1", "ANSIBLE_LOCAL_TEMP="+dir+"/local", "ANSIBLE_REMOTE_TEMP="+dir+"/remote")
			out, err := cmd.Output() // it fails, because hosts do
			if err == nil {
				t.Error("ansible reports no failure")
			}
			path := filepath.Join(dir, "printed")
			if err := os.WriteFile(path, out, 0o644); err != nil {
				t.Fatal(err)
			}
			if len(how) == 2 {
				path = how[1]
			}
			hosts, err := fleet.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			got := fleet.Merge(hosts)
			var said []string
			for _, h := range got.Hosts {
				said = append(said, h.Name+" "+string(h.Verdict)+" "+h.Kernel)
			}
			want := []string{"worker-1 right a\nb \"quoted\" \\n", "worker-2 wrong a\nb \"quoted\" \\n", "worker-3 unknown "}
			if diff := cmp.Diff(want, said); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, out)
			}
			if why := got.Hosts[2].Summary; !strings.Contains(why, "No such file") {
				t.Errorf("worker-3 said %q", why)
			}
		})
	}
}
