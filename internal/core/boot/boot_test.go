package boot_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
)

var update = flag.Bool("update", false, "write what is seen into testdata")

var guarded = []guard.Setting{{Key: guard.IPTables, Value: "1"}, {Key: guard.IP6Tables, Value: "1"}, {Key: guard.ARPTables, Value: "1"}}

// plant makes the files of an archive below a directory. Its comment gives
// options ("release 6.1.0"), links ("link /etc/x ../y") and empty files
// ("file /boot/vmlinuz-6.1.0").
func plant(t testing.TB, a *txtar.Archive) boot.Options {
	t.Helper()
	o := boot.Options{
		Root: t.TempDir(), Keys: guarded, SysctlD: "/etc/sysctl.d/99-zz-nfguard.conf", ModulesLoad: "/etc/modules-load.d/nfguard.conf",
	}
	for _, f := range a.Files {
		if f.Name != "want" {
			write(t, o.Root, f.Name, string(f.Data))
		}
	}
	for line := range strings.Lines(string(a.Comment)) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "release":
			o.Release = rest
		case "cmdline":
			o.Cmdline = rest
		case "file":
			write(t, o.Root, rest, "")
		case "link":
			name, target, _ := strings.Cut(rest, " ")
			link(t, o.Root, name, target)
		}
	}
	return o
}

func write(t testing.TB, root, name, text string) {
	t.Helper()
	full := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, root, name, target string) {
	t.Helper()
	full := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, full); err != nil {
		t.Fatal(err)
	}
}

// TestHosts forecasts the boots of hosts as they are met. Each archive of
// testdata is one, and ends with what is said about it.
func TestHosts(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatal(archives, err)
	}
	for _, file := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			o := plant(t, a)
			r := boot.Forecast(o)
			got := show(&r)
			want := &a.Files[len(a.Files)-1]
			if want.Name != "want" {
				t.Fatalf("the last file is %s", want.Name)
			}
			if *update {
				want.Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(want.Data), got); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(r, boot.Forecast(o), cmp.AllowUnexported(boot.Kernel{})); diff != "" {
				t.Errorf("the same files again (-first +second):\n%s", diff)
			}
		})
	}
}

// show is a report as text.
func show(r *boot.Report) string {
	var b strings.Builder
	for _, k := range r.Keys {
		fmt.Fprintf(&b, "%s: want %s, right %v\n", k.Key, k.Want, k.Right)
		for _, o := range k.By {
			fmt.Fprintf(&b, "  %s: %q by %q %s\n", o.Reader, o.Effect, o.Value, o.Place)
		}
	}
	d := r.Dropin
	fmt.Fprintf(&b, "drop-in: present %v, wins %v, after %v, name %q\n", d.Present, d.Wins, d.After, d.Name)
	m := r.Module
	fmt.Fprintf(&b, "module: %s, loaded by %s\n", m.State, m.LoadedBy)
	if m.Reason != "" {
		fmt.Fprintf(&b, "  %s\n  %s\n", m.Reason, m.Next)
	}
	for _, k := range r.Kernels {
		fmt.Fprintf(&b, "kernel %s: %s, running %v, bootable %v\n", k.Release, k.State, k.Running, k.Bootable)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "! %s\n  breaks %v; next: %s\n", f.Sentence, f.Breaks, f.Next)
	}
	for _, u := range r.Unread {
		fmt.Fprintf(&b, "? %s\n", u)
	}
	return b.String()
}

func TestWhatIsReadIsNamedBefore(t *testing.T) {
	o := boot.Options{Root: t.TempDir(), Keys: guarded, Release: "6.1.0"}
	write(t, o.Root, "/etc/sysctl.d/10-x.conf", "net.bridge.bridge-nf-call-iptables = 0\n")
	var named []string
	o.Reading = func(path string) { named = append(named, path) }
	if r := boot.Forecast(o); len(r.Findings) == 0 {
		t.Fatal("want findings, got none")
	}
	for _, want := range []string{"/etc/sysctl.d", "/etc/sysctl.d/10-x.conf", "/lib/modules/6.1.0/modules.dep"} {
		if !slices.Contains(named, want) {
			t.Errorf("%s is not among what was named: %q", want, named)
		}
	}
}
