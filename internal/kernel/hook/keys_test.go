package hook

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// A refused key does not keep the other keys of the same file from being set.
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
			r := locked(t, nil, Use{}, c.answer)
			cmd := r.Command(lab.Tool(t, lab.Netns, c.tool[0]), c.tool[1:]...)
			out, _ := cmd.CombinedOutput()
			got := get(t, r.open(ipTables)) + get(t, r.open("net/ipv4/ip_forward"))
			if got != "11" || cmd.ProcessState.ExitCode() != c.exit || !strings.Contains(string(out), c.says) {
				t.Errorf("values %s, want 11; exit %v: %s", got, cmd.ProcessState.ExitCode(), out)
			}
		})
	}
}

// Keys of other modules, and values other than 1.
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
			r := locked(t, []Key{c.key}, Use{ExemptSelf: true}, Refuse)
			fd := r.open(c.key.Path)
			if c.want == "0" {
				_, _ = put(fd, "1")
			}
			cmd := r.Command("sh", "-c", `printf %s "$1" > "$2"`, "sh", c.text, "/proc/sys/"+c.key.Path)
			got := "EPERM"
			if err := cmd.Run(); err == nil {
				got = get(t, fd)
			}
			ws := slices.CompactFunc(r.news(50*time.Millisecond), func(a, b Write) bool {
				// While others hold the RTNL, net.ipv4's forwarding restarts the write:
				// restart_syscall in devinet_sysctl_forward.
				return a.Writer == b.Writer && a.Old == b.Old && a.New == b.New
			})
			if got != c.want || len(ws) > 1 || c.told != (len(ws) == 1) || c.unlocked != (len(r.Unlocked()) == 1) {
				t.Errorf("got %s, want %s; told %+v; unlocked %v", got, c.want, ws, r.Unlocked())
			}
		})
	}
}

// Writes to a sysctl of no namespace are reported, wherever they come from, and never refused.
func TestGlobalKey(t *testing.T) {
	const path = "kernel/panic_on_warn"
	r := locked(t, []Key{{path, "1"}}, Use{}, Refuse)
	text, err := os.ReadFile("/proc/sys/" + path)
	if err != nil || string(text) != "0\n" {
		t.Skipf("%s is %q, %v", path, text, err)
	}
	if err := os.WriteFile("/proc/sys/"+path, text, 0); err != nil { // the value that it has already
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
		_, err := rules([]Key{c.key})
		if diff := cmp.Diff(c.error, fmt.Sprint(err)); diff != "" {
			t.Errorf("error (-want +got):\n%s", diff)
		}
	}
}

// many returns n keys that no kernel has.
func many(n int) []Key {
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = Key{fmt.Sprintf("net/ipv4/conf/eth%d/rp_filter", i), "1"}
	}
	return keys
}

func TestManyKeys(t *testing.T) {
	r := locked(t, append(many(1000), bridgeKeys...), Use{}, Refuse)
	for _, path := range []string{ipTables, ip6Tables} {
		fd := r.open(path)
		if _, err := put(fd, "0"); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v", path, err)
		}
	}
	want := []string{`bridge-nf-call-iptables "1"→"0" refused by hook.test`, `bridge-nf-call-ip6tables "1"→"0" refused by hook.test`}
	if diff := cmp.Diff(want, told(r.news(time.Second))); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

// For other keys a second program is attached before the first one is detached.
func TestOtherKeysLeaveNoGap(t *testing.T) {
	r := locked(t, nil, Use{}, Refuse)
	fd := r.open(ipTables)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200_000 {
			if _, err := put(fd, "0"); err == nil {
				t.Error("a gap")
				return
			}
		}
	}()
	for i := 1; ; i++ {
		fresh, err := attach(append(many(i%3), Key{ipTables, "1"}), Use{Answer: Refuse, Netns: r.inode})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r.Hook = fresh
		select {
		case <-done:
			t.Logf("%d programs in turn", i)
			return
		default:
		}
	}
}

// Vectors are not refused, but writes in another namespace are not reported (B9).
func TestVectorOfAnotherNamespace(t *testing.T) {
	key := Key{"net/ipv4/tcp_rmem", "4096 131072 6291456"}
	r, other := locked(t, []Key{key}, Use{}, Refuse), lab.NewNamespace(t)
	other.Run(t, "sysctl", "-qw", "net.ipv4.tcp_rmem=4096 87380 4194304")
	r.Run(t, "sysctl", "-qw", "net.ipv4.tcp_rmem=4096 87380 6291456")
	ws := r.news(time.Second)
	if len(ws) != 1 || ws[0].New != "4096 87380 6291456" || ws[0].Uncertain || ws[0].Verdict != Allowed {
		t.Errorf("told %+v", ws)
	}
}

// One key can yield while the others are answered.
func TestYield(t *testing.T) {
	r := locked(t, nil, Use{}, Refuse)
	four, six := r.open(ipTables), r.open(ip6Tables)
	for _, yields := range []bool{true, false} {
		r.Yield(ipTables, yields)
		r.SetAnswer(Refuse) // the key still yields
		_, err4 := put(four, "0")
		_, err6 := put(six, "0")
		if (err4 == nil) != yields || err6 == nil {
			t.Errorf("yields %v: %v, %v", yields, err4, err6)
		}
		_, _ = put(four, "1")
	}
}

// TestB13SourcesAskWhileAReloadSets: the race detector finds no race.
func TestB13SourcesAskWhileAReloadSets(t *testing.T) {
	r := locked(t, nil, Use{}, Refuse)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			if r.How() == "" || r.FD() < 0 || r.Answer() > Rewrite {
				t.Error("nonsense")
			}
			r.Yield(ipTables, false)
		}
	}()
	for i := range 1000 {
		r.SetAnswer([]Answer{Observe, Refuse}[i%2])
	}
	<-done
}
