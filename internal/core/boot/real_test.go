package boot_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
	"github.com/nfguard/nfguard/test/readers"
)

// box is a root directory with programs of this host and the libraries that
// they need, and nothing else: what a program says in it depends on the files
// of the test only.
type box struct {
	t    testing.TB
	root string
}

// newBox needs root: it is entered by chroot.
func newBox(t testing.TB, programs ...string) *box {
	t.Helper()
	lab.Need(t, lab.Root)
	b := &box{t, t.TempDir()}
	for _, dir := range []string{"proc", "sys", "dev", "bin", "etc", "run", "usr/lib", "usr/local/lib"} {
		if err := os.MkdirAll(filepath.Join(b.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link(t, b.root, "lib", "usr/lib")
	write(t, b.root, "dev/null", "")
	for _, program := range programs {
		full := lab.Tool(t, lab.Root, program)
		b.copy(full, "bin/"+program)
		out, err := exec.Command("ldd", full).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", full, err)
		}
		for _, word := range strings.Fields(string(out)) {
			if filepath.IsAbs(word) {
				b.copy(word, word)
			}
		}
	}
	return b
}

func (b *box) copy(from, to string) {
	b.t.Helper()
	to = filepath.Join(b.root, to)
	if _, err := os.Stat(to); err == nil {
		return
	}
	text, err := os.ReadFile(from)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o755); err != nil {
		b.t.Fatal(err)
	}
}

// run has sh run a script in mount and network namespaces of its own, with
// $R the box's root and procfs in it, and returns what it says.
func (b *box) run(script string) string {
	b.t.Helper()
	cmd := exec.Command("timeout", "240", "unshare", "--mount", "--net", "--propagation", "private", "sh", "-euc",
		`mount -t proc proc "$R/proc"; mount --bind /dev/null "$R/dev/null"; `+script)
	cmd.Env = append(os.Environ(), "R="+b.root, "LC_ALL=C")
	start := time.Now()
	out, err := cmd.Output()
	if err != nil {
		said := ""
		if e := (*exec.ExitError)(nil); errors.As(err, &e) {
			said = string(e.Stderr)
		}
		b.t.Fatalf("%v\n%s\n%s", err, out, said)
	}
	b.t.Logf("%v in the namespace", time.Since(start).Round(time.Millisecond))
	return string(out)
}

// setBy runs systemd-sysctl and `sysctl --system` on trees, each of which is
// a directory below dir with etc, run and usr, and returns what the probes
// and bridge-nf-call-iptables are after it: "systemd-sysctl 3 11 99 99 1" for
// the tree named 3.
func (b *box) setBy(dir string) map[string]string {
	b.t.Helper()
	script := fmt.Sprintf(`
cd %s
for tree in *; do
  for d in etc run usr/lib/sysctl.d usr/local/lib; do mkdir -p $tree/$d $R/$d; mount --bind $tree/$d $R/$d; done
  for program in systemd-sysctl "sysctl --system"; do
    for p in %[2]s; do echo 99 >/proc/sys/$p; done
    echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
    timeout 10 chroot $R /bin/$program >/dev/null 2>&1 || [ $? != 124 ]
    echo "$program $tree:" $(for p in %[2]s net/bridge/bridge-nf-call-iptables; do cat /proc/sys/$p; done)
  done
  for d in usr/local/lib usr/lib/sysctl.d run etc; do umount $R/$d; done
done`, dir, strings.Join(readers.Probes, " "))
	seen := make(map[string]string)
	for line := range strings.Lines(b.run(script)) {
		name, values, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			b.t.Fatalf("%q", line)
		}
		seen[name] = strings.TrimSpace(values)
	}
	return seen
}
