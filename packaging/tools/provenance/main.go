// Command provenance writes the in-toto statement of a release: which files were made,
// of which commit, by which tools and commands (SLSA's predicate, version 1).
//
// Nothing in it depends on the day or the place, so that a second build says the same.
package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	var o options
	flag.StringVar(&o.commit, "commit", "", "the `hash` of the commit that was built")
	flag.StringVar(&o.release, "version", "", "the version, as v0.1.0")
	flag.StringVar(&o.toolchain, "go", "", "the release of Go, as go1.26.0")
	flag.StringVar(&o.sums, "gosum", "", "the `file` go.sum of the build tools")
	flag.StringVar(&o.programs, "programs", "", "the programs of the system, as \"rpm=4.18.0 createrepo-c=0.17.3\"")
	flag.StringVar(&o.out, "out", "", "the `file` to write")
	flag.Parse()
	if err := write(o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "provenance: error:", err)
		os.Exit(1)
	}
}

type options struct{ commit, release, toolchain, sums, programs, out string }

// Of https://github.com/in-toto/attestation/tree/main/spec and https://slsa.dev/spec/v1.0/provenance.
type (
	statement struct {
		Type          string     `json:"_type"`
		Subject       []resource `json:"subject"`
		PredicateType string     `json:"predicateType"`
		Predicate     predicate  `json:"predicate"`
	}
	resource struct {
		Name   string            `json:"name,omitempty"`
		URI    string            `json:"uri,omitempty"`
		Digest map[string]string `json:"digest,omitempty"`
	}
	predicate struct {
		BuildDefinition definition `json:"buildDefinition"`
		RunDetails      details    `json:"runDetails"`
	}
	definition struct {
		BuildType            string     `json:"buildType"`
		ExternalParameters   external   `json:"externalParameters"`
		InternalParameters   internal   `json:"internalParameters"`
		ResolvedDependencies []resource `json:"resolvedDependencies"`
	}
	external struct {
		Version string `json:"version"`
		Commit  string `json:"commit"`
	}
	internal struct {
		Go       string            `json:"go"`
		Commands []string          `json:"commands"`
		Programs map[string]string `json:"programs"`
	}
	details struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	}
)

const source = "https://github.com/nfguard/nfguard"

// built are the tools that packaging/tools/go.mod pins, of which the packages are made.
var built = []string{"github.com/goreleaser/nfpm/v2", "github.com/CycloneDX/cyclonedx-go", "github.com/spdx/tools-golang"}

func write(o options, files []string) error {
	s := statement{Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1"}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		s.Subject = append(s.Subject, resource{Name: filepath.Base(file), Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])}})
	}
	if len(s.Subject) == 0 {
		return errors.New("no files were named")
	}
	sums, err := os.ReadFile(o.sums)
	if err != nil {
		return err
	}
	programs := map[string]string{}
	for pair := range strings.FieldsSeq(o.programs) {
		name, number, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%q is not NAME=VERSION", pair)
		}
		programs[name] = number
	}
	s.Predicate.BuildDefinition = definition{
		BuildType:          source + "/blob/main/docs/releasing.md",
		ExternalParameters: external{o.release, o.commit},
		InternalParameters: internal{
			Go: o.toolchain,
			Commands: []string{
				"packaging/release/build.sh DIR " + o.commit + " " + o.release, "packaging/release/seal.sh DIR " + o.commit + " " + o.release + " DATE",
			},
			Programs: programs,
		},
		ResolvedDependencies: []resource{
			{URI: "git+" + source + "@refs/tags/" + o.release, Digest: map[string]string{"gitCommit": o.commit}},
			{URI: "pkg:golang/toolchain@" + strings.TrimPrefix(o.toolchain, "go")},
		},
	}
	for _, tool := range built {
		r, err := pinned(tool, string(sums))
		if err != nil {
			return err
		}
		s.Predicate.BuildDefinition.ResolvedDependencies = append(s.Predicate.BuildDefinition.ResolvedDependencies, r)
	}
	s.Predicate.RunDetails.Builder.ID = source + "/blob/main/packaging/release/release.sh"
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, append(text, '\n'), 0o644)
}

// pinned returns the module with its version and its sum in the text of a go.sum,
// of which a version that is used has a line of its own, not only one of its go.mod.
func pinned(path, sums string) (resource, error) {
	for line := range strings.Lines(sums) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != path || strings.HasSuffix(f[1], "/go.mod") {
			continue
		}
		sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(f[2], "h1:"))
		if err != nil {
			return resource{}, fmt.Errorf("%s: %v", path, err)
		}
		return resource{URI: "pkg:golang/" + path + "@" + f[1], Digest: map[string]string{"dirHash1": hex.EncodeToString(sum)}}, nil
	}
	return resource{}, fmt.Errorf("go.sum has no %s", path)
}
