package packaging

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

const (
	unit    = root + "/systemd/nfguard.service"
	helper  = root + "/systemd/nfguard-helper.service"
	example = root + "/packaging/systemd/fanotify.conf"
)

// TestUnitExposure checks the exposure that systemd-analyze computes, in tenths.
func TestUnitExposure(t *testing.T) {
	analyze := lab.Tool(t, lab.Root, "systemd-analyze")
	weaker := filepath.Join(t.TempDir(), "nfguard.service")
	write(t, weaker, read(t, unit)+read(t, example))
	for _, tt := range []struct{ name, unit, most string }{
		{"the daemon", unit, "20"},
		{"with CAP_SYS_ADMIN", weaker, "25"},
		{"the helper", helper, "27"},
	} {
		out, err := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold="+tt.most, tt.unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v:\n%s", tt.name, err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Log(lines[len(lines)-1])
	}
}

// TestUnitTellsWhy: each protection of systemd that the unit does not use, or uses only in
// part, has to be named in the unit.
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
	dir := t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, path := range []string{unit, helper, root + "/systemd/nfguard-helper.socket"} {
		// systemd-analyze needs the program.
		text := strings.Replace(read(t, path), "/usr/bin/nfguard", "/bin/true", 1)
		args = append(args, filepath.Join(dir, filepath.Base(path)))
		write(t, args[len(args)-1], text)
	}
	out, err := exec.Command(analyze, args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestM12UnitsAreKnownToSystemd247: Debian 11's systemd knows every key in the units.
func TestM12UnitsAreKnownToSystemd247(t *testing.T) {
	newer := []string{ // by the release that added them
		"PrivateIPC", "IPCNamespacePath", "ExtensionImages", // 248
		"SocketBindAllow", "SocketBindDeny", // 249
		"RestrictFileSystems", "RestrictNetworkInterfaces", "ExitType", "LoadCredentialEncrypted", // 250
		"ExtensionDirectories", "LogFilterPatterns", "OpenFile", // 251, 253
		"MemoryPressureWatch", "RestartSteps", "RestartMaxDelaySec", "DelegateSubgroup", "RootEphemeral", // 254
		"PollLimitIntervalSec", "PollLimitBurst", "SurviveFinalKillSignal", "PassFileDescriptorsToExec", "PrivatePIDs", // 255 to 257
	}
	for _, path := range []string{unit, helper, root + "/systemd/nfguard-helper.socket", example} {
		for line := range strings.Lines(read(t, path)) {
			key, _, found := strings.Cut(line, "=")
			if found && slices.Contains(newer, key) {
				t.Errorf("%s: systemd 247 does not know %s=", filepath.Base(path), key)
			}
		}
	}
}
