// Package attack confronts the real nfguard with hostile files, names, users, storms and
// processes. The name of a test begins with the number of the fault that it is about.
package attack

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is nfguard as it is shipped, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "nfguard-attack-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "nfguard")
	build := exec.Command("go", "build", "-o", binary, "github.com/nfguard/nfguard/cmd/nfguard")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build nfguard: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
