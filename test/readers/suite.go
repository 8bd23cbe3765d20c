// Package readers has the programs that read sysctl.d, modprobe.d and modules-load.d
// at boot, as several releases of Debian have them, and trees of files for them to
// read. With these the forecast of internal/core/boot is held against what programs of
// five years do.
package readers

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// Suites are the releases whose programs are compared with.
var Suites = []string{"bullseye", "bookworm", "trixie", "sid"}

//go:embed suite.sh
var script []byte

// kept is where a suite is kept: for each text of the script anew. What sid was on that
// day stays until somebody removes it.
func kept(suite string) (string, error) {
	cache, err := os.UserCacheDir()
	recipe := sha256.Sum256(script)
	return filepath.Join(cache, "nfguard/readers", hex.EncodeToString(recipe[:4])+"-"+suite), err
}

// Suite returns the directory with the programs of a suite, and fetches it where it is
// not in the user's cache directory. Nobody may write to it.
func Suite(t testing.TB, suite string) (dir string) {
	t.Helper()
	lab.Need(t, lab.Root)
	dir, err := kept(suite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	begin := time.Now()
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	recipe := filepath.Join(fresh, "suite.sh")
	if err := os.WriteFile(recipe, script, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", recipe, suite, fresh+"/tree").CombinedOutput(); err != nil {
		t.Fatalf("fetch %s: %v\n%s", suite, err, out)
	}
	if err := os.Rename(fresh+"/tree", dir); err != nil {
		t.Fatal(err)
	}
	t.Logf("fetched %s in %v", suite, time.Since(begin).Round(time.Second))
	return dir
}
