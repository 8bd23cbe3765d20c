package netns_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

// TestNotTheHost: in a container, nfguard says so before anything else, and changes
// nothing unless the configuration means it.
func TestNotTheHost(t *testing.T) {
	ns := lab.NewNamespace(t)
	dir := t.TempDir()
	binary := dir + "/nfguard" // as it is shipped
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/nfguard/nfguard/cmd/nfguard").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	const why = "this is a container: its sysctls and files need not be the host's"
	toml := filepath.Join(dir, "nfguard.toml")
	do := func(namespace string, args ...string) (code int, out string) {
		t.Helper()
		text := "namespace = \"" + namespace + "\"\n[persist]\nmodules_load = \"" + dir + "/modules.conf\"\nsysctl = \"" + dir + "/sysctl.conf\"\n"
		if err := os.WriteFile(toml, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := ns.Command("unshare", append([]string{"--pid", "--fork", "--mount-proc", binary, "--config", toml}, args...)...)
		cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+dir+"/run")
		said, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return exit.ExitCode(), string(said)
		} else if err != nil {
			t.Fatal(err)
		}
		return 0, string(said)
	}
	for _, args := range [][]string{{"check"}, {"apply"}, {"apply", "--dry-run"}, {"run"}, {"check", "-o", "npd"}} {
		code, out := do("host", args...)
		first, _, _ := strings.Cut(out, "\n")
		if code != 2 || !strings.Contains(first, why) || !strings.Contains(out, `set namespace = "own" in `+toml) && args[len(args)-1] != "npd" {
			t.Errorf("%v: exit %d:\n%s", args, code, out)
		}
	}
	for _, name := range []string{"modules.conf", "sysctl.conf", "run"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	if code, out := do("own", "apply"); code != 0 {
		t.Errorf("apply that is meant: exit %d\n%s", code, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "sysctl.conf")); err != nil {
		t.Errorf("apply that is meant: %v", err)
	}
	if _, out := do("own", "check"); !strings.HasPrefix(out, why+"\n\n") {
		t.Errorf("check that is meant:\n%s", out)
	}
}
