package sysctlhook

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

// A hostile file does not keep its other keys from being set.
func TestToolsGoOn(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "99-hostile.conf")
	text := "net.bridge.bridge-nf-call-iptables = 0\nnet.ipv4.ip_forward = 1\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		answer Answer
		tool   []string
		exit   int
		says   string
	}{
		{Refuse, []string{"sysctl", "-p", conf}, 1, "Operation not permitted"},
		{Rewrite, []string{"sysctl", "-p", conf}, 0, "net.bridge.bridge-nf-call-iptables = 0"},
		{Refuse, []string{"systemd-sysctl", conf}, 0, ""},
		{Rewrite, []string{"systemd-sysctl", conf}, 0, ""},
	} {
		t.Run(fmt.Sprint(c.tool[0], " answer ", c.answer), func(t *testing.T) {
			r := locked(t, Options{}, c.answer)
			cmd := r.Command(lab.Tool(t, lab.Netns, c.tool[0]), c.tool[1:]...)
			out, _ := cmd.CombinedOutput()
			got := get(t, r.open(ipTables)) + get(t, r.open("net/ipv4/ip_forward"))
			if got != "11" || cmd.ProcessState.ExitCode() != c.exit || !strings.Contains(string(out), c.says) {
				t.Errorf("values %s, want 11; exit %v: %s", got, cmd.ProcessState.ExitCode(), out)
			}
		})
	}
}

// Keys that are not br_netfilter's, values that are not 1.
func TestOtherKeys(t *testing.T) {
	for _, c := range []struct {
		key      Key
		text     string
		want     string // error, or value afterwards
		told     bool
		unlocked bool
	}{
		{Key{ipTables, "0"}, "1", "EPERM", true, false},
		{Key{ipTables, "0"}, "0x0", "0", false, false},
		{Key{"net/ipv4/ip_forward", "1"}, "1", "1", false, false},
		{Key{"net/ipv4/ip_forward", "1"}, " 0x1\n", "1", false, false},
		{Key{"net/ipv4/ip_forward", "1"}, "0", "EPERM", true, false},
		{Key{"net/ipv4/ip_forward", "1"}, "2", "EPERM", true, false}, // stored as 2
		{Key{"net/ipv4/ip_forward", "1"}, "on", "EPERM", true, false},
		{Key{"net/ipv4/neigh/lo/base_reachable_time_ms", "30000"}, "30000", "30000", false, false},
		{Key{"net/ipv4/neigh/lo/base_reachable_time_ms", "30000"}, "3600000", "EPERM", true, false},
		{Key{"net/ipv4/ip_local_port_range", "32768 60999"}, "1024 65000", "1024\t65000", true, true},
		{Key{"net/ipv4/ip_local_port_range", "32768 60999"}, "32768\t60999\n", "32768\t60999", false, true},
		{Key{"net/ipv4/ip_forward", "yes"}, "0", "0", true, true},
	} {
		t.Run(fmt.Sprint(c.key, c.text), func(t *testing.T) {
			r := locked(t, Options{Keys: []Key{c.key}, ExemptSelf: true}, Refuse)
			fd := r.open(c.key.Path)
			if c.want == "0" {
				_, _ = put(fd, "1")
			}
			cmd := r.Command("sh", "-c", `printf %s "$1" > "$2"`, "sh", c.text, "/proc/sys/"+c.key.Path)
			got := "EPERM"
			if err := cmd.Run(); err == nil {
				got = get(t, fd)
			}
			ws := r.news(50 * time.Millisecond)
			if got != c.want || len(ws) > 1 || c.told != (len(ws) == 1) || c.unlocked != (len(r.Unlocked()) == 1) {
				t.Errorf("got %s, want %s; told %+v; unlocked %v", got, c.want, ws, r.Unlocked())
			}
		})
	}
}

// A sysctl of no namespace is told of, whoever has it, and never refused.
func TestGlobalKey(t *testing.T) {
	const path = "kernel/panic_on_warn"
	r := locked(t, Options{Keys: []Key{{path, "1"}}}, Refuse)
	text, err := os.ReadFile("/proc/sys/" + path)
	if err != nil || string(text) != "0\n" {
		t.Skipf("%s is %q, %v", path, text, err)
	}
	if err := os.WriteFile("/proc/sys/"+path, text, 0); err != nil { // what it is already
		t.Fatal(err)
	}
	ws := r.news(time.Second)
	if len(ws) != 1 || !ws[0].Uncertain || ws[0].Verdict != Allowed {
		t.Errorf("told %+v", ws)
	}
}

func TestRefusedKeys(t *testing.T) {
	for _, c := range []struct {
		key   Key
		error string
	}{
		{Key{"", "1"}, `sysctl "": want a path below /proc/sys of at most 95 bytes`},
		{Key{"/proc/sys/vm/swappiness", "1"}, `sysctl "/proc/sys/vm/swappiness": want a path below /proc/sys of at most 95 bytes`},
		{Key{strings.Repeat("x", 96), "1"}, fmt.Sprintf("sysctl %q: want a path below /proc/sys of at most 95 bytes", strings.Repeat("x", 96))},
	} {
		_, err := c.key.rule()
		if diff := cmp.Diff(c.error, fmt.Sprint(err)); diff != "" {
			t.Errorf("error (-want +got):\n%s", diff)
		}
	}
}

// A key that is taken away is free, one that is added is guarded, and one
// that stays has its lock all the time.
func TestSetKeys(t *testing.T) {
	r := locked(t, Options{}, Refuse)
	four, six := r.open(ipTables), r.open(ip6Tables)
	set := func(keys ...Key) {
		t.Helper()
		if err := r.SetKeys(keys); err != nil {
			t.Fatal(err)
		}
	}
	values := func(want string) {
		t.Helper()
		_, err4 := put(four, "0")
		_, err6 := put(six, "0")
		if got := get(t, four) + get(t, six); got != want {
			t.Errorf("values %s (%v, %v), want %s", got, err4, err6, want)
		}
		_, _ = put(four, "1")
		_, _ = put(six, "1")
	}
	values("11")
	set(Key{ipTables, "1"})
	values("10")
	set(Key{ip6Tables, "1"})
	values("01")
	set(Key{ip6Tables, "0"}, Key{ipTables, "1"})
	values("10")
	set()
	values("00")

	many := make([]Key, maxKeys)
	for i := range many {
		many[i] = Key{fmt.Sprintf("net/ipv4/key%d", i), "1"}
	}
	for round := range 3 { // slots come round
		set(many...)
		set(bridgeKeys...)
		r.news(0)
		values("11")
		for _, w := range r.news(time.Second) {
			if w.Path != ipTables && w.Path != ip6Tables {
				t.Errorf("round %d: told of %s", round, w.Path)
			}
		}
	}
	if err := r.SetKeys(append(many, bridgeKeys...)); err == nil {
		t.Error("too many keys are taken")
	}

	done := make(chan struct{})
	go func() { // while keys come and go beside it
		defer close(done)
		for range count(20000) {
			if _, err := put(four, "0"); err == nil {
				t.Error("a gap")
				return
			}
		}
	}()
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
		}
		set(Key{ipTables, "1"}, many[i%maxKeys])
	}
}
