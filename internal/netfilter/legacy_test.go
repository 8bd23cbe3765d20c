package netfilter

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// entry is one of a table: a target with data behind it.
func (l *layout) entry(target, data string) []byte {
	b := make([]byte, l.size+targetHeader+len(data))
	binary.NativeEndian.PutUint16(b[l.targetOffset:], uint16(l.size))
	binary.NativeEndian.PutUint16(b[l.nextOffset:], uint16(len(b)))
	copy(b[l.size+targetName:], target)
	copy(b[l.size+targetHeader:], data)
	return b
}

// testChain is a user-defined one and its entries, of which the last is no rule.
type testChain struct {
	name    string
	entries int
}

// table has chains between the built-in ones and the end.
func (l *layout) table(chains ...testChain) []byte {
	b := bytes.Repeat(l.entry("", "verd"), 3)
	for _, c := range chains {
		b = append(b, l.entry(errorTarget, (c.name + strings.Repeat("\x00", 32))[:32])...)
		b = append(b, bytes.Repeat(l.entry("DNAT", "some data of a target"), c.entries)...)
	}
	return append(b, l.entry(errorTarget, (errorTarget + strings.Repeat("\x00", 32))[:32])...)
}

func TestHasServices(t *testing.T) {
	for name, tt := range map[string]struct {
		chains []testChain
		want   bool
	}{
		"no chains":                 {nil, false},
		"another":                   {[]testChain{{"KUBE-SVC-X", 5}}, false},
		"a longer name":             {[]testChain{{"KUBE-SERVICES-X", 5}}, false},
		"empty":                     {[]testChain{{"KUBE-SERVICES", 1}}, false},
		"empty, before one in use":  {[]testChain{{"KUBE-SERVICES", 1}, {"X", 3}}, false},
		"a rule":                    {[]testChain{{"KUBE-SERVICES", 2}}, true},
		"a rule, behind empty ones": {[]testChain{{"A", 1}, {"B", 1}, {"KUBE-SERVICES", 2}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, l := range []layout{ipv4Entry, ipv6Entry} {
				got, err := l.hasServices(l.table(tt.chains...))
				if got != tt.want || err != nil {
					t.Errorf("size %d: %t, %v; want %t", l.size, got, err, tt.want)
				}
			}
		})
	}
}

func TestHasServicesRefusesWhatIsNoTable(t *testing.T) {
	l := &ipv4Entry
	damaged := func(offset int, value uint16) []byte {
		b := l.table()
		binary.NativeEndian.PutUint16(b[offset:], value)
		return b
	}
	for name, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"cut off":                     {l.table()[:100], "entry at 0 of 100 is cut off"},
		"cut off later":               {l.table()[:len(l.table())-1], "entry at 444 of 619 is malformed"},
		"a target inside the match":   {damaged(l.targetOffset, 8), "entry at 0 of 620 is malformed"},
		"no room for a target":        {damaged(l.nextOffset, 113), "entry at 0 of 620 is malformed"},
		"an entry without an end":     {damaged(l.nextOffset, 0), "entry at 0 of 620 is malformed"},
		"an entry behind the table":   {damaged(l.nextOffset, 60000), "entry at 0 of 620 is malformed"},
		"a target behind its entry":   {damaged(l.targetOffset, 60000), "entry at 0 of 620 is malformed"},
		"an end inside another entry": {damaged(l.nextOffset, 300), "entry at 300 of 620 is malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := l.hasServices(tt.b); fmt.Sprint(err) != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

// FuzzHasServices proves that no bytes, however broken, are worse than an error,
// and that what is behind a rule found is not looked at.
func FuzzHasServices(f *testing.F) {
	for _, l := range []layout{ipv4Entry, ipv6Entry} {
		chain := testChain{servicesChain, 2}
		f.Add(l.table(chain), l.size == ipv6Entry.size)
		f.Add(l.table(chain)[:500], l.size == ipv6Entry.size)
	}
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		l := &ipv4Entry
		if v6 {
			l = &ipv6Entry
		}
		used, err := l.hasServices(b)
		if used && err != nil {
			t.Errorf("a rule, and %v", err)
		}
		if again, err := l.hasServices(append(b, 1, 2, 3)); used && (!again || err != nil) {
			t.Errorf("a rule only without what follows: %t, %v", again, err)
		}
	})
}

// TestRemembered: an unchanged table is not read again, a changed one is, and
// one that went is forgotten.
func TestRemembered(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-legacy -t nat -N KUBE-SERVICES; iptables-legacy -t nat -A KUBE-SERVICES -j RETURN")
	l := new(Look)
	look(t, ns, l)
	if !l.ipv4.services || l.ipv4.info == (tableInfo{}) || l.ipv6.info != (tableInfo{}) {
		t.Fatalf("after a look: %+v", l)
	}
	l.ipv4.services = false // what only a reading would find out
	if got := look(t, ns, l); got != nil {
		t.Errorf("the same table was read again: %q", got)
	}
	shell(t, ns, "iptables-legacy -t nat -A OUTPUT -j RETURN")
	if got := look(t, ns, l); len(got) != 1 {
		t.Errorf("a changed table: %q", got)
	}
	other := lab.NewNamespace(t)
	if got := look(t, other, l); got != nil || l.ipv4 != (legacyTable{}) {
		t.Errorf("where there is no table: %q, %+v", got, l)
	}
}

// TestChanging looks while the table is replaced as fast as possible.
func TestChanging(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-legacy -t nat -N KUBE-SERVICES; iptables-legacy -t nat -A KUBE-SERVICES -j RETURN")
	storm := ns.Command("sh", "-c", `while :; do iptables-legacy -t nat -A OUTPUT -j RETURN; iptables-legacy -t nat -D OUTPUT 1; done`)
	if err := storm.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = storm.Process.Kill(); _ = storm.Wait() }()
	for range 2000 {
		if got := look(t, ns, new(Look)); len(got) != 1 {
			t.Fatalf("rules %q", got)
		}
	}
}

func TestCancelled(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-legacy -t nat -N KUBE-SERVICES")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ns.Do(func() {
		if _, err := new(Look).KubeProxy(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// TestHasLegacy: a table without rules is one, another table is not.
func TestHasLegacy(t *testing.T) {
	ns := lab.NewNamespace(t)
	for _, step := range []struct {
		script string
		want   bool
	}{
		{"true", false},
		{"ip6tables-legacy -L", false},
		{"ip6tables-legacy -t nat -L", true},
	} {
		shell(t, ns, step.script)
		ns.Do(func() {
			if got := HasLegacy(); got != step.want {
				t.Errorf("after %s: %t", step.script, got)
			}
		})
	}
}

// TestWrongSize has the kernel answer as if the table had changed.
func TestWrongSize(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-legacy -t nat -N KUBE-SERVICES")
	ns.Do(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		if err := readEntries(fd, &ipv4Family, 4096, nil); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("error %v, want EAGAIN", err)
		}
	})
}

func TestMain(m *testing.M) {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // su leaves them out
	os.Exit(m.Run())
}
