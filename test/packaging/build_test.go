// Package packaging tests what is installed: the unit, the man pages, the
// packages themselves, and what they do to a Debian and an rpm system.
package packaging

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

const root = "../.."

// run runs a program and fails the test with its output if it fails.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return output(t, exec.Command(name, args...))
}

func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", cmd.Args, err, out, stderr.Bytes())
	}
	return string(out)
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// packages are a deb and an rpm for this machine's architecture.
type packages struct{ deb, rpm string }

// build builds the packages of the sources in dir.
func build(t testing.TB, dir string, env ...string) packages {
	t.Helper()
	out, err := filepath.Abs(filepath.Join(temp(t), "dist"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "packaging/build.sh"), out, runtime.GOARCH)
	cmd.Env = append(os.Environ(), env...)
	output(t, cmd)
	return packages{one(t, out, "*.deb"), one(t, out, "*.rpm")}
}

func one(t testing.TB, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("want one %s in %s, got %v", pattern, dir, found)
	}
	return found[0]
}

var (
	scratch string // removed by TestMain

	// current are the packages of the current tree.
	current = once(func(t testing.TB) packages { return build(t, root) })

	// next are the packages of a later version, whose configuration file has other
	// comments.
	next = once(func(t testing.TB) packages {
		dir := clone(t)
		path := filepath.Join(dir, "config/nfguard.toml")
		write(t, path, read(t, path)+"# In the next release.\n")
		return build(t, dir, "VERSION=v999.0.0")
	})
)

func once(f func(testing.TB) packages) func(testing.TB) packages {
	var o sync.Once
	var p packages
	return func(t testing.TB) packages {
		t.Helper()
		o.Do(func() { p = f(t) })
		if p.deb == "" {
			t.Fatal("the packages were not built")
		}
		return p
	}
}

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "nfguard-packaging-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// temp is a directory that lasts longer than its test.
func temp(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// clone clones the last commit into a directory with another name.
func clone(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(temp(t), "src")
	run(t, "git", "clone", "-q", root, dir)
	return dir
}

// TestReproducible builds one commit in two places, with different settings.
func TestReproducible(t *testing.T) {
	var sums [2]map[string]string
	for i, env := range [][]string{
		{"TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "HOSTNAME=one"},
		{"TZ=America/Lima", "LC_ALL=POSIX", "SOURCE_DATE_EPOCH=1"},
	} {
		dir := clone(t)
		if i == 1 {
			run(t, "chmod", "-R", "go-rwx", dir) // as by a umask of 077
		}
		p := build(t, dir, env...)
		sums[i] = map[string]string{}
		for _, path := range []string{p.deb, p.rpm} {
			sum := sha256.Sum256([]byte(read(t, path)))
			sums[i][filepath.Base(path)] = hex.EncodeToString(sum[:])
		}
	}
	if diff := cmp.Diff(sums[0], sums[1]); diff != "" {
		t.Errorf("one commit, two packages (-first +second):\n%s", diff)
	}
	t.Log(sums[0])
}

func TestVersion(t *testing.T) {
	// In the order of the history.
	tests := []struct{ describe, want string }{
		{"abc1234", "0.0.0+57.gabc1234"},
		{"v1.2.0-rc.1", "1.2.0~rc.1"},
		{"v1.2.0-rc.1-2-gabc1234", "1.2.0~rc.1+2.gabc1234"},
		{"v1.2.0-rc.2", "1.2.0~rc.2"},
		{"v1.2.0", "1.2.0"},
		{"v1.2.0-dirty", "1.2.0+0.dirty"},
		{"v1.2.0-2-gfff1234", "1.2.0+2.gfff1234"},
		{"v1.2.0-2-gfff1234-dirty", "1.2.0+2.gfff1234.dirty"},
		{"v1.2.0-11-gabc1234", "1.2.0+11.gabc1234"},
		{"v1.10.0", "1.10.0"},
	}
	before := ""
	for _, test := range tests {
		got := strings.TrimSpace(run(t, root+"/packaging/version.sh", test.describe, "57"))
		if got != test.want {
			t.Errorf("%s: want %s, got %s", test.describe, test.want, got)
		}
		if dpkg, err := exec.LookPath("dpkg"); err == nil && before != "" {
			if err := exec.Command(dpkg, "--compare-versions", before+"-1", "lt", got+"-1").Run(); err != nil {
				t.Errorf("dpkg: %s is not before %s: %v", before, got, err)
			}
		}
		if rpm, err := exec.LookPath("rpm"); err == nil && before != "" {
			out := strings.TrimSpace(run(t, rpm, "--eval", `%{lua:print(rpm.vercmp("`+before+`", "`+got+`"))}`))
			if out != "-1" {
				t.Errorf("rpm: %s is not before %s", before, got)
			}
		}
		before = got
	}
}

func TestScripts(t *testing.T) {
	check := lab.Tool(t, lab.Root, "shellcheck")
	scripts, err := filepath.Glob(root + "/packaging/*/p*[nmt]")
	if err != nil || len(scripts) != 6 {
		t.Errorf("want six maintainer scripts, got %v (%v)", scripts, err)
	}
	run(t, check, append(scripts, root+"/packaging/build.sh", root+"/packaging/version.sh")...)
}

// TestCopyright compares the file with what is linked into the binary.
func TestCopyright(t *testing.T) {
	text := read(t, root+"/packaging/copyright")
	linked := map[string]bool{"std": true, "*": true}
	bin := filepath.Join(t.TempDir(), "nfguard")
	run(t, "go", "build", "-o", bin, root+"/cmd/nfguard")
	for line := range strings.Lines(run(t, "go", "version", "-m", bin)) {
		if f := strings.Fields(line); f[0] == "dep" {
			linked[f[1]] = true
		}
	}
	named := map[string]bool{}
	for line := range strings.Lines(text) {
		// What is below internal is of these sources, under a licence of its own.
		if module, ok := strings.CutPrefix(line, "Files: "); ok && !strings.HasPrefix(module, "internal/") {
			named[strings.TrimSpace(module)] = true
		}
	}
	if diff := cmp.Diff(linked, named); diff != "" {
		t.Errorf("packaging/copyright: modules (-linked +named):\n%s", diff)
	}
}
