package netns_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// npdRule is a rule of either monitor of node-problem-detector
// (custompluginmonitor/types and systemlogmonitor/types, v0.8.20).
type npdRule struct {
	Type, Condition, Reason string
	Path, Timeout           string   // for a plugin
	Args                    []string // for a plugin
	Pattern                 string   // for a log
}

// npdMonitor is the configuration file of either monitor.
type npdMonitor struct {
	Plugin       string
	PluginConfig map[string]any
	LogPath      string
	Lookback     string
	BufferSize   int
	Source       string
	Metrics      bool `json:"metricsReporting"`
	Conditions   []struct{ Type, Reason, Message string }
	Rules        []npdRule
}

func readMonitor(t *testing.T, name string) npdMonitor {
	t.Helper()
	text, err := os.ReadFile("../../packaging/node-problem-detector/" + name)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var m npdMonitor
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

// TestNodeProblemDetectorCondition runs the rule's own command line in the three
// states of a node.
func TestNodeProblemDetectorCondition(t *testing.T) {
	m := readMonitor(t, "nfguard-condition.json")
	if m.Plugin != "custom" || len(m.Rules) != 1 || len(m.Conditions) != 1 {
		t.Fatalf("want a custom plugin with one rule and one condition, got %+v", m)
	}
	rule := m.Rules[0]
	if rule.Type != "permanent" || rule.Condition != m.Conditions[0].Type || rule.Reason == "" || rule.Path != "/usr/bin/nfguard" {
		t.Errorf("rule %+v", rule)
	}
	global, err := time.ParseDuration(m.PluginConfig["timeout"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if limit, err := time.ParseDuration(rule.Timeout); err != nil || limit > global {
		t.Errorf("want a timeout of at most %v, got %s (%v)", global, rule.Timeout, err)
	}
	n := newNode(t, "")
	run := func() (code int, said string) {
		t.Helper()
		out, err := n.nfguard(rule.Args...).Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if exit != nil {
			code = exit.ExitCode()
		}
		if len(out) > int(m.PluginConfig["max_output_length"].(float64))+1 || bytes.Count(out, []byte("\n")) != 1 {
			t.Errorf("want one line of at most 80 bytes, got %q", out)
		}
		return code, strings.TrimSpace(string(out))
	}
	is := func(code int, said string) {
		t.Helper()
		gotCode, got := run()
		if diff := cmp.Diff(said, got); diff != "" || gotCode != code {
			t.Errorf("want exit %d, got %d (-want +got):\n%s", code, gotCode, diff)
		}
	}
	is(1, "bridge-nf-call-iptables is 0, wanted 1; 2 more")
	n.set("0", "1", "1")
	is(1, "bridge-nf-call-iptables is 0, wanted 1")
	n.set("1", "1", "1") // the drop-ins for the next boot are missing, which does not count
	is(0, "br_netfilter loaded, 3 of 3 keys as wanted")
	n.write("nfguard.toml", "[sysctl]\n\"net.ipv4.a-key-that-no-kernel-of-this-world-has-and-whose-name-is-longer-than-a-line\" = 1\n")
	is(1, "net.ipv4.a-key-that-no-kernel-of-this-world-has-and-whose-name-is-longer-than...")
	n.write("nfguard.toml", "mode = \"enfroce\"\n")
	if code, said := run(); code != 2 || !strings.HasPrefix(said, "nfguard: ") {
		t.Errorf("want exit 2 and the reason, got %d: %s", code, said)
	}
}

// TestNodeProblemDetectorEvents matches the rules against a daemon's records, as
// node-problem-detector does: to the end of the message.
func TestNodeProblemDetectorEvents(t *testing.T) {
	m := readMonitor(t, "nfguard-events.json")
	if m.Plugin != "journald" || m.PluginConfig["source"] != "nfguard" || m.BufferSize != 1 || len(m.Conditions) != 0 {
		t.Errorf("monitor %+v", m)
	}
	if _, err := time.ParseDuration(m.Lookback); err != nil {
		t.Error(err)
	}
	reasons := func(message string) []string {
		matched := []string{}
		for _, r := range m.Rules {
			if r.Type != "temporary" {
				t.Errorf("%s: %s", r.Reason, r.Type)
			}
			if regexp.MustCompile(r.Pattern + `\z`).MatchString(message) {
				matched = append(matched, r.Reason)
			}
		}
		return matched
	}
	seen := map[string][]string{} // reasons by event and outcome
	story := func(config string, act func(*node)) {
		t.Helper()
		n := newNode(t, config)
		n.start()
		n.awaitReady()
		act(n)
		n.stop()
		for _, r := range n.records {
			if r["NFGUARD_EVENT"] == "" {
				continue
			}
			what := r["NFGUARD_EVENT"] + " " + r["NFGUARD_OUTCOME"]
			got := reasons(r["MESSAGE"])
			if before, ok := seen[what]; ok && !slices.Equal(before, got) {
				t.Errorf("%s is an event of %v and of %v: %s", what, before, got, r["MESSAGE"])
			}
			seen[what] = got
		}
	}
	recorded := func(event string) func(*node) {
		return func(n *node) {
			for range 3 {
				n.Run(t, "sysctl", "-qe", "-w", "net.bridge.bridge-nf-call-iptables=0")
				time.Sleep(20 * time.Millisecond)
			}
			n.recorded(event, func(r map[string]string) bool { return r["NFGUARD_EVENT"] == event })
		}
	}
	story("", recorded("drift"))
	story("mode = \"observe\"\n", recorded("drift"))
	story("[contention]\nlimit = 2\n", recorded("contention"))
	story("[sysctl]\n\"net.ipv4.no_such_key\" = 1\n", func(n *node) {
		n.recorded("failed", func(r map[string]string) bool { return r["NFGUARD_OUTCOME"] == "failed" })
	})
	story("mode = \"lock\"\n", func(n *node) {
		_ = n.Command("sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=0").Run() // it is refused
		n.recorded("denied", func(r map[string]string) bool { return r["NFGUARD_EVENT"] == "denied" })
	})
	want := map[string][]string{
		"drift corrected": {"BridgeNetfilterDrift"}, "drift observed": {"BridgeNetfilterDrift"},
		"drift failed": {"BridgeNetfilterNotCorrected"}, "contention held": {"BridgeNetfilterContention"},
		"denied denied": {"BridgeNetfilterWriteDenied"}, "drift rewritten": {"BridgeNetfilterDrift"},
		"start observed": {}, "stop observed": {}, "next_boot observed": {},
		"dropin corrected": {}, "dropin observed": {"BridgeNetfilterNotCorrected"},
	}
	for what, got := range seen {
		if diff := cmp.Diff(want[what], got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	for what := range want {
		if seen[what] == nil && what != "drift rewritten" { // not every kernel can rewrite
			t.Errorf("%s was not recorded", what)
		}
	}
}
