// Package sandbox judges the attempts of test/attack/intruder from inside the daemon's
// unit.
package sandbox

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Dropin makes the unit run /intruder instead of the daemon. Its output is in Output.
const Dropin = `[Service]
Type=oneshot
ExecStart=
ExecStart=/intruder
ExecReload=
Restart=no
WatchdogSec=0
TimeoutStartSec=5min
StandardOutput=truncate:` + Output + "\n"

// Output is the file with the attempts from inside.
const Output = "/srv/inside"

// Build builds the program and returns its path.
func Build(t testing.TB, root string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "intruder")
	cmd := exec.Command("go", "build", "-o", path, root+"/test/attack/intruder")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the intruder: %v\n%s", err, out)
	}
	return path
}

// attempt is the result of one attempt.
type attempt struct {
	Name  string `json:"name"`
	Error string `json:"error"` // "": it succeeded
}

// Judge fails the test for each attempt that succeeded inside the sandbox. It also fails
// for each one that failed outside too, because that proves nothing, unless impossible
// names it: such attempts cannot work on this machine, and are tested on another one.
func Judge(t testing.TB, inside, outside string, impossible ...string) {
	t.Helper()
	in, out := parse(t, inside), parse(t, outside)
	if len(in) == 0 || len(in) != len(out) {
		t.Fatalf("%d attempts from inside, %d from outside", len(in), len(out))
	}
	proven := 0
	for i, a := range in {
		t.Logf("%-62s inside: %-46s outside: %s", a.Name, a.verdict(), out[i].verdict())
		possible := out[i].Error == ""
		switch {
		case a.Error == "":
			t.Errorf("it succeeded from inside the sandbox: %s", a.Name)
		case strings.HasPrefix(a.Error, "not the attempt"):
			t.Errorf("%s: %s", a.Name, a.Error)
		case strings.Contains(a.Name, "the helper"): // it refuses everybody
			proven++
		case possible:
			proven++
		case !slices.Contains(impossible, a.Name):
			t.Errorf("it failed outside as well, so that it proves nothing: %s: %s", a.Name, out[i].Error)
		}
		if possible && slices.Contains(impossible, a.Name) {
			t.Errorf("it was said to be impossible here, and succeeded outside: %s", a.Name)
		}
	}
	t.Logf("%d attempts failed because of the sandbox; %d can't be made here", proven, len(impossible))
}

func (a attempt) verdict() string {
	if a.Error == "" {
		return "SUCCEEDED"
	}
	return strings.Join(strings.Fields(a.Error), " ")
}

func parse(t testing.TB, text string) (list []attempt) {
	t.Helper()
	for line := range strings.Lines(text) {
		var a attempt
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		list = append(list, a)
	}
	return list
}
