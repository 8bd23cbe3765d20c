package vm_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nfguard/nfguard/test/vm"
)

const root = "../.." // of the repository

// scratch is the directory that buildDist makes. It lasts as long as the tests.
var scratch string

func TestMain(m *testing.M) {
	code := m.Run()
	if scratch != "" {
		os.RemoveAll(scratch)
	}
	os.Exit(code)
}

// buildDist builds the packages of the current tree, once for all tests: those in dist
// may be old.
var buildDist = sync.OnceValues(func() (string, error) {
	var err error
	if scratch, err = os.MkdirTemp("", "nfguard-vm-test-"); err != nil {
		return "", err
	}
	out, err := exec.Command(root+"/packaging/build.sh", scratch).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build the packages: %w\n%s", err, out)
	}
	return scratch, err
})

// dist returns the directory with the four packages of the current tree.
func dist(t *testing.T) string {
	t.Helper()
	dir, err := buildDist()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// deb returns the package for the machines of these tests.
func deb(t *testing.T) string {
	t.Helper()
	return one(t, dist(t), "*_amd64.deb")
}

// repository makes the packages of the current tree a repository, as a release does, with
// a key of its own, and serves it as long as the test lasts. It returns the directory,
// which has the key, and the URL for a guest.
func repository(t *testing.T) (dir, url string) {
	t.Helper()
	dir = t.TempDir()
	// A short name: the sockets of GnuPG's agent are below it.
	home, err := os.MkdirTemp("", "nfg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	run(t, "env", "GNUPGHOME="+home, "sh", "-euc", `cp "$1"/nfguard* "$2"
		key="nfguard <test@example.com>"
		gpg --batch --quiet --passphrase '' --quick-generate-key "$key" rsa2048 sign 1y
		gpg --batch --armor --export "$key" >"$2/nfguard.asc"
		cd "$3/packaging/release"
		./seal.sh "$2" "$(git rev-parse HEAD)" v0.1.0 "$(date +%s)"
		./sign.sh "$2" "$key"`, "sh", dist(t), dir, root)
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return dir, "http://" + net.JoinHostPort(vm.Host, port)
}

const olderVersion = "v0.0.0-rc.1"

// olderDeb builds the last commit as an older version, with other comments in
// the configuration file.
func olderDeb(t *testing.T) string {
	t.Helper()
	src, out := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dist")
	run(t, "git", "clone", "-q", root, src)
	config := filepath.Join(src, "config/nfguard.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, config, string(text)+"# In the release before.\n")
	run(t, "env", "VERSION="+olderVersion, filepath.Join(src, "packaging/build.sh"), out, "amd64")
	return one(t, out, "*.deb")
}

// one returns the only file of dir that matches pattern.
func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("want one %s in %s, got %v", pattern, dir, found)
	}
	return found[0]
}

// run runs a program of the host, which has to exit 0, and returns its stdout.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
