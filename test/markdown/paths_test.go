package markdown

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The paths in ARCHITECTURE.md, SECURITY.md and docs/safety.md exist in the repository.
func TestPathsAreThere(t *testing.T) {
	for _, page := range []string{"ARCHITECTURE.md", "SECURITY.md", "docs/safety.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		paths := regexp.MustCompile(`(?:^|[^/\w])((?:internal|cmd|config|docs|packaging|systemd|test)/[A-Za-z0-9_./-]*[A-Za-z0-9_])`).FindAllStringSubmatch(string(text), -1)
		if len(paths) < 4 {
			t.Errorf("%s names %d paths", page, len(paths))
		}
		for _, path := range paths {
			if _, err := os.Stat(filepath.Join(root, path[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}
