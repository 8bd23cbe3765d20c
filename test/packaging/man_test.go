package packaging

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

func page(t testing.TB, name string) string {
	t.Helper()
	return read(t, root+"/packaging/man/"+name)
}

func TestManWarnings(t *testing.T) {
	man := lab.Tool(t, lab.Root, "man")
	pages, err := filepath.Glob(root + "/packaging/man/*.[58]")
	if err != nil || len(pages) < 3 {
		t.Fatalf("want three pages or more, got %v (%v)", pages, err)
	}
	packaged := read(t, root+"/nfpm.yaml")
	for _, page := range pages {
		if n := strings.Count(packaged, "${BUILD}/"+filepath.Base(page)+".gz"); n != 2 {
			t.Errorf("%s is in nfpm.yaml %d times, not once for deb and once for rpm", page, n)
		}
		cmd := exec.Command(man, "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Run(); err != nil || said.Len() > 0 {
			t.Errorf("%s: %v\n%s", page, err, said.Bytes())
		}
	}
}

// TestManHasEveryKey compares nfguard.toml(5) with the packaged file, which has every key
// with its default.
func TestManHasEveryKey(t *testing.T) {
	key := regexp.MustCompile(`(?m)^#(mode|[a-z_]+|"[a-z0-9.-]+")\s*= (.*)$`)
	text := page(t, "nfguard.toml.5")
	found := key.FindAllStringSubmatch(read(t, root+"/config/nfguard.toml"), -1)
	if len(found) < 20 {
		t.Fatalf("want 20 keys or more, got %d", len(found))
	}
	for _, m := range found {
		quoted := strings.NewReplacer(`"`, `\(dq`).Replace
		want := ".It Ic " + quoted(m[1]) + " Li = " + quoted(m[2]) + "\n"
		if !strings.Contains(text, want) {
			t.Errorf("nfguard.toml(5) lacks %q", want)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\[[a-z_]+\]$`).FindAllString(read(t, root+"/config/nfguard.toml"), -1) {
		if !strings.Contains(text, ".Ss "+m+"\n") {
			t.Errorf("nfguard.toml(5) lacks the table %s", m)
		}
	}
}

// TestManHasEveryCommand checks all commands and flags of the program. A command can have
// its own page with its flags.
func TestManHasEveryCommand(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "nfguard")
	run(t, "go", "build", "-o", bin, root+"/cmd/nfguard")
	text := page(t, "nfguard.8")
	command := regexp.MustCompile(`(?m)^  ([a-z]+) {2,}\S`)
	flag := regexp.MustCompile(`(?m)^ +(?:-[a-z], )?--([a-z-]+)`)
	var visit func(path ...string)
	visit = func(path ...string) {
		help := run(t, bin, append(path, "--help")...)
		if list, _, ok := strings.Cut(help, "\nFlags:"); ok {
			for _, m := range command.FindAllStringSubmatch(list, -1) {
				sub := append(append([]string{}, path...), m[1])
				if !strings.Contains(text, "\n.It Cm "+strings.Join(sub, " ")) {
					t.Errorf("nfguard(8) lacks the command %q", sub)
				}
				if m[1] != "completion" { // its commands are the shells
					visit(sub...)
				}
			}
		}
		text := text
		if own := "nfguard-" + strings.Join(path, "-") + ".8"; len(path) > 0 {
			if _, err := os.Stat(root + "/packaging/man/" + own); err == nil {
				text += page(t, own)
			}
		}
		for _, m := range flag.FindAllStringSubmatch(help, -1) {
			if m[1] != "output" && !strings.Contains(text, " -"+m[1]) {
				t.Errorf("nfguard(8) lacks --%s of %q", m[1], path)
			}
		}
	}
	visit()
}

// TestManHasEveryMetric takes the names from the golden file of the metrics.
func TestManHasEveryMetric(t *testing.T) {
	text := page(t, "nfguard-metrics.8")
	types := regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(read(t, root+"/internal/core/metrics/testdata/worker.prom"), -1)
	if len(types) < 20 {
		t.Fatalf("want 20 metrics or more, got %d", len(types))
	}
	for _, m := range types {
		if !regexp.MustCompile(`\b` + m[1] + `\b`).MatchString(text) {
			t.Errorf("nfguard-metrics(8) lacks %s", m[1])
		}
	}
}

// TestManOfEvents compares nfguard-events(8) with the flags and the JSON of the program.
func TestManOfEvents(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "nfguard")
	run(t, "go", "build", "-o", bin, root+"/cmd/nfguard")
	text := page(t, "nfguard-events.8")
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-[a-z], )?--([a-z-]+)`).FindAllStringSubmatch(run(t, bin, "events", "--help"), -1) {
		switch m[1] {
		case "output", "help", "config", "root":
			continue
		}
		if !strings.Contains(text, " -"+m[1]) {
			t.Errorf("nfguard-events(8) lacks --%s", m[1])
		}
	}
	names := regexp.MustCompile("json:\"([a-z_]+)")
	found := names.FindAllStringSubmatch(read(t, root+"/internal/cli/eventsjson.go"), -1)
	if len(found) < 40 {
		t.Fatalf("want 40 names or more, got %d", len(found))
	}
	for _, m := range found {
		switch m[1] {
		case "name", "last": // of a sum, like any list
			continue
		}
		if !regexp.MustCompile(`(?m)\b` + m[1] + `\b`).MatchString(text) {
			t.Errorf("nfguard-events(8) lacks %s", m[1])
		}
	}
}

// TestManHasEveryField takes the fields and kinds from the journal's own list.
func TestManHasEveryField(t *testing.T) {
	text := page(t, "nfguard.8")
	for line := range strings.Lines(read(t, root+"/internal/core/journal/testdata/names.golden")) {
		name := strings.Fields(line)[0]
		switch name {
		case "MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER": // systemd.journal-fields(7)
			continue
		}
		if !regexp.MustCompile(`(?m)\b` + name + `\b`).MatchString(text) {
			t.Errorf("nfguard(8) lacks %s", name)
		}
	}
}

// TestManHasJSON takes the names in a page's JSON from the Go types.
func TestManHasJSON(t *testing.T) {
	word := regexp.MustCompile("(?m)(?:json:\"([a-z0-9_]+)|(?:Path|Target|Family|Protocol|Outcome|Verdict|Cause|Role|Purpose) += \"([A-Za-z0-9_ ]+)\")")
	for _, tt := range []struct {
		page  string
		least int
		files []string
	}{
		{"nfguard-probe.8", 50, []string{"diag/probe/judge.go", "diag/probe/settings.go", "diag/probe/probe.go", "cli/probe.go", "cli/probebridge.go"}},
		{"nfguard-probe-dns.8", 60, []string{"diag/probe/dns/report.go", "diag/probe/dns/cause.go", "diag/probe/dns/diagnose.go", "diag/probe/dns/resolvconf.go", "cli/probedns.go"}},
	} {
		text, found := page(t, tt.page), 0
		for _, file := range tt.files {
			for _, m := range word.FindAllStringSubmatch(read(t, root+"/internal/"+file), -1) {
				found++
				if w := m[1] + m[2]; !regexp.MustCompile(`\b` + w + `\b`).MatchString(text) {
					t.Errorf("%s lacks %s", tt.page, w)
				}
			}
		}
		if found < tt.least {
			t.Errorf("%s: want %d words or more, got %d", tt.page, tt.least, found)
		}
	}
}
