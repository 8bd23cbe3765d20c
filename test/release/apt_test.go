package release

import (
	"net"
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
	tree   string                              // where it is a root on this machine
	sh     func(script string) (string, error) // as root there; what it prints, errors too
	served string                              // the release that is there; another may take its place
	url    string                              // of the release, for the host
}

// serve has a server of this machine's loopback serve what h.served is by then, to a host
// that finds it under the given name.
func (h *aptHost) serve(t *testing.T, name string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.FileServer(http.Dir(h.served)).ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	h.url = "http://" + net.JoinHostPort(name, port)
}

// alone makes the host know no repository. apt answers itself, and checks dates, which
// the trees and images of the tests are made without. There may be no /dev/pts.
func (h *aptHost) alone(t *testing.T) {
	t.Helper()
	h.must(t, `cd /etc/apt; rm -rf sources.list sources.list.d/* apt.conf.d/99mmdebstrap
		echo 'APT::Install-Recommends "false"; APT::Get::Assume-Yes "true"; Dpkg::Use-Pty "0";' >apt.conf.d/50test`)
}

func (h *aptHost) must(t *testing.T, script string) string {
	t.Helper()
	out, err := h.sh(script)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// put writes a file on the host.
func (h *aptHost) put(t *testing.T, path, text string) {
	t.Helper()
	h.must(t, "mkdir -p "+filepath.Dir(path)+"; cat >"+path+" <<'END'\n"+text+"\nEND\n")
}

// newAptHost is one in a root of its own.
func newAptHost(t *testing.T, r releases) *aptHost {
	t.Helper()
	tree := lab.Debian(t, "../packaging/debian.sh")
	h := &aptHost{tree: tree, served: r.first, sh: func(script string) (string, error) {
		cmd := exec.Command("chroot", tree, "sh", "-euc", script)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}}
	h.serve(t, "127.0.0.1")
	h.alone(t)
	h.put(t, "/etc/apt/keyrings/nfguard.asc", read(t, r.first+"/nfguard.asc"))
	h.put(t, "/etc/apt/sources.list.d/nfguard.sources", known(t, h.url))
	return h
}

// known is the file by which docs/install.md makes apt know the repository.
func known(t *testing.T, url string) string {
	t.Helper()
	_, text, _ := strings.Cut(documented(t, "## Debian, Ubuntu", url)[0], "<<EOF\n")
	text, _, found := strings.Cut(text, "EOF\n")
	if !found || !strings.Contains(text, "\nSigned-By: ") {
		t.Fatalf("docs/install.md has no such file: %q", text)
	}
	return text
}

// documented returns the commands below a heading of docs/install.md, those that stand
// together as one, with the URL of this release.
func documented(t *testing.T, heading, url string) []string {
	t.Helper()
	_, text, found := strings.Cut(read(t, root+"/docs/install.md"), "\n"+heading+"\n")
	if !found {
		t.Fatalf("docs/install.md has no %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var blocks []string
	inside := false
	for line := range strings.Lines(text) {
		command, ok := strings.CutPrefix(line, "    ")
		switch {
		case ok && inside:
			blocks[len(blocks)-1] += command
		case ok:
			blocks = append(blocks, command)
		}
		inside = ok
	}
	for i := range blocks {
		blocks[i] = strings.ReplaceAll(blocks[i], "https://packages.example.com/nfguard", url)
	}
	return blocks
}

// installed is the version of nfguard, or "".
func (h *aptHost) installed() string {
	out, err := h.sh("dpkg-query -W -f '${Version} ${db:Status-Status}' nfguard")
	version, ok := strings.CutSuffix(out, " installed")
	if err != nil || !ok {
		return ""
	}
	return version
}

func TestApt(t *testing.T) {
	r := made(t)
	h := newAptHost(t, r)
	for _, step := range []struct{ name, served, install, want string }{
		{"install", r.first, "nfguard", "0.1.0-1"},
		{"upgrade", r.second, "nfguard", "0.2.0-1"},
		{"downgrade", r.second, "--allow-downgrades nfguard=0.1.0-1", "0.1.0-1"},
		{"upgrade of all", r.second, "--only-upgrade nfguard", "0.2.0-1"},
	} {
		h.served = step.served
		out, err := h.sh("apt-get -q update; apt-get -q install " + step.install)
		if got := h.installed(); err != nil || got != step.want || strings.Contains(out, "W:") {
			t.Fatalf("%s: want %s, got %q, %v\n%s", step.name, step.want, got, err, out)
		}
	}
	if out, err := h.sh("nfguard version; apt-get -q purge nfguard"); err != nil || !strings.Contains(out, "0.2.0") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestImageRecipe makes an image of a tree by the commands of docs/install.md.
func TestImageRecipe(t *testing.T) {
	r := made(t)
	h := newAptHost(t, r)
	recipe := documented(t, "## Many hosts", h.url)
	if len(recipe) != 1 {
		t.Fatalf("want one recipe, got %q", recipe)
	}
	bin := temp(t)
	run(t, "install", r.first+"/nfguard-0.1.0-linux-amd64", bin+"/nfguard")
	cmd := exec.Command("sh", "-euc", strings.ReplaceAll(recipe[0], "TREE", h.tree))
	cmd.Env = []string{"PATH=" + bin + ":/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	output(t, cmd)
	got := h.must(t, "cd /etc; readlink systemd/system/multi-user.target.wants/nfguard.service; cat modules-load.d/nfguard.conf sysctl.d/99-zz-nfguard.conf | grep -v '^#'")
	want := "/lib/systemd/system/nfguard.service\nbr_netfilter\nnet.bridge.bridge-nf-call-iptables = 1\nnet.bridge.bridge-nf-call-ip6tables = 1\nnet.bridge.bridge-nf-call-arptables = 1\n"
	if got != want {
		t.Errorf("want %q, got %q", want, got)
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
	newAptHost(t, r).refusesTamperings(t, r)
}

// refusesTamperings is for a host without nfguard, which has that of the second release in
// the end.
func (h *aptHost) refusesTamperings(t *testing.T, r releases) {
	t.Helper()
	const install = "rm -rf /var/lib/apt/lists /var/cache/apt; apt-get -q update; apt-get -q install nfguard"
	tampered := func(t *testing.T, how func(*testing.T, repository)) {
		t.Helper()
		repo := repository{copied(t, r.second+"/apt"), r}
		how(t, repo)
		h.served = filepath.Dir(repo.dir)
	}
	for _, tampering := range aptTamperings {
		t.Run(tampering.name, func(t *testing.T) {
			tampered(t, tampering.how)
			out, err := h.sh(install)
			h.refused(t, "", tampering.refused, out, err)
		})
	}
	t.Run("an expired key, which the host trusts", func(t *testing.T) {
		tampered(t, func(t *testing.T, repo repository) {
			repo.sign(t, r.expired, "--faked-system-time", "20240102T000000!")
		})
		const key = "/etc/apt/keyrings/nfguard.asc"
		h.put(t, key, run(t, "gpg", "--batch", "--armor", "--export", r.expired))
		out, err := h.sh(install)
		h.put(t, key, read(t, r.first+"/nfguard.asc"))
		h.refused(t, "", `EXPKEYSIG`, out, err)
	})

	// The control: this host refuses nothing that was not tampered with.
	h.served = r.second
	if out, err := h.sh(install); err != nil || h.installed() != "0.2.0-1" {
		t.Fatalf("the release itself: %v\n%s", err, out)
	}
	t.Run("an older Release, with its packages, to hold back an upgrade", func(t *testing.T) {
		h.served = r.first
		// apt keeps what it had: the older package is not to be had.
		out, err := h.sh("apt-get -q update; apt-cache policy nfguard; rm -f /var/cache/apt/archives/*.deb; apt-get -q --reinstall install nfguard")
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
		if out, err := h.sh("! test -e /usr/bin/nfguard"); err != nil {
			t.Errorf("/usr/bin/nfguard is there: %v\n%s", err, out)
		}
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "E:") {
			t.Log(strings.TrimSpace(line))
		}
	}
}
