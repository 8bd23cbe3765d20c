package journal

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/printable"
)

var update = flag.Bool("update", false, "renew the goldens in testdata")

// drift is an event that says everything that an event can say.
func drift() record.Event {
	return record.Event{
		Kind:     record.KindDrift,
		Outcome:  record.Reverted,
		Time:     time.Date(2026, 3, 1, 2, 3, 4, 567_000_000, time.FixedZone("CET", 3600)),
		Subject:  string(guard.IPTables),
		Message:  "net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 84µs (written by tuned[812], tuned.service)",
		Want:     "1",
		Have:     "0",
		Now:      "0",
		Duration: 84*time.Microsecond + 999,
		Source:   "sysctl",
		Writer: record.Process{
			PID:    812,
			Comm:   "tuned",
			Exe:    "/usr/bin/python3.11",
			Unit:   "tuned.service",
			Cgroup: "/system.slice/tuned.service",
		},
		Pass:       7,
		Suppressed: 3,
		Err:        errors.New("write /proc/sys/net/bridge/bridge-nf-call-iptables: permission denied\nand more"),
		Next:       "stop tuned.service",
	}
}

func TestFields(t *testing.T) {
	tests := []struct {
		name  string
		event record.Event
		want  []Field
	}{
		{
			name:  "drift that says everything",
			event: drift(),
			want: []Field{
				{"MESSAGE", "net.bridge.bridge-nf-call-iptables was 0, set back to 1 after 84µs (written by tuned[812], tuned.service)"},
				{"MESSAGE_ID", "4f513955a72e451957e0c1036a86391a"},
				{"PRIORITY", "3"},
				{"SYSLOG_IDENTIFIER", "nfguard"},
				{"NFGUARD_TIME", "2026-03-01T01:03:04.567Z"},
				{"NFGUARD_EVENT", "drift"},
				{"NFGUARD_OUTCOME", "reverted"},
				{"NFGUARD_SUBJECT", "net.bridge.bridge-nf-call-iptables"},
				{"NFGUARD_WANT", "1"},
				{"NFGUARD_HAVE", "0"},
				{"NFGUARD_NOW", "0"},
				{"NFGUARD_SOURCE", "sysctl"},
				{"NFGUARD_DURATION_USEC", "84"},
				{"NFGUARD_PASS", "7"},
				{"NFGUARD_SUPPRESSED", "3"},
				{"NFGUARD_ERROR", "write /proc/sys/net/bridge/bridge-nf-call-iptables: permission denied\nand more"},
				{"NFGUARD_NEXT", "stop tuned.service"},
				{"SYSCTL", "/proc/sys/net/bridge/bridge-nf-call-iptables"},
				{"NEWVALUE", "0"},
				{"OURVALUE", "1"},
				{"OBJECT_PID", "812"},
				{"OBJECT_COMM", "tuned"},
				{"OBJECT_EXE", "/usr/bin/python3.11"},
				{"OBJECT_SYSTEMD_UNIT", "tuned.service"},
				{"OBJECT_SYSTEMD_CGROUP", "/system.slice/tuned.service"},
			},
		},
		{
			name: "nobody knows who, nor how long",
			event: record.Event{
				Kind:    record.KindModule,
				Outcome: record.Corrected,
				Subject: "br_netfilter",
				Message: "br_netfilter was not loaded, loaded it",
				Writer:  record.Process{Comm: "modprobe"},
			},
			want: []Field{
				{"MESSAGE", "br_netfilter was not loaded, loaded it"},
				{"MESSAGE_ID", "084b86254c874ee4948d839395ecc745"},
				{"PRIORITY", "4"},
				{"SYSLOG_IDENTIFIER", "nfguard"},
				{"NFGUARD_EVENT", "module"},
				{"NFGUARD_OUTCOME", "corrected"},
				{"NFGUARD_SUBJECT", "br_netfilter"},
			},
		},
		{
			name: "a pause",
			event: record.Event{
				Kind: record.KindPause, Outcome: record.Paused, Subject: "nfguard", Message: "paused for 30m", Source: record.CausePause,
				Next: "nfguard resume ends it", Reason: "a new CNI plugin", Until: time.Date(2026, 3, 1, 2, 33, 4, 0, time.FixedZone("CET", 3600)),
				UID: "0", LoginUID: "1000", Writer: record.Process{PID: 812, Comm: "nfguard", Unit: "session-3.scope"},
			},
			want: []Field{
				{"MESSAGE", "paused for 30m"},
				{"MESSAGE_ID", "eda2fd0608c44a308c3eef30179f3476"},
				{"PRIORITY", "4"},
				{"SYSLOG_IDENTIFIER", "nfguard"},
				{"NFGUARD_EVENT", "pause"},
				{"NFGUARD_OUTCOME", "paused"},
				{"NFGUARD_SUBJECT", "nfguard"},
				{"NFGUARD_SOURCE", "pause"},
				{"NFGUARD_NEXT", "nfguard resume ends it"},
				{"NFGUARD_REASON", "a new CNI plugin"},
				{"NFGUARD_UNTIL", "2026-03-01T01:33:04Z"},
				{"NFGUARD_UID", "0"},
				{"NFGUARD_LOGINUID", "1000"},
				{"OBJECT_PID", "812"},
				{"OBJECT_COMM", "nfguard"},
				{"OBJECT_SYSTEMD_UNIT", "session-3.scope"},
			},
		},
		{
			name:  "a kind of tomorrow",
			event: record.Event{Kind: "tomorrow"},
			want:  []Field{{"PRIORITY", "5"}, {"SYSLOG_IDENTIFIER", "nfguard"}, {"NFGUARD_EVENT", "tomorrow"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Fields(tt.event)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPriority(t *testing.T) {
	const failed, corrected, observed = record.Failed, record.Corrected, record.Observed
	tests := []struct {
		kind    record.Kind
		outcome record.Outcome
		want    string
	}{
		{record.KindDrift, corrected, "4"},
		{record.KindDrift, observed, "4"},
		{record.KindDrift, failed, "3"},
		{record.KindDrift, record.Reverted, "3"},
		{record.KindDenied, record.Denied, "4"},
		{record.KindModule, failed, "3"},
		{record.KindDropin, corrected, "4"},
		{record.KindContention, record.Held, "4"},
		{record.KindSource, failed, "4"},
		{record.KindSource, observed, "5"},
		{record.KindBridge, observed, "6"},
		{record.KindBridge, failed, "3"},
		{record.KindKubeProxy, observed, "5"},
		{record.KindKubeProxy, corrected, "4"},
		{record.KindKubeProxy, failed, "3"},
		{record.KindNextBoot, observed, "4"},
		{record.KindConfig, observed, "5"},
		{record.KindConfig, failed, "3"},
		{record.KindStart, observed, "5"},
		{record.KindStart, failed, "3"},
		{record.KindStop, observed, "5"},
		{record.KindPause, record.Paused, "4"},
		{record.KindPause, failed, "3"},
		{eventLost, failed, "3"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %s", tt.kind, tt.outcome), func(t *testing.T) {
			if got := strconv.Itoa(int(priority(record.Event{Kind: tt.kind, Outcome: tt.outcome}))); got != tt.want {
				t.Errorf("want %s, got %s", tt.want, got)
			}
		})
	}
}

// TestNames holds names and ids to the golden: lines may be added to it,
// never changed. And each name is one that journald takes from a client.
func TestNames(t *testing.T) {
	names := constants(t, "fields.go", "Field")
	valid := regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
	var golden strings.Builder
	for _, n := range names {
		if !valid.MatchString(n) {
			t.Errorf("journald would drop the field %q", n)
		}
		fmt.Fprintln(&golden, n)
	}
	seen := map[string]record.Kind{}
	for _, k := range kinds(t) {
		id := messageID(k)
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
			t.Errorf("the kind %s has no MESSAGE_ID: %q", k, id)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s share the id %s", k, other, id)
		}
		seen[id] = k
		fmt.Fprintf(&golden, "%s MESSAGE_ID=%s\n", k, id)
	}
	const path = "testdata/names.golden"
	if *update {
		if err := os.WriteFile(path, []byte(golden.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), golden.String()); diff != "" {
		t.Errorf("released names and ids never change (new ones: go test -update): %s", diff)
	}
	for _, f := range Fields(drift()) {
		if !slices.Contains(names, f.Name) {
			t.Errorf("%s is not among the constants", f.Name)
		}
	}
}

// kinds returns every kind of event that there is.
func kinds(t *testing.T) []record.Kind {
	var ks []record.Kind
	for _, k := range constants(t, "../record/event.go", "Kind") {
		ks = append(ks, record.Kind(k))
	}
	if len(ks) == 0 {
		t.Fatal("no kind of event in the source of record")
	}
	return append(ks, eventLost)
}

// constants returns the values of a Go file's string constants whose names
// begin with prefix.
func constants(t *testing.T, path, prefix string) []string {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, d := range file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			continue
		}
		for _, s := range decl.Specs {
			spec := s.(*ast.ValueSpec)
			if !strings.HasPrefix(spec.Names[0].Name, prefix) {
				continue
			}
			v, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, v)
		}
	}
	return values
}

// journalctl prints "[88B blob data]" for a message that is not printable, and
// acts on the newline in one that is: neither can be brought about by a name.
// The fields of the process keep it as it is.
func TestM5MessageIsPrintable(t *testing.T) {
	for _, comm := range []string{"\x01", "\xff", "\x1b]0;x\a", "two\nlines", "\u202egpj", "\u200b", "tab\tbed"} {
		e := record.Event{
			Kind: record.KindDrift, Outcome: record.Corrected, Subject: "br\x1b0", Message: "x was 0 (written by " + comm + "[812])",
			Writer: record.Process{PID: 812, Comm: comm},
		}
		got := make(map[string]string)
		for _, f := range Fields(e) {
			got[f.Name] = f.Value
		}
		if m := got["MESSAGE"]; m != printable.Text(e.Message) || printable.Text(m) != m {
			t.Errorf("MESSAGE of %q: %q", comm, m)
		}
		if got["OBJECT_COMM"] != comm || got["NFGUARD_SUBJECT"] != `br\x1b0` {
			t.Errorf("OBJECT_COMM %q, NFGUARD_SUBJECT %q", got["OBJECT_COMM"], got["NFGUARD_SUBJECT"])
		}
	}
}
