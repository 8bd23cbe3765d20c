package release

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// verify runs make verify's script in src, in circumstances that are not the release's.
func verify(src, dist string, env ...string) (string, error) {
	cmd := command(filepath.Join(src, "packaging/release/verify.sh"), dist)
	cmd.Env = append(cmd.Env, append(env, "TZ=Asia/Tokyo", "GOFLAGS=-buildvcs=false", "GOAMD64=v3")...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestVerify builds the second release again: in another directory, at another time,
// of another clone, with another environment.
func TestVerify(t *testing.T) {
	r := made(t)
	clone := filepath.Join(temp(t), "elsewhere/clone")
	run(t, "git", "clone", "-q", r.src, clone)
	run(t, "chmod", "-R", "go-rwx", clone)
	run(t, "git", "-C", clone, "tag", "v7.0.0") // the binary is not to know
	out, err := verify(clone, r.second)
	for _, want := range []string{
		"verify: signed by " + r.ours + ", checksums right\n",
		" files are the same\n",
		"of an earlier release, which was not built: nfguard_0.1.0-1_amd64.deb\n",
	} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("want %q, got %v\n%s", want, err, out)
		}
	}
	t.Log(out)
}

// TestVerifyRefuses: what was changed is seen before anything is built.
func TestVerifyRefuses(t *testing.T) {
	r := made(t)
	for _, test := range []struct {
		name string
		how  func(*testing.T, string)
		says string
	}{
		{"a byte of a program", func(t *testing.T, d string) { flip(t, d+"/nfguard-0.2.0-linux-arm64") }, "nfguard-0.2.0-linux-arm64: FAILED"},
		{"a byte of an image", func(t *testing.T, d string) { flip(t, d+"/nfguard-0.2.0-x86-64.raw") }, "nfguard-0.2.0-x86-64.raw: FAILED"},
		{"a byte of an SBOM", func(t *testing.T, d string) { flip(t, d+"/nfguard-0.2.0-linux-amd64.spdx.json") }, "nfguard-0.2.0-linux-amd64.spdx.json: FAILED"},
		{"a byte of the provenance", func(t *testing.T, d string) { flip(t, d+"/nfguard-0.2.0.provenance.json") }, "nfguard-0.2.0.provenance.json: gpgv: BAD signature"},
		{"a changed checksum", func(t *testing.T, d string) { flip(t, d+"/SHA256SUMS") }, "SHA256SUMS: gpgv: BAD signature"},
		{"a file too many", func(t *testing.T, d string) { write(t, d+"/nfguard-0.2.0-linux-riscv64", "?") }, "SHA256SUMS does not name nfguard-0.2.0-linux-riscv64"},
		{"a byte of a package in the repository", func(t *testing.T, d string) { flip(t, d+"/apt/pool/main/n/nfguard/nfguard_0.1.0-1_arm64.deb") }, "a package is not as Packages names it"},
		{"a byte of an rpm in the repository", func(t *testing.T, d string) { flip(t, d+"/yum/nfguard-0.1.0-1.aarch64.rpm") }, "DIGESTS SIGNATURES NOT OK"},
		{"a foreign key signs it all", func(t *testing.T, d string) {
			run(t, root+"/packaging/release/sign.sh", d, r.foreign)
		}, "SHA256SUMS: gpgv: Can't check signature: No public key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dist := copied(t, r.second)
			test.how(t, dist)
			out, err := verify(r.src, dist, "KEY="+r.first+"/nfguard.asc")
			if err == nil || !strings.Contains(out, test.says) {
				t.Errorf("want %q, got %v\n%s", test.says, err, out)
			}
		})
	}
}

