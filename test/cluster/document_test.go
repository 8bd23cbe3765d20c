package cluster

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/markdown"
)

var doc = flag.String("doc", "", "a page whose part \"seen\" is rewritten")

// seen stores a column of a mode's table.
func (w *world) seen(mode, column string, rows map[string]string) {
	if w.tables == nil {
		w.tables = map[string]map[string]map[string]string{}
	}
	if w.tables[mode] == nil {
		w.tables[mode] = map[string]map[string]string{}
	}
	w.tables[mode][column] = rows
}

// document writes the tables and figures of this run, if that was requested and all tests
// have passed.
func (w *world) document(t *testing.T) {
	t.Helper()
	if *doc == "" || t.Failed() {
		return
	}
	var b strings.Builder
	columns := []string{"keys at 0", "nfguard", "nfguard, scope bridges", "nfguard, hairpin = \"keep\""}
	for _, mode := range []string{"iptables", legacy, "nftables"} {
		fmt.Fprintf(&b, "\n### kube-proxy in mode %s\n\n| the client asks | %s |\n|---%s|\n", mode, strings.Join(columns, " | "), strings.Repeat("|---", len(columns)))
		for _, row := range rows {
			b.WriteString("| " + row)
			for _, column := range columns {
				b.WriteString(" | " + w.tables[mode][column][row])
			}
			b.WriteString(" |\n")
		}
	}
	b.WriteString("\n### Figures\n\n")
	for _, f := range w.figures {
		b.WriteString("* " + f + "\n")
	}
	if err := markdown.Insert(*doc, "seen", b.String()); err != nil {
		t.Fatal(err)
	}
}

// memory is the proportional set size of all processes of the run, in MiB.
func memory(t *testing.T) (mib int) {
	t.Helper()
	counted := map[string]bool{}
	for _, h := range hierarchies() {
		_ = filepath.WalkDir(filepath.Join(h.own, filepath.Base(dir)), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil //nolint:nilerr // it has gone
			}
			pids, _ := os.ReadFile(path) // gone: empty
			for _, pid := range strings.Fields(string(pids)) {
				counted[pid] = true
			}
			return nil
		})
	}
	kib := 0
	for pid := range counted {
		text, _ := os.ReadFile("/proc/" + pid + "/smaps_rollup") // ended: empty
		for line := range strings.Lines(string(text)) {
			if n := 0; strings.HasPrefix(line, "Pss:") {
				if _, err := fmt.Sscanf(line, "Pss: %d", &n); err == nil {
					kib += n
				}
			}
		}
	}
	return kib >> 10
}
