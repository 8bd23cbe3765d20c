package release

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// aptHost is a Debian with apt, of which one repository is known, by signed-by.
type aptHost struct {
	tree   string
	served string // the directory that is the repository; another may take its place
}

func newAptHost(t *testing.T, r releases) *aptHost {
	t.Helper()
	h := &aptHost{tree: lab.Debian(t, "../packaging/debian.sh")}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.FileServer(http.Dir(h.served)).ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	run(t, "sh", "-c", "cd "+h.tree+"/etc/apt; rm -rf sources.list sources.list.d/* apt.conf.d/99mmdebstrap")
	// The tree is made with dates unchecked. There is no /dev/pts.
	write(t, h.tree+"/etc/apt/apt.conf.d/50test", "APT::Install-Recommends \"false\";\nDpkg::Use-Pty \"0\";\n")
	write(t, h.tree+"/etc/apt/keyrings/nfguard.asc", read(t, r.first+"/nfguard.asc"))
	write(t, h.tree+"/etc/apt/sources.list.d/nfguard.sources",
		"Types: deb\nURIs: "+server.URL+"\nSuites: stable\nComponents: main\nSigned-By: /etc/apt/keyrings/nfguard.asc\n")
	return h
}

func (h *aptHost) sh(script string) (string, error) {
	cmd := exec.Command("chroot", h.tree, "sh", "-euc", script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// installed is the version of nfguard, or "".
func (h *aptHost) installed() string {
	out, err := h.sh("dpkg-query -W -f '${Version} ${Status}' nfguard")
	version, ok := strings.CutSuffix(out, " install ok installed")
	if err != nil || !ok {
		return ""
	}
	return version
}

func TestApt(t *testing.T) {
	r := made(t)
	h := newAptHost(t, r)
	for _, step := range []struct{ name, served, install, want string }{
		{"install", r.first + "/apt", "nfguard", "0.1.0-1"},
		{"upgrade", r.second + "/apt", "nfguard", "0.2.0-1"},
		{"downgrade", r.second + "/apt", "--allow-downgrades nfguard=0.1.0-1", "0.1.0-1"},
		{"upgrade of all", r.second + "/apt", "--only-upgrade nfguard", "0.2.0-1"},
	} {
		h.served = step.served
		out, err := h.sh("apt-get -q update; apt-get -qy install " + step.install)
		if got := h.installed(); err != nil || got != step.want || strings.Contains(out, "W:") {
			t.Fatalf("%s: want %s, got %q, %v\n%s", step.name, step.want, got, err, out)
		}
	}
	// As an image is made of a tree.
	if out, err := h.sh("nfguard apply --root /. && grep -q br_netfilter /etc/modules-load.d/nfguard.conf"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := h.sh("nfguard version; apt-get -qy purge nfguard"); err != nil || !strings.Contains(out, "0.2.0") {
		t.Errorf("%v\n%s", err, out)
	}
}

// repository is apt's, with what it takes to change it.
type repository struct {
	dir string
	releases
}

func (r repository) deb(version string) string {
	return r.dir + "/pool/main/n/nfguard/nfguard_" + version + "-1_amd64.deb"
}

func (r repository) in(name string) string { return r.dir + "/dists/stable/" + name }

// index writes Packages again, of the packages as they are.
func (r repository) index(t *testing.T) {
	t.Helper()
	for _, arch := range []string{"amd64", "arm64"} {
		run(t, "sh", "-euc", `cd "$1"; apt-ftparchive --arch "$2" packages pool/main >dists/stable/main/binary-$2/Packages
			cd dists/stable/main/binary-$2; gzip -9nkf Packages; xz -9kf Packages`, "sh", r.dir, arch)
	}
}

// release writes Release again, with other times and of the indexes as they are.
func (r repository) release(t *testing.T, date, until time.Time) {
	t.Helper()
	const form = "Mon, 02 Jan 2006 15:04:05 UTC"
	run(t, "sh", "-euc", `cd "$1"; rm dists/stable/Release; apt-ftparchive -o APT::FTPArchive::Release::Suite=stable \
		-o APT::FTPArchive::Release::Codename=stable -o APT::FTPArchive::Release::Components=main \
		-o "APT::FTPArchive::Release::Architectures=amd64 arm64" -o "APT::FTPArchive::Release::Date=$2" release dists/stable |
		sed "/^Date:/a Valid-Until: $3" >../Release; mv ../Release dists/stable/Release`,
		"sh", r.dir, date.UTC().Format(form), until.UTC().Format(form))
}

func (r repository) sign(t *testing.T, key string, options ...string) {
	t.Helper()
	gpg := append(options, "--batch", "--yes", "--local-user", key)
	run(t, "gpg", append(gpg, "--output", r.in("InRelease"), "--clearsign", r.in("Release"))...)
	run(t, "gpg", append(gpg, "--output", r.in("Release.gpg"), "--armor", "--detach-sign", r.in("Release"))...)
}

var aptTamperings = []struct {
	name    string
	how     func(*testing.T, repository)
	refused string // what apt says, a regular expression
}{
	{
		"a byte of the package",
		func(t *testing.T, r repository) { flip(t, r.deb("0.2.0")) },
		`Hash Sum mismatch`,
	},
	{
		"a package that is cut off",
		func(t *testing.T, r repository) {
			if err := os.Truncate(r.deb("0.2.0"), 1<<20); err != nil {
				t.Fatal(err)
			}
		},
		`File has unexpected size \(1048576 != \d+\)`,
	},
	{
		"a swapped package: the older one by the newer one's name",
		func(t *testing.T, r repository) { run(t, "cp", r.deb("0.1.0"), r.deb("0.2.0")) },
		`File has unexpected size|Hash Sum mismatch`,
	},
	{
		"a swapped package: another architecture's",
		func(t *testing.T, r repository) {
			run(t, "cp", strings.ReplaceAll(r.deb("0.2.0"), "amd64", "arm64"), r.deb("0.2.0"))
		},
		`File has unexpected size|Hash Sum mismatch`,
	},
	{
		"an index that names the changed package",
		func(t *testing.T, r repository) { flip(t, r.deb("0.2.0")); r.index(t) },
		`File has unexpected size|Hash Sum mismatch`,
	},
	{
		"an index and a Release that name the changed package, with the old signature",
		func(t *testing.T, r repository) {
			flip(t, r.deb("0.2.0"))
			r.index(t)
			r.release(t, time.Now(), time.Now().AddDate(0, 1, 0))
			if err := os.Remove(r.in("InRelease")); err != nil {
				t.Fatal(err)
			}
		},
		`signatures were invalid: BADSIG`,
	},
	{
		"an unsigned package: a repository without signatures",
		func(t *testing.T, r repository) { run(t, "rm", r.in("InRelease"), r.in("Release.gpg")) },
		`is not signed`,
	},
	{
		"a byte of InRelease",
		func(t *testing.T, r repository) {
			text := read(t, r.in("InRelease"))
			write(t, r.in("InRelease"), strings.Replace(text, "Origin: nfguard", "Origin: nfguarb", 1))
		},
		`signatures were invalid: BADSIG`,
	},
	{
		"a foreign key",
		func(t *testing.T, r repository) { r.sign(t, r.foreign) },
		`NO_PUBKEY`,
	},
	{
		"an expired Release",
		func(t *testing.T, r repository) {
			r.release(t, time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, -1))
			r.sign(t, r.ours)
		},
		`Release file for \S+ is expired`,
	},
	{
		"a Release of tomorrow",
		func(t *testing.T, r repository) {
			r.release(t, time.Now().AddDate(0, 0, 1), time.Now().AddDate(1, 0, 0))
			r.sign(t, r.ours)
		},
		`is not valid yet`,
	},
}

func TestAptRefuses(t *testing.T) {
	r := made(t)
	h := newAptHost(t, r)
	const install = "apt-get -q update; apt-get -qy install nfguard"
	for _, tampering := range aptTamperings {
		t.Run(tampering.name, func(t *testing.T) {
			repo := repository{copied(t, r.second+"/apt"), r}
			tampering.how(t, repo)
			h.served = repo.dir
			out, err := h.sh("rm -rf /var/lib/apt/lists /var/cache/apt; " + install)
			h.refused(t, "", tampering.refused, out, err)
		})
	}
	t.Run("an expired key, which the host trusts", func(t *testing.T) {
		repo := repository{copied(t, r.second+"/apt"), r}
		repo.sign(t, r.expired, "--faked-system-time", "20240102T000000!")
		h.served = repo.dir
		key := h.tree + "/etc/apt/keyrings/nfguard.asc"
		trusted := read(t, key)
		write(t, key, run(t, "gpg", "--batch", "--armor", "--export", r.expired))
		out, err := h.sh("rm -rf /var/lib/apt/lists /var/cache/apt; " + install)
		write(t, key, trusted)
		h.refused(t, "", `EXPKEYSIG`, out, err)
	})

	// The control: this host refuses nothing that was not tampered with.
	h.served = r.second + "/apt"
	if out, err := h.sh("rm -rf /var/lib/apt/lists /var/cache/apt; " + install); err != nil || h.installed() != "0.2.0-1" {
		t.Fatalf("the release itself: %v\n%s", err, out)
	}
	t.Run("an older Release, with its packages, to hold back an upgrade", func(t *testing.T) {
		h.served = r.first + "/apt"
		// apt keeps what it had: the older package is not to be had.
		out, err := h.sh("apt-get -q update; apt-cache policy nfguard; rm -f /var/cache/apt/archives/*.deb; apt-get -qy --reinstall install nfguard")
		if !regexp.MustCompile(`(?m)^  Candidate: 0\.2\.0-1$`).MatchString(out) {
			t.Errorf("apt took it:\n%s", out)
		}
		h.refused(t, "0.2.0-1", `404  Not Found`, out, err)
	})
}

// refused holds a run of apt to have failed, with these words, and to have changed nothing.
func (h *aptHost) refused(t *testing.T, before, says, out string, err error) {
	t.Helper()
	if err == nil || !regexp.MustCompile(says).MatchString(out) {
		t.Errorf("want an error with %q, got %v\n%s", says, err, out)
	}
	if got := h.installed(); got != before {
		t.Errorf("want %q installed, got %q", before, got)
	}
	if before == "" {
		if _, err := os.Lstat(filepath.Join(h.tree, "usr/bin/nfguard")); !os.IsNotExist(err) {
			t.Errorf("/usr/bin/nfguard is there: %v", err)
		}
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "E:") {
			t.Log(strings.TrimSpace(line))
		}
	}
}