// TestVerifyRebuilds: a release that is signed and whole, and not of its commit.
func TestVerifyRebuilds(t *testing.T) {
	r := made(t)
	dist := copied(t, r.first)
	flip(t, dist+"/nfguard-0.1.0-linux-amd64")
	run(t, "sh", "-euc", "cd $0; ls nfguard* | grep -v provenance.json.asc | xargs sha256sum >SHA256SUMS", dist)
	run(t, root+"/packaging/release/sign.sh", dist, r.ours)
	out, err := verify(r.src, dist)
	if want := "verify: nfguard-0.1.0-linux-amd64 differs\n"; err == nil || !strings.Contains(out, want) {
		t.Errorf("want %q, got %v\n%s", want, err, out)
	}
}

// TestReleaseRefuses: each says what to do, and leaves no trace of a release.
func TestReleaseRefuses(t *testing.T) {
	r := made(t)
	clone := filepath.Join(temp(t), "clone")
	run(t, "git", "clone", "-q", root, clone)
	dir := temp(t)
	tampered := copied(t, r.first)
	flip(t, tampered+"/apt/dists/stable/main/binary-amd64/Packages")
	for _, test := range []struct {
		name string
		env  []string
		how  func()
		says string
	}{
		{"no key", nil, nil, "release: error: there is no key to sign with: RELEASE_KEY is not set\nrelease: hint: "},
		{"a key that is not there", []string{"RELEASE_KEY=0123456789ABCDEF"}, nil, "release: error: GnuPG has no secret key 0123456789ABCDEF\nrelease: hint: "},
		{"an expired key", []string{"RELEASE_KEY=" + r.expired}, nil, "release: error: the key " + r.expired + " does not sign: "},
		{"no version", []string{"RELEASE_KEY=" + r.ours, "VERSION=next"}, nil, "release: error: the commit has no tag, and CHANGELOG.md's newest heading begins with no version\n"},
		{"an earlier release by another key", []string{"RELEASE_KEY=" + r.foreign, "OLDER=" + r.first}, nil, " is not signed by the key " + r.foreign},
		{"an earlier release that was changed", []string{"RELEASE_KEY=" + r.ours, "OLDER=" + tampered}, nil, "an index is not as Release names it"},
		{"somebody's directory", []string{"RELEASE_KEY=" + r.ours}, func() { write(t, dir+"/dist/letter", "dear") }, "has in it what no release has: letter\n"},
		{"a known vulnerability", []string{"RELEASE_KEY=" + r.ours, "VULNDB=file://" + vulnerabilities(t, "github.com/BurntSushi/toml")}, nil, "release: error: nfguard calls what is known to be vulnerable\n"},
		{"a database that is not there", []string{"RELEASE_KEY=" + r.ours, "VULNDB=file:///nonexistent"}, nil, "release: error: govulncheck: "},
		{"a changed tree", []string{"RELEASE_KEY=" + r.ours}, func() { write(t, clone+"/README.md", "") }, "release: error: the tree has changes that no commit has\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.how != nil {
				test.how()
			}
			cmd := command(clone+"/packaging/release/release.sh", dir+"/dist")
			cmd.Env = append(cmd.Env, test.env...)
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), test.says) {
				t.Errorf("want exit code 2 and %q, got %d\n%s", test.says, code, out)
			}
			if test.name == "somebody's directory" {
				if got := read(t, dir+"/dist/letter"); got != "dear" {
					t.Errorf("it is %q now", got)
				}
				os.RemoveAll(dir + "/dist")
			}
			if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

// TestReleaseStopped ends a release at work: no part of it is left.
func TestReleaseStopped(t *testing.T) {
	r := made(t)
	dir := temp(t)
	cmd := command(r.src+"/packaging/release/release.sh", dir+"/dist")
	cmd.Env = append(cmd.Env, "RELEASE_KEY="+r.ours)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for begun := false; !begun; time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("it ended before it could be stopped: %v", err)
		default:
		}
		left, _ := filepath.Glob(dir + "/dist.new-*/*")
		begun = len(left) > 0
	}
	// As a terminal does, to all of its programs.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("it succeeded")
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}
