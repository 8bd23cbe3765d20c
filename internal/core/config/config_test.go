package config

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree writes files, named by their paths below the root that it returns.
func tree(t testing.TB, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const mainFile = "/etc/nfguard/nfguard.toml"

// load loads files that are named by their paths, and returns origins and error
// without the temporary directory in front of them.
func load(t testing.TB, files map[string]string) (Config, Origins, string) {
	t.Helper()
	root := tree(t, files)
	c, origins, err := Load(root, mainFile)
	for key, o := range origins {
		origins[key] = Origin{strings.TrimPrefix(o.File, root), o.Line}
	}
	return c, origins, message(err, root)
}

// message returns the text of an Errors without root, "" for nil.
func message(err error, root string) string {
	if err == nil {
		return ""
	}
	if errs := Errors(nil); !errors.As(err, &errs) {
		return "not an Errors: " + err.Error()
	}
	return strings.ReplaceAll(err.Error(), root, "")
}

// lines joins the lines of a wanted message.
func lines(l ...string) string { return strings.Join(l, "\n") }

func diff(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// By default, a name that says nothing about pods does not match, and the bridges of
// tools without pods are ignored.
func TestDefaultBridges(t *testing.T) {
	b := Default().Bridges
	takes := func(patterns []string, name string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			ok, err := path.Match(p, name)
			return err == nil && ok
		})
	}
	for _, name := range []string{"br-0123456789ab", "br-ex", "br-int", "br-multus", "br0", "bridge"} {
		if takes(b.Match, name) {
			t.Errorf("%s matches by its name", name)
		}
	}
	for _, name := range []string{"virbr0", "vmbr0", "lxcbr0", "lxdbr0", "incusbr0", "podman0", "podman12", "cni-podman0", "nerdctl0"} {
		if !takes(b.Ignore, name) {
			t.Errorf("%s is not ignored", name)
		}
	}
	for _, name := range []string{"cni0", "cnio0", "cbr0", "kube-bridge", "weave", "docker0"} {
		if !takes(b.Match, name) || takes(b.Ignore, name) {
			t.Errorf("%s does not match", name)
		}
	}
}
