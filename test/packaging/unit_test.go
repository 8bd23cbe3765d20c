package packaging

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

const unit = root + "/systemd/nfguard.service"

// exposure is the most that systemd-analyze may find, in tenths.
const exposure = "24"

func TestUnitExposure(t *testing.T) {
	analyze := lab.Tool(t, lab.Root, "systemd-analyze")
	out, err := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold="+exposure, unit).CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
}

// TestUnitTellsWhy looks for each protection that systemd knows and the unit
// does without, or has in part: it has to be named in the unit.
func TestUnitTellsWhy(t *testing.T) {
	analyze := lab.Tool(t, lab.Root, "systemd-analyze")
	text := read(t, unit)
	var checks []struct {
		Name string `json:"name"`
		Set  *bool  `json:"set"` // null: does not matter here
	}
	if err := json.Unmarshal([]byte(run(t, analyze, "security", "--offline=true", "--json=short", unit)), &checks); err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if c.Set == nil || *c.Set {
			continue
		}
		for name := range strings.SplitSeq(c.Name, "/") {
			directive, _, _ := strings.Cut(name, "=")
			if !strings.Contains(text, directive+"=") {
				t.Errorf("%s is not named in %s", directive+"=", filepath.Base(unit))
			}
		}
	}
}

func TestUnitVerify(t *testing.T) {
	analyze := lab.Tool(t, lab.Root, "systemd-analyze")
	// It wants to see the program.
	text := strings.Replace(read(t, unit), "/usr/bin/nfguard", "/bin/true", 1)
	path := filepath.Join(t.TempDir(), "nfguard.service")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v:\n%s", err, out)
	}
}
