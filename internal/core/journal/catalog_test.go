package journal

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/test/lab"
)

const catalogFile = "../../../systemd/nfguard.catalog"

// catalogEntry is one explanation of the message catalog.
type catalogEntry struct {
	header map[string]string
	text   string
}

// readCatalog reads the packaged catalog, by MESSAGE_ID.
func readCatalog(t *testing.T) map[string]catalogEntry {
	b, err := os.ReadFile(catalogFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n-- ") // comments
	entries := map[string]catalogEntry{}
	for section := range strings.SplitSeq(rest, "\n-- ") {
		head, text, ok := strings.Cut(section, "\n\n")
		if !ok {
			t.Fatalf("no empty line after the header: %q", section)
		}
		lines := strings.Split(head, "\n")
		e := catalogEntry{header: map[string]string{}, text: text}
		for _, line := range lines[1:] {
			name, v, _ := strings.Cut(line, ": ")
			e.header[name] = v
		}
		if _, ok := entries[lines[0]]; ok {
			t.Errorf("%s is explained twice", lines[0])
		}
		entries[lines[0]] = e
	}
	return entries
}

// TestCatalog: each kind is explained, and nothing else is; the text fits a
// terminal and mentions only fields that are in every record of the kind.
func TestCatalog(t *testing.T) {
	entries := readCatalog(t)
	for _, k := range kinds(t) {
		e, ok := entries[messageID(k)]
		if !ok {
			t.Errorf("the kind %s is not explained", k)
			continue
		}
		delete(entries, messageID(k))
		t.Run(string(k), func(t *testing.T) {
			wantHeader := map[string]string{
				"Subject":       e.header["Subject"],
				"Defined-By":    "nfguard",
				"Support":       "https://github.com/nfguard/nfguard",
				"Documentation": "man:nfguard(8)",
			}
			if diff := cmp.Diff(wantHeader, e.header); diff != "" {
				t.Error(diff)
			}
			always := Fields(record.Event{Kind: k, Outcome: "x", Subject: "x", Want: "x", Suppressed: 1})
			for _, m := range regexp.MustCompile(`@(\w+)@`).FindAllStringSubmatch(e.header["Subject"]+e.text, -1) {
				if value(always, m[1]) == "" {
					t.Errorf("not every record has %s", m[1])
				}
			}
			for line := range strings.SplitSeq(e.text, "\n") {
				if n := utf8.RuneCountInString(line); n > 80 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
	}
	for id := range entries {
		t.Errorf("no kind has the id %s", id)
	}
}

// TestCatalogCompiles has systemd's own compiler read it.
func TestCatalogCompiles(t *testing.T) {
	lab.Need(t, lab.Root)
	journalctl := lab.Tool(t, lab.Root, "journalctl")
	root := t.TempDir()
	installCatalog(t, filepath.Join(root, "usr/lib/systemd/catalog"))
	if err := os.MkdirAll(filepath.Join(root, "var/lib/systemd/catalog"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(journalctl, "--root="+root, "--update-catalog").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Fatalf("update the catalog: %v\n%s", err, out)
	}
	out, err = exec.Command(journalctl, "--root="+root, "--list-catalog").CombinedOutput()
	if err != nil {
		t.Fatalf("list the catalog: %v\n%s", err, out)
	}
	entries := readCatalog(t)
	for id, e := range entries {
		if want := id + " nfguard: " + e.header["Subject"] + "\n"; !strings.Contains(string(out), want) {
			t.Errorf("want %q in the compiled catalog, got:\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), "\n"); n != len(entries) {
		t.Errorf("want %d entries in the compiled catalog, got %d", len(entries), n)
	}
}

func installCatalog(t *testing.T, dir string) {
	b, err := os.ReadFile(catalogFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "nfguard.catalog"), b, 0o644); err != nil {
		t.Fatal(err)
	}
}
