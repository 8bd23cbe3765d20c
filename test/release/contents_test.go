package release

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

// TestContents: the release has what docs/releasing.md lists, and nothing else.
func TestContents(t *testing.T) {
	r := made(t)
	var got []string
	found, err := filepath.Glob(r.first + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		got = append(got, filepath.Base(path))
	}
	want := []string{
		"SHA256SUMS", "SHA256SUMS.asc", "apt",
		"nfguard-0.1.0-1.aarch64.rpm", "nfguard-0.1.0-1.x86_64.rpm",
		"nfguard-0.1.0-arm64.raw",
		"nfguard-0.1.0-linux-amd64", "nfguard-0.1.0-linux-amd64.cdx.json", "nfguard-0.1.0-linux-amd64.spdx.json",
		"nfguard-0.1.0-linux-arm64", "nfguard-0.1.0-linux-arm64.cdx.json", "nfguard-0.1.0-linux-arm64.spdx.json",
		"nfguard-0.1.0-x86-64.raw",
		"nfguard-0.1.0.provenance.json", "nfguard-0.1.0.provenance.json.asc",
		"nfguard.asc", "nfguard_0.1.0-1_amd64.deb", "nfguard_0.1.0-1_arm64.deb", "yum",
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestProvenance: the statement names each file by what is in it, and the commit.
func TestProvenance(t *testing.T) {
	r := made(t)
	var s struct {
		Type    string `json:"_type"`
		Subject []struct {
			Name   string
			Digest map[string]string
		}
		PredicateType string
		Predicate     struct {
			BuildDefinition struct {
				ExternalParameters   map[string]string
				ResolvedDependencies []struct {
					URI    string
					Digest map[string]string
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(read(t, r.first+"/nfguard-0.1.0.provenance.json")), &s); err != nil {
		t.Fatal(err)
	}
	if s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("%s, %s", s.Type, s.PredicateType)
	}
	if len(s.Subject) != 12 {
		t.Errorf("want 12 files, got %v", s.Subject)
	}
	for _, subject := range s.Subject {
		sum := sha256.Sum256([]byte(read(t, filepath.Join(r.first, subject.Name))))
		if got := hex.EncodeToString(sum[:]); subject.Digest["sha256"] != got {
			t.Errorf("%s: it says %v, the file is %s", subject.Name, subject.Digest, got)
		}
	}
	commit := strings.TrimSpace(run(t, "git", "-C", r.src, "rev-parse", "HEAD^"))
	want := map[string]string{"version": "v0.1.0", "commit": commit}
	if diff := cmp.Diff(want, s.Predicate.BuildDefinition.ExternalParameters); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	source := s.Predicate.BuildDefinition.ResolvedDependencies[0]
	if source.URI != "git+https://github.com/nfguard/nfguard@refs/tags/v0.1.0" || source.Digest["gitCommit"] != commit {
		t.Errorf("%+v", source)
	}
	if out := run(t, "go", "version", "-m", r.first+"/nfguard-0.1.0-linux-arm64"); !strings.Contains(out, "vcs.revision="+commit) || !strings.Contains(out, "vcs.modified=false") {
		t.Errorf("the program is of another commit:\n%s", out)
	}
}

// TestSBOMs: the packages carry the one that is beside them, and the licences.
func TestSBOMs(t *testing.T) {
	r := made(t)
	lab.Tool(t, lab.Root, "rpm2cpio")
	lab.Tool(t, lab.Root, "cpio")
	for _, arch := range []struct{ deb, rpm string }{{"amd64", "x86_64"}, {"arm64", "aarch64"}} {
		deb, rpm := temp(t), temp(t)
		run(t, "dpkg-deb", "-x", r.first+"/nfguard_0.1.0-1_"+arch.deb+".deb", deb)
		run(t, "sh", "-euc", `rpm2cpio "$0" | cpio --quiet -id --no-absolute-filenames -D "$1"`, r.first+"/nfguard-0.1.0-1."+arch.rpm+".rpm", rpm)
		for _, format := range []string{".cdx.json", ".spdx.json"} {
			beside := read(t, r.first+"/nfguard-0.1.0-linux-"+arch.deb+format)
			for _, tree := range []string{deb, rpm} {
				if got := read(t, tree+"/usr/share/nfguard/sbom/nfguard"+format); got != beside {
					t.Errorf("%s: nfguard%s differs in %s", arch.deb, format, tree)
				}
			}
		}
		for _, path := range []string{deb + "/usr/share/doc/nfguard/copyright", rpm + "/usr/share/licenses/nfguard/copyright"} {
			for _, want := range []string{"\nLicense: Apache-2.0\n", "\nLicense: Apache-2.0 or BSD-2-Clause or GPL-2\n"} {
				if !strings.Contains(read(t, path), want) {
					t.Errorf("%s lacks %q", path, want)
				}
			}
		}
	}
}

// TestTamperingsAreListed: docs/releasing.md names each that is tried.
func TestTamperingsAreListed(t *testing.T) {
	text := read(t, root+"/docs/releasing.md")
	var names []string
	for _, tampering := range aptTamperings {
		names = append(names, tampering.name)
	}
	for _, tampering := range dnfTamperings {
		names = append(names, tampering.name)
	}
	if len(names) < 20 {
		t.Errorf("there are %d only", len(names))
	}
	for _, name := range names {
		if !strings.Contains(text, ". "+name+"\n") {
			t.Errorf("docs/releasing.md does not list %q", name)
		}
	}
}
