package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Debian returns a copy of the small Debian that the script makes in the directory it
// is given. It is made once for each text of the script and kept in the user's cache
// directory; the copy goes with the test.
func Debian(t testing.TB, script string) string {
	t.Helper()
	Need(t, Root)
	Tool(t, Root, "mmdebstrap")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	script, err = filepath.Abs(script)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	recipe := sha256.Sum256(text)
	kept := filepath.Join(cache, "nfguard/packaging", hex.EncodeToString(recipe[:8]))
	if _, err := os.Stat(kept); err != nil {
		begin := time.Now()
		if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
			t.Fatal(err)
		}
		fresh, err := os.MkdirTemp(filepath.Dir(kept), "new-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(fresh)
		if out, err := exec.Command(script, fresh+"/tree").CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		if err := os.Rename(fresh+"/tree", kept); err != nil {
			t.Fatal(err)
		}
		t.Logf("made %s in %v", kept, time.Since(begin).Round(time.Second))
	}
	tree := filepath.Join(t.TempDir(), "debian")
	if out, err := exec.Command("cp", "-a", "--reflink=auto", kept, tree).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	return tree
}
