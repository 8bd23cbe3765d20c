package run

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/kernel/proc"
	"github.com/nfguard/nfguard/test/lab"
)

// TestLooksThroughAllRarely: between, only what was found or noted is looked at.
func TestLooksThroughAllRarely(t *testing.T) {
	lab.Need(t, lab.Root)
	const name = "nfguard-look"
	text, err := os.ReadFile(lab.Tool(t, lab.Root, "sleep"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		t.Helper()
		cmd := exec.Command(path, "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		for began := time.Now(); proc.ReadComm(cmd.Process.Pid) != name; time.Sleep(time.Millisecond) {
			if time.Since(began) > 10*time.Second {
				t.Fatal("it does not run")
			}
		}
		return cmd
	}
	var k kubeProxies
	k.lookThroughEvery(time.Hour)
	p := &guard.Policy{Programs: []string{name}}
	want := func(what string, cmds ...*exec.Cmd) {
		t.Helper()
		found, err := k.processes(p)
		ok := err == nil && len(found) == len(cmds)
		for i := range min(len(found), len(cmds)) {
			ok = ok && found[i].PID == cmds[i].Process.Pid
		}
		if !ok {
			t.Errorf("%s: %+v, %v", what, found, err)
		}
	}
	a := start()
	want("the first look is at all", a)
	b := start()
	want("nobody told of the second", a)
	k.note(b.Process.Pid)
	k.note(1)
	want("it was noted", a, b)
	_ = a.Process.Kill()
	_ = a.Wait()
	want("the first has ended", b)
	c := start()
	k.note(0)
	want("news was lost", b, c)
	d := start()
	for pid := range 2 * maxNoted {
		k.note(1<<20 + pid)
	}
	want("more was noted than is kept", b, c, d)
	e := start()
	k.walked = time.Now().Add(-time.Hour)
	want("it is time", b, c, d, e)
	f := start()
	p.Programs = []string{name, "another"}
	want("other names", b, c, d, e, f)
	p.Programs = nil
	want("no names")
}
