package release

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// dnfHost is a root with no more than a shell, into which dnf installs from one
// repository that is checked in every way that dnf has, and from one that stands for
// the distribution's: it has an empty kmod.
type dnfHost struct {
	tree, home, conf string
	served           string
	used             bool
}

func newDNFHost(t *testing.T, r releases) *dnfHost {
	t.Helper()
	dir := temp(t)
	h := &dnfHost{tree: dir + "/tree", home: dir + "/home", conf: dir + "/dnf.conf"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.FileServer(http.Dir(h.served)).ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	write(t, h.tree+"/bin/busybox", read(t, lab.Tool(t, lab.Root, "busybox")))
	if err := os.Chmod(h.tree+"/bin/busybox", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("busybox", h.tree+"/bin/sh"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.tree+"/dev", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(h.tree+"/dev/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	// Debian's rpm has its database in the user's home.
	write(t, h.home+"/.rpmmacros", "%_dbpath /var/lib/rpm\n")

	write(t, dir+"/kmod.yaml", "name: kmod\narch: amd64\nversion: 30.0.0\nmaintainer: nobody <nobody@example.com>\nprovides: [systemd, /bin/sh]\ndescription: of the distribution\n")
	run(t, "go", "build", "-C", root+"/packaging/tools", "-o", dir+"/nfpm", "github.com/goreleaser/nfpm/v2/cmd/nfpm")
	if err := os.Mkdir(dir+"/distribution", 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, dir+"/nfpm", "package", "--config", dir+"/kmod.yaml", "--packager", "rpm", "--target", dir+"/distribution/")
	run(t, "createrepo_c", "--quiet", dir+"/distribution")

	write(t, h.conf, fmt.Sprintf(`[main]
reposdir=/nonexistent
cachedir=%[1]s/cache
logdir=%[1]s/log
persistdir=%[1]s/persist
pluginpath=/nonexistent
tsflags=nodocs
keepcache=0

[distribution]
name=distribution
baseurl=file://%[1]s/distribution
gpgcheck=0

[nfguard]
name=nfguard
baseurl=%[2]s
gpgcheck=1
repo_gpgcheck=1
gpgkey=file://%[3]s/nfguard.asc
metadata_expire=0
retries=1
`, dir, server.URL, r.first))
	return h
}

func (h *dnfHost) dnf(args ...string) (string, error) {
	args = append([]string{"--config", h.conf, "--installroot", h.tree, "--releasever", "9", "--forcearch", "x86_64", "--assumeyes"}, args...)
	cmd := command("dnf", args...)
	cmd.Env = append(cmd.Env, "HOME="+h.home)
	out, err := cmd.CombinedOutput()
	h.used = true
	return string(out), err
}

// forget removes what dnf has kept of the repository, so that it can take nothing from there.
func (h *dnfHost) forget(t *testing.T) {
	t.Helper()
	// dnf puts it below the installroot.
	cache := filepath.Join(h.tree, filepath.Dir(h.conf), "cache")
	if _, err := os.Stat(cache); err != nil && h.used {
		t.Fatalf("where does dnf keep things? %v", err)
	}
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
}

func (h *dnfHost) installed() string {
	cmd := command("rpm", "--root", h.tree, "--dbpath", "/var/lib/rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}", "nfguard")
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return string(out)
}

func TestDNF(t *testing.T) {
	r := made(t)
	h := newDNFHost(t, r)
	for _, step := range []struct{ name, served, do, want string }{
		{"install", r.first + "/yum", "install nfguard", "0.1.0-1"},
		{"upgrade", r.second + "/yum", "upgrade nfguard", "0.2.0-1"},
		{"downgrade", r.second + "/yum", "downgrade nfguard", "0.1.0-1"},
		{"upgrade of all", r.second + "/yum", "upgrade", "0.2.0-1"},
		{"remove", r.second + "/yum", "remove nfguard", ""},
	} {
		h.served = step.served
		out, err := h.dnf(strings.Fields(step.do)...)
		if got := h.installed(); err != nil || got != step.want {
			t.Fatalf("%s: want %q, got %q, %v\n%s", step.name, step.want, got, err, out)
		}
	}
}

// yum is dnf's repository, with what it takes to change it.
type yum struct {
	dir string
	releases
}

func (y yum) rpm(version string) string { return y.dir + "/nfguard-" + version + "-1.x86_64.rpm" }

func (y yum) repomd() string { return y.dir + "/repodata/repomd.xml" }

// index writes the metadata again, of the packages as they are, and its signature.
func (y yum) index(t *testing.T, key string) {
	t.Helper()
	run(t, "createrepo_c", "--quiet", "--no-database", y.dir)
	y.sign(t, key)
}

func (y yum) sign(t *testing.T, key string, options ...string) {
	t.Helper()
	run(t, "gpg", append(options, "--batch", "--yes", "--local-user", key, "--armor", "--output", y.repomd()+".asc", "--detach-sign", y.repomd())...)
}

func (y yum) rpmsign(t *testing.T, args ...string) {
	t.Helper()
	run(t, "rpmsign", append(args, "--define", "__gpg /usr/bin/gpg", y.rpm("0.2.0"))...)
}

var dnfTamperings = []struct {
	name    string
	how     func(*testing.T, yum)
	refused string
}{
	{
		"a byte of the package",
		func(t *testing.T, y yum) { flip(t, y.rpm("0.2.0")) },
		`Downloading successful, but checksum doesn't match`,
	},
	{
		"a swapped package: the older one by the newer one's name",
		func(t *testing.T, y yum) { run(t, "cp", y.rpm("0.1.0"), y.rpm("0.2.0")) },
		`checksum doesn't match|Interrupted by header callback`,
	},
	{
		"an unsigned package in signed metadata",
		func(t *testing.T, y yum) { y.rpmsign(t, "--delsign"); y.index(t, y.ours) },
		`Package nfguard-0\.2\.0-1\.x86_64\.rpm is not signed`,
	},
	{
		"a package of a foreign key in signed metadata",
		func(t *testing.T, y yum) {
			y.rpmsign(t, "--resign", "--define", "_gpg_name "+y.foreign)
			y.index(t, y.ours)
		},
		`Public key for nfguard-0\.2\.0-1\.x86_64\.rpm is not (installed|trusted)|GPG check FAILED`,
	},
	{
		"a byte of the package, and metadata that names it, signed",
		func(t *testing.T, y yum) { flip(t, y.rpm("0.2.0")); y.index(t, y.ours) },
		`Error: GPG check FAILED`,
	},
	{
		"a byte of repomd.xml",
		func(t *testing.T, y yum) {
			write(t, y.repomd(), strings.Replace(read(t, y.repomd()), "<revision>1", "<revision>2", 1))
		},
		`repomd.xml GPG signature verification error: Bad GPG signature`,
	},
	{
		"metadata without a signature",
		func(t *testing.T, y yum) { run(t, "rm", y.repomd()+".asc") },
		`repomd\.xml\.asc`,
	},
	{
		"metadata by a foreign key",
		func(t *testing.T, y yum) { y.sign(t, y.foreign) },
		`repomd.xml GPG signature verification error`,
	},
	{
		"metadata that names the changed package, with the old signature",
		func(t *testing.T, y yum) {
			signature := read(t, y.repomd()+".asc")
			flip(t, y.rpm("0.2.0"))
			y.index(t, y.ours)
			write(t, y.repomd()+".asc", signature)
		},
		`repomd.xml GPG signature verification error: Bad GPG signature`,
	},
	{
		"a byte of the list of packages",
		func(t *testing.T, y yum) { flip(t, one(t, y.dir+"/repodata/*-primary.xml.gz")) },
		`checksum doesn't match`,
	},
}

func TestDNFRefuses(t *testing.T) {
	r := made(t)
	h := newDNFHost(t, r)
	for _, tampering := range dnfTamperings {
		t.Run(tampering.name, func(t *testing.T) {
			y := yum{copied(t, r.second+"/yum"), r}
			tampering.how(t, y)
			h.served = y.dir
			h.forget(t)
			out, err := h.dnf("install", "nfguard")
			if strings.Contains(out, "Already downloaded") {
				t.Errorf("it did not ask the repository:\n%s", out)
			}
			if err == nil || !regexp.MustCompile(tampering.refused).MatchString(out) {
				t.Errorf("want an error with %q, got %v\n%s", tampering.refused, err, out)
			}
			if got := h.installed(); got != "" {
				t.Errorf("%s is installed", got)
			}
			if _, err := os.Lstat(h.tree + "/usr/bin/nfguard"); !os.IsNotExist(err) {
				t.Errorf("/usr/bin/nfguard is there: %v", err)
			}
			for line := range strings.Lines(out) {
				if regexp.MustCompile(`rror|FAILED|signed|mirror`).MatchString(line) {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
	// The control: this host refuses nothing that was not tampered with.
	h.served = r.second + "/yum"
	h.forget(t)
	if out, err := h.dnf("install", "nfguard"); err != nil || h.installed() != "0.2.0-1" {
		t.Errorf("the release itself: %v\n%s", err, out)
	}
}
