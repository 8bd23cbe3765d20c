// Package release makes releases of the last commit, with keys of its own, and has the
// tools of their users install them, and refuse what was tampered with.
package release

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

const root = "../.."

var scratch string // removed by TestMain

func TestMain(m *testing.M) {
	var err error
	// A short name: the sockets of GnuPG's agent are below it.
	if scratch, err = os.MkdirTemp("", "nfg-"); err != nil {
		panic(err)
	}
	code := m.Run()
	// Also agents that dnf has started, in directories below.
	_ = filepath.WalkDir(scratch, func(path string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == "S.gpg-agent" {
			_ = exec.Command("gpgconf", "--homedir", filepath.Dir(path), "--kill", "all").Run()
		}
		return nil
	})
	os.RemoveAll(scratch)
	os.Exit(code)
}

// command is a program that has none of the user's keys.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+filepath.Join(scratch, "gnupg"), "VULNDB=off", "LC_ALL=C")
	return cmd
}

// run runs a program and fails the test with its output if it fails.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return output(t, command(name, args...))
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

func temp(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // apt reads as a user of its own
		t.Fatal(err)
	}
	return dir
}

// keys are fingerprints in the keyring of these tests.
type keys struct{ ours, foreign, expired string }

// releases are two of them, the second with the packages of the first.
type releases struct {
	src           string // the repository that both are of
	first, second string // directories
	keys
}

// made makes them once for all tests.
var made = sync.OnceValue(func() func(testing.TB) releases {
	var once sync.Once
	var r releases
	return func(t testing.TB) releases {
		t.Helper()
		once.Do(func() { r = makeReleases(t) })
		if r.second == "" {
			t.Fatal("the releases were not made")
		}
		return r
	}
})()

func makeReleases(t testing.TB) releases {
	t.Helper()
	lab.Need(t, lab.Root)
	for _, tool := range []string{"apt-ftparchive", "createrepo_c", "dnf", "gpg", "jq", "mksquashfs", "rpmsign"} {
		lab.Tool(t, lab.Root, tool)
	}
	if err := os.Mkdir(filepath.Join(scratch, "gnupg"), 0o700); err != nil {
		t.Fatal(err)
	}
	dir := temp(t)
	r := releases{src: filepath.Join(dir, "src"), first: filepath.Join(dir, "first"), second: filepath.Join(dir, "second")}
	r.ours, r.foreign = newKey(t, "ours"), newKey(t, "foreign")
	r.expired = newKey(t, "expired", "--faked-system-time", "20240101T000000!")
	run(t, "git", "clone", "-q", root, r.src)
	begin := time.Now()
	said := release(t, r.src, r.first, r.ours, "VERSION=v0.1.0", "RELEASE_DATE="+days(-2), "VULNDB=file://"+vulnerabilities(t, "example.com/unused"))
	if want := "release: govulncheck knows of nothing that nfguard calls\n"; !strings.Contains(said, want) || strings.Contains(said, "NOT CHECKED") {
		t.Errorf("want %q in\n%s", want, said)
	}
	for line := range strings.Lines(said) {
		t.Log(strings.TrimSpace(line)) // sizes
	}
	t.Logf("one release takes %v", time.Since(begin).Round(time.Second))

	toml := filepath.Join(r.src, "config/nfguard.toml")
	write(t, toml, read(t, toml)+"# In the next release.\n")
	changes := filepath.Join(r.src, "CHANGELOG.md")
	write(t, changes, strings.Replace(read(t, changes), "\n## ", "\n## 0.2.0\n\n* A comment.\n\n## ", 1))
	run(t, "git", "-C", r.src, "-c", "user.name=nfguard", "-c", "user.email=nfguard@example.com", "commit", "-qam", "release: the next one")
	second := r.second
	r.second = ""
	said = release(t, r.src, second, r.ours, "OLDER="+r.first, "RELEASE_DATE="+days(-1))
	if want := "release: NOT CHECKED for known vulnerabilities: VULNDB is off\n"; !strings.HasSuffix(said, want) {
		t.Errorf("want %q at the end of\n%s", want, said)
	}
	r.second = second
	return r
}

// vulnerabilities is a database of govulncheck's, in which all of one module is vulnerable.
func vulnerabilities(t testing.TB, module string) string {
	t.Helper()
	dir := temp(t)
	const id, modified = `"id":"GO-2099-0001"`, `"modified":"2026-01-01T00:00:00Z"`
	write(t, dir+"/index/db.json", "{"+modified+"}")
	write(t, dir+"/index/vulns.json", "[{"+id+","+modified+"}]")
	write(t, dir+"/index/modules.json", `[{"path":"`+module+`","vulns":[{`+id+","+modified+"}]}]")
	write(t, dir+"/ID/GO-2099-0001.json", `{"schema_version":"1.3.1",`+id+","+modified+`,"published":"2026-01-01T00:00:00Z","details":"Invented.",
		"affected":[{"package":{"name":"`+module+`","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],
		"ecosystem_specific":{"imports":[{"path":"`+module+`"}]}}],"database_specific":{"url":"https://example.com/GO-2099-0001"}}`)
	return dir
}

// days is a time so many days from now, in seconds since 1970.
func days(n int) string {
	return strconv.FormatInt(time.Now().AddDate(0, 0, n).Unix(), 10)
}

func newKey(t testing.TB, name string, options ...string) string {
	t.Helper()
	args := append(options, "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", name+" <"+name+"@example.com>", "rsa2048", "sign", "1y")
	run(t, "gpg", args...)
	for line := range strings.Lines(run(t, "gpg", "--batch", "--with-colons", "--list-secret-keys", name+"@example.com")) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			return f[9]
		}
	}
	t.Fatalf("no key %s", name)
	return ""
}

func release(t testing.TB, src, dist, key string, env ...string) string {
	t.Helper()
	cmd := command(filepath.Join(src, "packaging/release/release.sh"), dist)
	cmd.Env = append(cmd.Env, append(env, "RELEASE_KEY="+key)...)
	return output(t, cmd)
}

// copied is a copy of a directory, to be tampered with.
func copied(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(temp(t), filepath.Base(dir))
	run(t, "cp", "-a", "--reflink=auto", dir, to)
	return to
}

// flip changes one bit in the middle of a file.
func flip(t testing.TB, path string) {
	t.Helper()
	text := []byte(read(t, path))
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func one(t testing.TB, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("want one %s, got %v", pattern, found)
	}
	return found[0]
}
