package markdown

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each test that docs/safety.md names exists, in the package that it names.
func TestSafetyNamesTests(t *testing.T) {
	page, err := os.ReadFile(root + "/docs/safety.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("((?:`(?:Test|Fuzz)[A-Za-z0-9]+`(?:, )?)+) ((?:test|internal)/[a-z0-9/]+)")
	count := 0
	for _, m := range named.FindAllStringSubmatch(string(page), -1) {
		files, err := filepath.Glob(filepath.Join(root, m[2], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var code strings.Builder
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
		for _, name := range regexp.MustCompile("[A-Z][A-Za-z0-9]+").FindAllString(m[1], -1) {
			if count++; !strings.Contains(code.String(), "\nfunc "+name+"(") {
				t.Errorf("docs/safety.md names %s in %s, which has none", name, m[2])
			}
		}
	}
	if all := strings.Count(string(page), "`Test") + strings.Count(string(page), "`Fuzz"); count != all {
		t.Errorf("%d of the %d tests on the page are listed with their package", count, all)
	}
}
