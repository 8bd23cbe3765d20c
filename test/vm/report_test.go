package vm_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/markdown"
)

var update = flag.Bool("update", false, "have TestGuard write its report into README.md")

// report logs the results of a worker's life in the form of README.md, and with -update
// writes them there.
func report(t *testing.T, n *node, told []chapter) {
	t.Helper()
	var b strings.Builder
	reportFigures(&b, t, n)
	reportStories(&b, told, n.allRecords(t))
	reportRecord(&b, t, n)
	reportAudit(&b, t, n)
	t.Logf("the report:\n%s", b.String())
	if *update {
		if err := markdown.Insert("README.md", "told by TestGuard", b.String()); err != nil {
			t.Fatal(err)
		}
	}
}

func reportFigures(b *strings.Builder, t *testing.T, n *node) {
	t.Helper()
	fmt.Fprintf(b, "### Figures\n\n| | |\n|---|---|\n")
	fmt.Fprintf(b, "| nfguard | %s |\n", n.Sh(t, "dpkg-query -W -f '${Version}' nfguard"))
	fmt.Fprintf(b, "| guest | %s, Linux %s, %s |\n", n.Sh(t, ". /etc/os-release; echo $PRETTY_NAME"), n.Sh(t, "uname -r"), n.Sh(t, "systemctl --version | head -n 1"))
	fmt.Fprintf(b, "| from the start of `dpkg -i` to READY, emulated in software | %.1f s |\n", n.ready.Seconds())
	packages, err := filepath.Glob(filepath.Join(dist(t), "nfguard*"))
	if err != nil || len(packages) != 4 {
		t.Fatalf("want four packages, got %q: %v", packages, err)
	}
	for _, path := range packages {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(b, "| %s | %.2f MB |\n", filepath.Base(path), float64(info.Size())/1e6)
	}
}

// reportStories prints each story with the records of its time.
func reportStories(b *strings.Builder, told []chapter, records []record) {
	fmt.Fprintf(b, "\n### The journal of one run\n\nEach story with all that nfguard recorded meanwhile: event, outcome, message.\n")
	for i, c := range told {
		fmt.Fprintf(b, "\n**%s**: %s.", c.name, c.proves)
		if c.both {
			fmt.Fprintf(b, " *Told on Linux %s, too.*", secondKernel)
		}
		b.WriteString("\n\n")
		for len(records) > 0 && (i+1 == len(told) || records[0].time() < told[i+1].mark) {
			r := records[0]
			fmt.Fprintf(b, "    %-11s %-10s %s\n", r.field("NFGUARD_EVENT"), r.field("NFGUARD_OUTCOME"), r.field("MESSAGE"))
			records = records[1:]
		}
	}
}

func reportRecord(b *strings.Builder, t *testing.T, n *node) {
	t.Helper()
	fmt.Fprintf(b, "\n### One record, whole\n\n")
	n.shows(b, t, "journalctl -u nfguard OBJECT_PID="+n.culprit+" -o json-pretty", 80)
}

// reportAudit prints an auditor's commands and their output.
func reportAudit(b *strings.Builder, t *testing.T, n *node) {
	t.Helper()
	fmt.Fprintf(b, "\n### The auditor's five lines\n")
	for _, line := range []struct{ question, command string }{
		{"What was changed, for how long, and by whom?", "journalctl -u nfguard NFGUARD_EVENT=drift -n 4"},
		{"What could not be put right, and why?", "journalctl -u nfguard NFGUARD_OUTCOME=failed"},
		{"When did nobody keep the host right?", "journalctl -u nfguard NFGUARD_EVENT=stop NFGUARD_EVENT=start -n 4"},
		{"What did that one process do?", "journalctl OBJECT_PID=" + n.culprit},
		{"What does that mean for my pods?", "journalctl -x -u nfguard NFGUARD_EVENT=drift -n 1"},
		{"And all of it, summed up:", "nfguard events --event drift,denied --totals"},
		{"And for a program:", "journalctl -u nfguard NFGUARD_EVENT=drift -n 1 -o json --output-fields=MESSAGE,NFGUARD_SUBJECT,NFGUARD_HAVE,NFGUARD_OUTCOME,NFGUARD_DURATION_USEC,OBJECT_PID,OBJECT_COMM"},
	} {
		fmt.Fprintf(b, "\n%s\n\n", line.question)
		n.shows(b, t, line.command, 24)
	}
}

// shows prints a command and the first lines of its output in the guest.
func (n *node) shows(b *strings.Builder, t *testing.T, command string, most int) {
	t.Helper()
	lines := strings.Split(n.Sh(t, strings.Replace(command, "journalctl", "journalctl --quiet --no-pager", 1)), "\n")
	fmt.Fprintf(b, "    # %s\n", command)
	for _, line := range lines[:min(most, len(lines))] {
		b.WriteString(strings.TrimRight("    "+line, " ") + "\n")
	}
	if len(lines) > most {
		b.WriteString("    …\n")
	}
}
