package vm

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// consoleLimit is for everything that such a machine does.
const consoleLimit = 15 * time.Minute

// ARM64 boots an arm64 machine without a disk, waits until it has switched itself off,
// and returns what was on its console. Its init, and all that this uses, is in initrd. A
// machine that does not end fails the test, with the end of the console.
func ARM64(t testing.TB, kernel, initrd string) string {
	t.Helper()
	lab.Need(t, lab.Root, lab.VM)
	qemu := lab.Tool(t, lab.VM, "qemu-system-aarch64")
	path := filepath.Join(t.TempDir(), "console")
	console, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	cmd := exec.Command(qemu,
		"-M", "virt", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "cortex-a57", "-smp", "2", "-m", "1024",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", kernel, "-initrd", initrd,
		"-append", "console=ttyAMA0 panic=-1 loglevel=4 mitigations=off nokaslr cryptomgr.notests",
		"-serial", "stdio")
	cmd.Stdout, cmd.Stderr = console, console
	p, err := startTied(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	ctx, cancel := p.bounded(t.Context(), consoleLimit)
	defer cancel()
	if err := p.wait(ctx); err != nil {
		t.Fatalf("the arm64 machine: %v\n%s", err, tail(path, 40))
	}
	text, err := os.ReadFile(path)
	if err = errors.Join(err, t.Context().Err()); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
