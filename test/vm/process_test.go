package vm

import (
	"io"
	"os"
	"os/exec"
	"testing"
)

// The child holds the pipe that its parent was given, so the pipe ends when
// both have ended.
func TestTiedChildEndsWithKilledParent(t *testing.T) {
	if os.Getenv("NFGUARD_VM_PARENT") != "" {
		child := exec.Command("sleep", "600")
		child.Stdout = os.Stdout
		if _, err := startTied(child); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("started\n")
		select {}
	}

	parent := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	parent.Env = append(os.Environ(), "NFGUARD_VM_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("started\n"))); err != nil {
		t.Error(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(out); err != nil { // if it never ends, go test's own limit does
		t.Error(err)
	}
	_ = parent.Wait()
}
