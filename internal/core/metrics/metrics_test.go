package metrics

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/printable"
)

var update = flag.Bool("update", false, "write the golden files")

// parse reads text as Prometheus does, and returns the value of each sample.
func parse(t testing.TB, text []byte) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("Prometheus does not take it: %v\n%s", err, text)
	}
	out := map[string]float64{}
	for name, f := range families {
		if f.GetHelp() == "" || f.GetType() == dto.MetricType_UNTYPED {
			t.Errorf("%s is without help or type", name)
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			slices.Sort(labels)
			series := name
			if len(labels) > 0 {
				series += "{" + strings.Join(labels, ",") + "}"
			}
			if _, twice := out[series]; twice {
				t.Errorf("%s is there twice", series)
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				out[series] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				out[series] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				for _, b := range m.GetHistogram().GetBucket() {
					out[fmt.Sprintf("%s_bucket{le=%v}", name, b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
				out[name+"_sum"] = m.GetHistogram().GetSampleSum()
				out[name+"_count"] = float64(m.GetHistogram().GetSampleCount())
			default:
				t.Errorf("%s is a %v", name, f.GetType())
			}
		}
	}
	return out
}

// worker is a node that had some trouble.
func worker() State {
	return State{
		Started: time.Unix(1_800_000_000, 0), LastPass: time.Unix(1_800_003_600, 250e6), Passes: 61, Audit: time.Minute,
		Mode: guard.Enforce, Scope: "host", Verdict: guard.Wrong, Failed: 3,
		Items: []guard.Item{
			{Kind: record.KindModule, Subject: "br_netfilter", Verdict: guard.Right},
			{Kind: record.KindDrift, Subject: string(guard.IPTables), Verdict: guard.Right},
			{Kind: record.KindDrift, Subject: string(guard.IP6Tables), Verdict: guard.Excused},
			{Kind: record.KindDrift, Subject: string(guard.ARPTables), Verdict: guard.Right},
			{Kind: record.KindDrift, Subject: "net.ipv4.conf.eth0/100.rp_filter", Verdict: guard.Uncertain},
			{Kind: record.KindDropin, Subject: "/etc/sysctl.d/99-zz-nfguard.conf", Verdict: guard.Blocked},
		},
		Complaints: map[string]string{string(guard.ARPTables): "a look since the pass found it wrong"},
		Fights:     []string{string(guard.IPTables)},
		Findings:   []guard.Finding{{Breaks: true}, {}},
		Bridges: []guard.Bridge{
			{Name: "virbr0"},
			{Name: "cnio0", Ports: guard.Ports{Pods: 2}, CallARPTables: true},
		},
		On:        [3]bool{true, false, false},
		KubeProxy: guard.ProxyProgrammed,
		Sources:   []source.Health{{Name: "sysctl", Up: true}, {Name: "link"}},
	}
}

func event(kind record.Kind, o record.Outcome, unit string) record.Event {
	e := record.Event{Kind: kind, Outcome: o, Subject: string(guard.IPTables), Want: "1", Have: "0", Now: "1"}
	if unit != "" {
		e.Writer = record.Process{PID: 812, Unit: unit}
	}
	return e
}

// TestGolden is the file as people see it.
func TestGolden(t *testing.T) {
	var m Metrics
	e := event(record.KindDrift, record.Corrected, "tuned.service")
	e.Duration = 84 * time.Microsecond
	m.Record(e)
	s := worker()
	starting := State{Textfile: s.Textfile, Started: s.Started, Looking: s.Started}
	for name, got := range map[string][]byte{"worker.prom": m.render(&s), "stopped.prom": m.stopped(&s), "starting.prom": m.starting(&starting)} {
		parse(t, got)
		for line := range bytes.Lines(bytes.Clone(got)) {
			if bytes.HasPrefix(line, []byte("nfguard_build_info")) {
				got = bytes.ReplaceAll(got, line, []byte("nfguard_build_info{version=\"…\"} 1\n"))
			}
		}
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s: renew with -update (-want +got):\n%s", name, diff)
		}
	}
}

func TestRecord(t *testing.T) {
	const (
		drifts      = `nfguard_drifts_total{kind="sysctl",subject="net.bridge.bridge-nf-call-iptables"}`
		corrections = `nfguard_corrections_total{kind="sysctl",subject="net.bridge.bridge-nf-call-iptables"}`
		stood       = "nfguard_foreign_value_duration_seconds_count"
	)
	foreign := func(outcome, unit string) string {
		return fmt.Sprintf(`nfguard_foreign_values_total{key="net.bridge.bridge-nf-call-iptables",outcome=%q,unit=%q}`, outcome, unit)
	}
	with := func(e record.Event, change func(*record.Event)) record.Event { change(&e); return e }
	tests := []struct {
		name  string
		event record.Event
		want  map[string]float64 // what is not 0
	}{
		{
			"a port that has lost hairpin mode is its bridge's",
			with(event(record.KindFlag, record.Corrected, ""), func(e *record.Event) { e.Subject, e.Bridge = "veth1", "cni0" }),
			map[string]float64{`nfguard_drifts_total{kind="bridge",subject="cni0"}`: 1, `nfguard_corrections_total{kind="bridge",subject="cni0"}`: 1},
		},
		{
			"the port of a new pod is no drift",
			with(event(record.KindFlag, record.Corrected, ""), func(e *record.Event) { e.Subject, e.Bridge, e.New = "veth1", "cni0", true }),
			map[string]float64{},
		},
		{
			"put right, how long is known",
			with(event(record.KindDrift, record.Corrected, "tuned.service"), func(e *record.Event) { e.Duration = time.Millisecond }),
			map[string]float64{drifts: 1, corrections: 1, stood: 1, foreign("corrected", "tuned.service"): 1},
		},
		{
			"put right, nobody was seen",
			event(record.KindDrift, record.Corrected, ""),
			map[string]float64{drifts: 1, corrections: 1, foreign("corrected", "unknown"): 1},
		},
		{
			"put right and wrong again at once",
			event(record.KindDrift, record.Reverted, "tuned.service"),
			map[string]float64{drifts: 1, corrections: 1, foreign("corrected", "tuned.service"): 1},
		},
		{
			"left so in mode observe",
			with(event(record.KindDrift, record.Observed, "tuned.service"), func(e *record.Event) { e.Now = "0" }),
			map[string]float64{drifts: 1, foreign("observed", "tuned.service"): 1},
		},
		{
			"left so in a pause",
			with(event(record.KindDrift, record.Paused, "tuned.service"), func(e *record.Event) { e.Now = "0" }),
			map[string]float64{drifts: 1, foreign("paused", "tuned.service"): 1},
		},
		{
			"put right at the end of the pause",
			with(event(record.KindDrift, record.Corrected, ""), func(e *record.Event) { e.Source, e.Duration = record.CausePause, time.Hour }),
			map[string]float64{corrections: 1},
		},
		{
			"a pause",
			record.Event{Kind: record.KindPause, Outcome: record.Paused, Subject: "nfguard", Source: record.CausePause},
			map[string]float64{},
		},
		{
			"others have put it right",
			event(record.KindDrift, record.Observed, ""),
			map[string]float64{},
		},
		{
			"could not be set",
			with(event(record.KindDrift, record.Failed, ""), func(e *record.Event) { e.Now = "0" }),
			map[string]float64{drifts: 1, foreign("failed", "unknown"): 1},
		},
		{
			"could not be looked at",
			with(event(record.KindDrift, record.Failed, ""), func(e *record.Event) { e.Have, e.Now, e.Err = "", "", errors.New("denied") }),
			map[string]float64{},
		},
		{
			"could not be looked at in mode observe",
			with(event(record.KindDrift, record.Observed, ""), func(e *record.Event) { e.Have, e.Now, e.Err = "", "", errors.New("denied") }),
			map[string]float64{},
		},
		{
			"written, and it did not stay",
			with(event(record.KindDropin, record.Reverted, ""), func(e *record.Event) {
				e.Subject, e.Err = "/etc/sysctl.d/99-zz-nfguard.conf", errors.New("it did not stay")
			}),
			map[string]float64{`nfguard_drifts_total{kind="dropin",subject="/etc/sysctl.d/99-zz-nfguard.conf"}`: 1},
		},
		{
			"refused by the lock, with writes that nobody told of",
			with(event(record.KindDenied, record.Denied, "tuned.service"), func(e *record.Event) { e.Suppressed = 4 }),
			map[string]float64{foreign("denied", "tuned.service"): 5},
		},
		{
			"rewritten by the lock",
			event(record.KindDenied, record.Rewritten, "tuned.service"),
			map[string]float64{foreign("rewritten", "tuned.service"): 1},
		},
		{
			"a fight, which stands for what it counts",
			with(event(record.KindContention, record.Held, "tuned.service"), func(e *record.Event) { e.Suppressed, e.Duration = 300, time.Minute }),
			map[string]float64{drifts: 300, corrections: 300, foreign("corrected", "tuned.service"): 300},
		},
		{
			"a fight against the lock",
			with(event(record.KindContention, record.Held, "tuned.service"), func(e *record.Event) { e.Suppressed, e.About = 300, record.KindDenied }),
			map[string]float64{foreign("denied", "tuned.service"): 300},
		},
		{
			"the end of a fight, with nothing left to count",
			event(record.KindContention, record.Observed, "tuned.service"),
			map[string]float64{},
		},
		{
			"another kind",
			event(record.KindKubeProxy, record.Corrected, "kube-proxy.service"),
			map[string]float64{},
		},
		{
			"a drop-in, of which there is no writer",
			with(event(record.KindDropin, record.Corrected, ""), func(e *record.Event) { e.Subject = "/etc/sysctl.d/99-zz-nfguard.conf" }),
			map[string]float64{
				`nfguard_drifts_total{kind="dropin",subject="/etc/sysctl.d/99-zz-nfguard.conf"}`:      1,
				`nfguard_corrections_total{kind="dropin",subject="/etc/sysctl.d/99-zz-nfguard.conf"}`: 1,
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var m Metrics
			m.Record(test.event)
			s := worker()
			got := parse(t, m.render(&s))
			maps.DeleteFunc(got, func(series string, v float64) bool {
				return v == 0 || !strings.Contains(series, "_total{") && series != stood
			})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestZeroFromTheStart: increase() does not see a counter that appears as 1.
func TestZeroFromTheStart(t *testing.T) {
	s := worker()
	samples := parse(t, new(Metrics).render(&s))
	for _, it := range s.Items {
		for _, name := range []string{"nfguard_drifts_total", "nfguard_corrections_total"} {
			series := fmt.Sprintf("%s{kind=%q,subject=%q}", name, kindOf(it.Kind), it.Subject)
			if v, ok := samples[series]; !ok || v != 0 {
				t.Errorf("want %s to be 0, got %v (%v)", series, v, ok)
			}
		}
	}
}

func TestUnitOf(t *testing.T) {
	tests := []struct {
		name   string
		writer record.Process
		want   string
	}{
		{"nobody was seen", record.Process{}, "unknown"},
		{"a service", record.Process{PID: 1, Unit: "tuned.service"}, "tuned.service"},
		{"outside of units", record.Process{PID: 1}, "none"},
		{"a login", record.Process{PID: 1, Unit: "session-4711.scope"}, "transient"},
		{"systemd-run", record.Process{PID: 1, Unit: "run-r0123456789abcdef.service"}, "transient"},
		{"a container", record.Process{PID: 1, Unit: "cri-containerd-0123.scope", Container: "0123"}, "container"},
		{"a pod's sandbox", record.Process{PID: 1, Pod: "0123"}, "container"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, unitOf(test.writer)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestBounded: whatever others do, a node has so many series and no more, and
// nothing is left uncounted.
func TestBounded(t *testing.T) {
	var m Metrics
	s := worker()
	const storm = 1000
	for i := range storm {
		e := event(record.KindDrift, record.Corrected, fmt.Sprintf("made-up-%d.service", i))
		m.Record(e)
		e.Kind, e.Subject = record.KindFlag, fmt.Sprintf("br-%d", i)
		m.Record(e)
		s.Bridges = append(s.Bridges, guard.Bridge{Name: e.Subject})
		s.Items = append(s.Items, guard.Item{Kind: record.KindFlag, Subject: e.Subject, Verdict: guard.Right})
	}
	s.Bridges = append(s.Bridges, guard.Bridge{Name: "late", Ports: guard.Ports{Pods: 1}})
	samples := parse(t, m.render(&s))
	if n := len(samples); n > 600 {
		t.Errorf("%d series", n)
	}
	var bridges, writers float64
	for series, v := range samples {
		if strings.HasPrefix(series, `nfguard_drifts_total{kind="bridge"`) {
			bridges += v
		}
		if strings.HasPrefix(series, "nfguard_foreign_values_total") {
			writers += v
		}
	}
	if bridges != storm || writers != storm {
		t.Errorf("want all of %d counted, got %v bridges and %v writers", storm, bridges, writers)
	}
	if v := samples[`nfguard_bridge_pods{bridge="late"}`]; v != 1 {
		t.Error("a bridge with pods was left out")
	}
}

// TestAnyText: what a writer's unit is called must not break the file.
func TestAnyText(t *testing.T) {
	for _, unit := range []string{`a"b\c`, "two\nlines", "\xff\xfe", "ünit.service", ""} {
		var m Metrics
		e := event(record.KindDrift, record.Corrected, "x")
		e.Writer.Unit = unit
		m.Record(e)
		s := worker()
		want := printable.Name(unit)
		if unit == "" {
			want = "none"
		}
		series := fmt.Sprintf(`nfguard_foreign_values_total{key="net.bridge.bridge-nf-call-iptables",outcome="corrected",unit=%q}`, want)
		if got := parse(t, m.render(&s))[series]; got != 1 {
			t.Errorf("want %s to be 1, got %v", series, got)
		}
	}
}

// No two bridges have one label: the whole file would be refused.
func TestL3NoTwoLabelsAlike(t *testing.T) {
	names := []string{"x\xff", "x\xfe", `x\xff`, `x\\xff`, "x\u200b", `x\u200b`, "x", "x\x01"}
	s := worker()
	s.Bridges, s.Items = nil, nil
	for i, name := range names {
		s.Bridges = append(s.Bridges, guard.Bridge{Name: name, Ports: guard.Ports{Pods: i + 1}})
	}
	var m Metrics
	samples := parse(t, m.render(&s)) // which refuses what Prometheus refuses
	for i, name := range names {
		series := fmt.Sprintf(`nfguard_bridge_pods{bridge=%q}`, printable.Name(name))
		if got := samples[series]; got != float64(i+1) {
			t.Errorf("%s is %v, want %d", series, got, i+1)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", -3: "-3", 1_800_003_600.25: "1800003600.25", 1_800_000_000: "1800000000",
		0.00005: "0.00005", 1e-9: "1e-09", math.Inf(1): "+Inf", 1e300: "1e+300",
	} {
		if got := number(v); got != want {
			t.Errorf("%v: want %s, got %s", v, want, got)
		}
	}
	if got := number(math.NaN()); got != "NaN" {
		t.Errorf("want NaN, got %s", got)
	}
}

// started returns Metrics that write, and their log, which is to be read after Stop.
func started(t *testing.T) (*Metrics, *bytes.Buffer) {
	t.Helper()
	var said bytes.Buffer
	return New(slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))), &said
}

// published publishes s and waits until the file was tried.
func published(t *testing.T, m *Metrics, s State) {
	t.Helper()
	m.Publish(s)
	m.Publish(s) // taken when the first is done, or in its place
	for deadline := time.Now().Add(30 * time.Second); len(m.file.jobs) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not written")
		}
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	m, said := started(t)
	s := worker()
	s.LastPass = time.Time{}
	s.Textfile = filepath.Join(dir, "early.prom")
	m.Publish(s) // before the first look: of what was not looked at nothing is said
	s = worker()
	s.Textfile = filepath.Join(dir, "one.prom")
	published(t, m, s)
	s.Textfile = filepath.Join(dir, "two.prom")
	published(t, m, s)
	m.Stop()
	if diff := cmp.Diff([]string{"two.prom"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	text, err := os.ReadFile(s.Textfile)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for series := range parse(t, text) {
		name, _, _ := strings.Cut(series, "{")
		left = append(left, name)
	}
	slices.Sort(left)
	want := []string{"nfguard_build_info", "nfguard_last_pass_timestamp_seconds", "nfguard_start_time_seconds", "nfguard_up"}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("after the stop (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(s.Textfile); err != nil || info.Mode() != 0o644 {
		t.Errorf("want it readable for node_exporter, got %v (%v)", info.Mode(), err)
	}
	if said.Len() > 0 {
		t.Errorf("log: %s", said)
	}
}

func TestSwitchedOff(t *testing.T) {
	dir := t.TempDir()
	m, said := started(t)
	s := worker()
	s.Textfile = filepath.Join(dir, "one.prom")
	published(t, m, s)
	s.Textfile = ""
	published(t, m, s)
	m.Stop()
	if diff := cmp.Diff([]string{}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if said.Len() > 0 {
		t.Errorf("log: %s", said)
	}
}

// TestTrouble: it is said once, tried again, and its end is said.
func TestTrouble(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	m, said := started(t)
	s := worker()
	s.Textfile = filepath.Join(dir, "nfguard.prom")
	for range 3 {
		published(t, m, s)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	published(t, m, s)
	m.Stop()
	want := fmt.Sprintf(`level=WARN msg="the metrics are not written; tried again with each look" path=%[1]s/nfguard.prom `+
		`error="statat %[1]s: no such file or directory" next="make the directory %[1]s, then systemctl restart nfguard"
level=INFO msg="the metrics are written again" path=%[1]s/nfguard.prom
`, dir)
	if diff := cmp.Diff(want, said.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"nfguard.prom"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestPlantedLink: the directory may be node_exporter's, and the daemon is root.
func TestPlantedLink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nfguard.prom")
	if err := os.Symlink(victim, path); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	f := &file{log: slog.New(slog.NewTextHandler(&said, nil))}
	f.do(job{path, []byte("# HELP nfguard_up\n")})
	for _, want := range []string{"is a symbolic link, not a regular file", "move away what stands there"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("want %q, got %s", want, said.String())
		}
	}
	if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
		t.Errorf("the victim is %q (%v)", got, err)
	}
	os.Remove(path)
	os.WriteFile(path, []byte("# HELP apt_upgrades_pending\n"), 0o644)
	f.do(job{path, []byte("# HELP nfguard_up\n")})
	if got, err := os.ReadFile(path); err != nil || string(got) != "# HELP apt_upgrades_pending\n" {
		t.Errorf("another's metrics are %q (%v)", got, err)
	}
}

// TestNoBridges: what could not be listed is not said to be none.
func TestNoBridges(t *testing.T) {
	s := worker()
	s.Bridging, s.Bridges = errors.New("netlink: permission denied"), nil
	for series := range parse(t, new(Metrics).render(&s)) {
		if strings.HasPrefix(series, "nfguard_bridge") {
			t.Errorf("%s is told", series)
		}
	}
}

// BenchmarkPublish is what the loop pays, at most once a second.
func BenchmarkPublish(b *testing.B) {
	var m Metrics
	s := worker()
	b.ReportAllocs()
	for b.Loop() {
		m.render(&s)
	}
	b.ReportMetric(float64(len(m.render(&s))), "bytes")
}

// TestPaused: whether there is a pause, and when it ends.
func TestPaused(t *testing.T) {
	var m Metrics
	s := worker()
	for _, till := range []int64{0, 1_800_003_660} {
		s.PausedTill = time.Time{}
		paused := 0.0
		if till > 0 {
			s.PausedTill, paused = time.Unix(till, 0), 1
		}
		got := parse(t, m.render(&s))
		if got["nfguard_paused"] != paused || got["nfguard_pause_end_timestamp_seconds"] != float64(till) {
			t.Errorf("until %d: %v, %v", till, got["nfguard_paused"], got["nfguard_pause_end_timestamp_seconds"])
		}
	}
}
