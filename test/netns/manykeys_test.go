package netns_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

// TestB8ManyKeys: more than 64 guarded keys are locked. A reload adds one, without a gap
// for the others.
func TestB8ManyKeys(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	n := newNode(t, "")
	text, err := os.ReadFile(n.file("nfguard.toml"))
	if err != nil {
		t.Fatal(err)
	}
	var list []string // each with the value that it has
	n.Do(func() {
		files, _ := filepath.Glob("/proc/sys/net/ipv4/conf/*/*")
		for _, f := range files {
			v, err := os.ReadFile(f)
			if value := strings.TrimSpace(string(v)); err == nil && (value == "0" || value == "1") {
				list = append(list, fmt.Sprintf("%q = %s\n", strings.ReplaceAll(strings.TrimPrefix(f, "/proc/sys/"), "/", "."), value))
			}
		}
	})
	if len(list) < 70 {
		t.Fatalf("this kernel has %d such keys", len(list))
	}
	config := "mode = \"lock\"\n" + string(text) + "[sysctl]\n"
	if strings.Contains(string(text), "[sysctl]") {
		t.Fatal("the node's configuration has a table of sysctls")
	}
	last := strings.Trim(strings.Fields(list[len(list)-1])[0], `"`)
	n.write("nfguard.toml", config+strings.Join(list[:len(list)-1], ""))
	n.start()
	n.awaitReady()
	write := func(key string) int {
		return code(n.Command("sysctl", "-qw", key+"=7").Run())
	}
	const bridge = "net.bridge.bridge-nf-call-iptables"
	refused := func() bool { return code(n.Command("sysctl", "-qw", bridge+"=0").Run()) != 0 }
	if !refused() || write(strings.Trim(strings.Fields(list[0])[0], `"`)) == 0 {
		t.Errorf("with %d keys they are not locked", len(list)+2)
	}
	if got := write(last); got != 0 {
		t.Errorf("%s, which is not guarded: exit %d", last, got)
	}
	stop, gaps := make(chan struct{}), make(chan int)
	go func() {
		gap := 0
		for {
			select {
			case <-stop:
				gaps <- gap
				return
			default:
				if !refused() {
					gap++
				}
			}
		}
	}()
	n.write("nfguard.toml", config+strings.Join(list, ""))
	n.recorded("reload", func(r map[string]string) bool { return r["MESSAGE"] == "the configuration was reloaded" })
	close(stop)
	if g := <-gaps; g > 0 {
		t.Errorf("%d writes were let through during the reload", g)
	}
	if write(last) == 0 {
		t.Errorf("%s, which the reload has added, is not locked", last)
	}
}
