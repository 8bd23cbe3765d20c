package netns_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// newScopedNode is newNode with scope "bridges" and without a bridge that it
// keeps. config goes below [bridges].
func newScopedNode(t *testing.T, config string) *node {
	t.Helper()
	n := newNode(t, "scope = \"bridges\"\n[timing]\naudit = \"1s\"\n[bridges]\n"+config)
	n.Run(t, "ip", "link", "del", "cnio0")
	return n
}

// flags returns the flags of a bridge, as "1 1 1".
func (n *node) flags(name string) string {
	var b rtnl.Bridge
	var err error
	n.Do(func() { b, err = rtnl.BridgeNamed(name) })
	if err != nil {
		return err.Error()
	}
	return digits(b)
}

func digits(b rtnl.Bridge) string {
	var out []string
	for _, on := range []bool{b.NFCallIPTables, b.NFCallIP6Tables, b.NFCallARPTables} {
		out = append(out, map[bool]string{false: "0", true: "1"}[on])
	}
	return strings.Join(out, " ")
}

func (n *node) flagged(name, want string, limit time.Duration) {
	n.t.Helper()
	for start := time.Now(); n.flags(name) != want; time.Sleep(time.Millisecond) {
		if time.Since(start) > limit {
			n.t.Fatalf("the flags of %s are %s after %v, want %s", name, n.flags(name), limit, want)
		}
	}
}

// flagRecords returns the records of kind bridge_flag about a bridge.
func (n *node) flagRecords(name string) (messages []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.records {
		if r["NFGUARD_EVENT"] == "bridge_flag" && r["NFGUARD_SUBJECT"] == name {
			messages = append(messages, r["MESSAGE"])
		}
	}
	return messages
}

// bridgeRecords waits until there are that many.
func (n *node) bridgeRecords(name string, count int) []string {
	n.t.Helper()
	for deadline := time.Now().Add(atMost); ; time.Sleep(5 * time.Millisecond) {
		got := n.flagRecords(name)
		if len(got) == count {
			return got
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%d records about %s, want %d: %q", len(got), name, count, got)
		}
	}
}

func addBridge(name string) error {
	return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, Group: 7}})
}

// A thousand bridges are created and removed; every other one is to be kept. Those get
// their flags, the others are not touched, and removed bridges are forgotten.
func TestThousandBridges(t *testing.T) {
	t.Parallel() // with other tests that mostly wait
	const each, block = 500, 25
	n := newScopedNode(t, "")
	n.start()
	n.awaitReady()
	var longest time.Duration
	for first := 0; first < each; first += block {
		for i := first; i < first+block; i++ {
			kept, other := fmt.Sprintf("cni%d", i), fmt.Sprintf("vmbr%d", i)
			var err error
			n.Do(func() {
				if err = addBridge(other); err == nil {
					err = addBridge(kept)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			n.flagged(kept, "1 1 1", atMost)
			longest = max(longest, time.Since(start))
		}
		for i := first; i < first+block; i++ {
			if got := n.flags(fmt.Sprintf("vmbr%d", i)); got != "0 0 0" {
				t.Fatalf("vmbr%d was touched: %s", i, got)
			}
		}
		n.Run(t, "ip", "link", "del", "group", "7")
	}
	n.Run(t, "ip", "link", "add", "cnilast", "type", "bridge")
	n.flagged("cnilast", "1 1 1", atMost)
	t.Logf("%d bridges, the longest without its flags %v", 2*each, longest)
	// Bridges with flags were noted before; of removed ones, up to 64 notes can be left.
	text, err := os.ReadFile(n.file("run/bridges.json"))
	if lines := strings.Count(string(text), "\n"); err != nil || lines > 65 || !strings.Contains(string(text), `"cnilast"`) {
		t.Errorf("remembered: %v, %d lines\n%s", err, lines, text)
	}
	n.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := 0
	for _, r := range n.records {
		if r["NFGUARD_EVENT"] == "bridge_flag" {
			kept++
			if !strings.HasPrefix(r["NFGUARD_SUBJECT"], "cni") || r["NFGUARD_OUTCOME"] != "corrected" {
				t.Errorf("record: %v", r)
			}
		}
	}
	if kept != each+1 {
		t.Errorf("%d bridges on record, want %d", kept, each+1)
	}
}

// Flags are cleared by hand while the bridge is up (the kernel reports it) and down (it
// does not), a bridge is set down and up, and one is removed and created again.
func TestFlagsAreKept(t *testing.T) {
	n := newScopedNode(t, "")
	n.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	n.start()
	n.awaitReady()
	ip := func(args string) { t.Helper(); n.Run(t, "ip", strings.Fields(args)...) }
	if got := n.bridgeRecords("cni0", 1); got[0] != "bridge cni0 had iptables 0, ip6tables 0, arptables 0, set to 1, as found at start (matches cni*)" {
		t.Errorf("record: %s", got[0])
	}

	ip("link set cni0 type bridge nf_call_iptables 0") // down: the audit finds it
	n.flagged("cni0", "1 1 1", atMost)
	if got := n.bridgeRecords("cni0", 2); got[1] != "bridge cni0 had iptables 0, ip6tables 1, arptables 1, set to 1 (matches cni*)" {
		t.Errorf("record: %s", got[1])
	}

	ip("link set cni0 up")
	ip("link set cni0 type bridge nf_call_ip6tables 0 nf_call_arptables 0")
	n.flagged("cni0", "1 1 1", atMost)
	if got := n.bridgeRecords("cni0", 3); !strings.HasPrefix(got[2], "bridge cni0 had iptables 1, ip6tables 0, arptables 0, set to 1 after ") {
		t.Errorf("record: %s", got[2])
	}

	ip("link set cni0 down")
	ip("link set cni0 up")
	time.Sleep(50 * time.Millisecond)
	if got := n.flags("cni0"); got != "1 1 1" {
		t.Errorf("after down and up: %s", got)
	}

	ip("link del cni0")
	ip("link add cni0 type bridge")
	n.flagged("cni0", "1 1 1", atMost)
	if got := n.bridgeRecords("cni0", 4); !strings.HasPrefix(got[3], "bridge cni0 had iptables 0, ip6tables 0, arptables 0, set to 1 after ") {
		t.Errorf("record: %s", got[3])
	}
}

// A reload changes the scope, both ways: a bridge of pods always has its flag or the
// sysctl.
func TestScopeReload(t *testing.T) {
	t.Run("the sysctls are left alone", func(t *testing.T) { reloadScope(t, "", "") })
	t.Run("the sysctls are kept at 0", func(t *testing.T) { reloadScope(t, atZero, strings.ReplaceAll(atZero, "= 0", "= 1")) })
}

// reloadScope changes the scope to and fro, with those sysctls in either.
func reloadScope(t *testing.T, inBridges, inHost string) {
	n := newScopedNode(t, inBridges)
	scoped, err := os.ReadFile(n.file("nfguard.toml"))
	if err != nil {
		t.Fatal(err)
	}
	host := strings.Replace(strings.Replace(string(scoped), `"bridges"`, `"host"`, 1), inBridges, inHost, 1)
	n.Run(t, "ip", "link", "add", "cni0", "type", "bridge", "nf_call_arptables", "1") // not ours to take back
	n.Run(t, "ip", "link", "add", "vmbr0", "type", "bridge")
	n.start()
	n.awaitReady()

	var stop atomic.Bool
	var looks, bare int
	var reading sync.WaitGroup
	reading.Add(1)
	n.Go(func() {
		defer reading.Done()
		fd, err := unix.Open(keyFile("iptables"), unix.O_RDONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		flag := func() bool { b, _ := rtnl.BridgeNamed("cni0"); return b.NFCallIPTables }
		sysctl := func() bool {
			var b [1]byte
			_, _ = unix.Pread(fd, b[:], 0)
			return b[0] == '1'
		}
		for !stop.Load() {
			looks++
			// If it changes from one to the other between two reads, both can read 0.
			if !flag() && !sysctl() && !flag() {
				bare++
			}
		}
	})
	reload := func(text string) {
		t.Helper()
		n.mu.Lock()
		n.records = nil
		n.mu.Unlock()
		n.write("new", text) // as a whole, because the daemon also reads the file when it changes
		if err := os.Rename(n.file("new"), n.file("nfguard.toml")); err != nil {
			t.Fatal(err)
		}
		_ = n.cmd.Process.Signal(syscall.SIGHUP)
		n.recorded("a reload", func(r map[string]string) bool { return r["MESSAGE"] == "the configuration was reloaded" })
	}
	for range 10 {
		reload(host)
		n.becomes("1 1 1", atMost)
		n.flagged("cni0", "0 0 1", atMost)
		for deadline := time.Now().Add(atMost); ; time.Sleep(time.Millisecond) { // right after it was taken back
			if _, err := os.Stat(n.file("run/bridges.json")); err != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("what was taken back is still remembered")
			}
		}
		reload(string(scoped))
		if inBridges == "" {
			n.set("0", "0", "0") // as soon as the administrator can do so safely
		}
		n.becomes("0 0 0", atMost)
		n.flagged("cni0", "1 1 1", atMost)
		if got := n.values(); got != "0 0 0" {
			t.Errorf("in scope bridges the sysctls are %s", got)
		}
	}
	stop.Store(true)
	reading.Wait()
	t.Logf("%d looks", looks)
	if bare > 0 || looks < 1000 {
		t.Errorf("in %d of %d looks cni0 had neither", bare, looks)
	}
	if got := n.flags("vmbr0"); got != "0 0 0" {
		t.Errorf("vmbr0 was touched: %s", got)
	}
	for deadline := time.Now().Add(atMost); ; time.Sleep(5 * time.Millisecond) { // a pass writes it
		text, err := os.ReadFile(n.file("99-zz-nfguard.conf"))
		if err == nil && strings.Contains(string(text), "bridge-nf-call-iptables = 0") == (inBridges != "") && !strings.Contains(string(text), "= 1") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the drop-in sets what is not to be so: %v\n%s", err, text)
		}
	}
}

// The daemon's memory of flags stays when it ends: the next daemon, in scope host, takes
// back the flags that the last one set.
func TestMemoryOutlastsTheDaemon(t *testing.T) {
	n := newScopedNode(t, "")
	n.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	n.start()
	n.awaitReady()
	n.stop()
	if got := n.flags("cni0"); got != "1 1 1" {
		t.Errorf("after a clean stop the flags are %s", got)
	}
	text, _ := os.ReadFile(n.file("nfguard.toml"))
	n.write("nfguard.toml", strings.Replace(string(text), `"bridges"`, `"host"`, 1))
	os.Remove(n.file("notify"))
	n.start()
	n.awaitReady()
	if got, keys := n.flags("cni0"), n.values(); got != "0 0 0" || keys != "1 1 1" {
		t.Errorf("flags %s, sysctls %s", got, keys)
	}
}

// A memory file that is broken or unreadable is reported, and does no harm.
func TestBrokenMemory(t *testing.T) {
	for name, breakIt := range map[string]func(path string) error{
		"half a file": func(path string) error { return os.WriteFile(path, []byte(`{"schema"`), 0o644) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newScopedNode(t, "")
			if err := os.MkdirAll(n.file("run"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := breakIt(n.file("run/bridges.json")); err != nil {
				t.Fatal(err)
			}
			n.start()
			n.awaitReady()
			n.recorded("that it is not known", func(r map[string]string) bool {
				return r["NFGUARD_EVENT"] == "bridge" && strings.HasPrefix(r["MESSAGE"], "which flags of bridges nfguard has set is not known: ")
			})
			n.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
			n.flagged("cni0", "1 1 1", atMost)
		})
	}
}

func TestObserveLeavesFlags(t *testing.T) {
	n := newScopedNode(t, "")
	text, _ := os.ReadFile(n.file("nfguard.toml"))
	n.write("nfguard.toml", "mode = \"observe\"\n"+string(text))
	n.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	n.start()
	n.awaitReady()
	n.Run(t, "ip", "link", "add", "cni1", "type", "bridge")
	want := "cni1 is iptables 0, ip6tables 0, arptables 0, wanted iptables 1, ip6tables 1, arptables 1: " +
		"a pod that calls a Service with an endpoint on its own node gets the reply from the wrong address"
	if got := n.bridgeRecords("cni1", 1); got[0] != want {
		t.Errorf("got  %s\nwant %s", got[0], want)
	}
	if got := n.flags("cni0") + ", " + n.flags("cni1"); got != "0 0 0, 0 0 0" {
		t.Errorf("the flags are %s", got)
	}
	if _, err := os.Stat(n.file("run/bridges.json")); err == nil {
		t.Error("something was remembered")
	}
}
