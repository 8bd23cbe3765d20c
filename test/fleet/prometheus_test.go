// Package fleet_test has real programs read nfguard's output on many hosts:
// node_exporter and Prometheus in throw-away network namespaces, with the alerts and the
// dashboard, and ansible.
package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

const shipped = "../../packaging/prometheus"

// start runs a program inside ns until stop is called or the test ends; a signal ends
// it.
func start(t *testing.T, ns *lab.Namespace, env []string, name string, args ...string) (stop func()) {
	t.Helper()
	cmd := ns.Command(name, args...)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// On the namespace's own thread, which lasts as long as the test.
	ns.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() {
		if cmd == nil {
			return
		}
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may already have ended
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Errorf("%s did not end within a minute", name)
			_ = cmd.Process.Kill()
			<-ended
		}
		if said, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s said:\n%s", name, said)
		}
		log.Close()
		cmd = nil
	}
	t.Cleanup(stop)
	return stop
}

// node is a worker with nfguard and a bridge with a pod.
type node struct {
	*lab.Namespace
	dir  string
	stop func() // nfguard
}

func newNode(t *testing.T, binary, config string) *node {
	t.Helper()
	n := &node{Namespace: lab.NewNamespace(t), dir: t.TempDir()}
	pod := lab.NewNamespace(t)
	n.Run(t, "ip", "link", "set", "lo", "up")
	n.Run(t, "ip", "link", "add", "cnio0", "type", "bridge")
	n.Run(t, "ip", "link", "add", "veth0", "master", "cnio0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	n.Run(t, "ip", "link", "set", "cnio0", "up")
	n.set(t, "0")
	path := filepath.Join(n.dir, "nfguard.toml")
	config += fmt.Sprintf("\n[persist]\nenabled = false\n[timing]\naudit = \"1s\"\n[metrics]\ntextfile = %q\n", n.textfile())
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	n.stop = start(t, n.Namespace, []string{"RUNTIME_DIRECTORY=" + filepath.Join(n.dir, "run")}, binary, "run", "--config", path)
	await(t, "the first file", func() error {
		_, err := os.Stat(n.textfile())
		return err
	})
	return n
}

func (n *node) textfile() string { return filepath.Join(n.dir, "nfguard.prom") }

func (n *node) set(t *testing.T, value string) {
	t.Helper()
	n.Run(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables="+value)
}

func await(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// server is a Prometheus.
type server struct{ http.Client }

func (s *server) get(path string, into any) error {
	answer, err := s.Get("http://127.0.0.1:9090" + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var body struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		return err
	}
	if body.Status != "success" {
		return fmt.Errorf("%s: %s", path, body.Error)
	}
	return json.Unmarshal(body.Data, into)
}

// query returns the values of the series that expr returns, by their labels without job
// and without the port of instance.
func (s *server) query(expr string) (map[string]string, error) {
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := s.get("/api/v1/query?query="+url.QueryEscape(expr), &data); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, r := range data.Result {
		delete(r.Metric, "job")
		var labels []string
		for k, v := range r.Metric {
			labels = append(labels, k+"="+v)
		}
		slices.Sort(labels)
		out[strings.Join(labels, " ")] = fmt.Sprint(r.Value[1])
	}
	return out, nil
}

// is waits until expr returns want.
func (s *server) is(t *testing.T, expr string, want map[string]string) {
	t.Helper()
	await(t, expr, func() error {
		got, err := s.query(expr)
		if diff := cmp.Diff(want, got); err == nil && diff != "" {
			err = errors.New("(-want +got):\n" + diff)
		}
		return err
	})
}

func TestScraped(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	exporter := lab.Tool(t, lab.Root, "prometheus-node-exporter")
	prometheus := lab.Tool(t, lab.Root, "prometheus")
	binary := filepath.Join(t.TempDir(), "nfguard")
	build := exec.Command("go", "build", "-o", binary, "github.com/nfguard/nfguard/cmd/nfguard")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nfguard: %v\n%s", err, out)
	}

	guarded := newNode(t, binary, "[contention]\nlimit = 2\n")
	observed := newNode(t, binary, "mode = \"observe\"\n")
	for _, n := range []*node{guarded, observed} {
		port := map[*node]string{guarded: "9101", observed: "9102"}[n]
		start(t, guarded.Namespace, nil, exporter, "--web.listen-address=127.0.0.1:"+port,
			"--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+n.dir)
	}
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join(shipped, "nfguard.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	config := "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [" + rules + "]\n" +
		"scrape_configs:\n- {job_name: node, static_configs: [{targets: ['127.0.0.1:9101', '127.0.0.1:9102']}]}\n"
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, guarded.Namespace, nil, prometheus, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:9090")
	p := &server{}
	p.Transport = &http.Transport{DialContext: func(_ context.Context, network, addr string) (c net.Conn, err error) {
		guarded.Do(func() { c, err = net.Dial(network, addr) })
		return c, err
	}}
	t.Cleanup(p.CloseIdleConnections)

	const a, b = "instance=127.0.0.1:9101", "instance=127.0.0.1:9102"
	p.is(t, "node_textfile_scrape_error", map[string]string{"__name__=node_textfile_scrape_error " + a: "0", "__name__=node_textfile_scrape_error " + b: "0"})
	p.is(t, `sum by (instance, verdict) (nfguard_verdict) == 1`, map[string]string{a + " verdict=right": "1", b + " verdict=wrong": "1"})
	p.is(t, `sum by (instance) (nfguard_bridge_effective{bridge="cnio0",family="ipv4"})`, map[string]string{a: "1", b: "0"})
	p.is(t, `sum by (instance) (nfguard_bridge_pods)`, map[string]string{a: "1", b: "1"})

	// Found at the start, and twice more: the second of those is a fight.
	const key = `subject="net.bridge.bridge-nf-call-iptables"`
	p.is(t, `sum by (instance) (nfguard_corrections_total{`+key+`})`, map[string]string{a: "1", b: "0"})
	for range 2 {
		guarded.set(t, "0")
		time.Sleep(50 * time.Millisecond)
	}
	p.is(t, `sum by (instance) (nfguard_contended{`+key+`})`, map[string]string{a: "1", b: "0"})
	p.is(t, `nfguard_guarded_right{kind="sysctl",`+key+`} == 0`, map[string]string{
		`__name__=nfguard_guarded_right ` + b + ` kind=sysctl subject=net.bridge.bridge-nf-call-iptables`: "0",
	})
	time.Sleep(3 * time.Second) // increase() wants two samples

	t.Run("rules", func(t *testing.T) {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		if err := p.get("/api/v1/rules", &data); err != nil {
			t.Fatal(err)
		}
		if len(data.Groups) != 1 || len(data.Groups[0].Rules) < 8 {
			t.Fatalf("want a group of 8 rules or more, got %+v", data)
		}
		for _, r := range data.Groups[0].Rules {
			if r.Health != "ok" {
				t.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
			}
		}
		p.is(t, `count by (alertname, instance) (ALERTS{alertname=~"NfguardForeignValueStands|NfguardBridgeBypassesNetfilter|NfguardContention"}) > bool 0`,
			map[string]string{
				"alertname=NfguardForeignValueStands " + b:      "1",
				"alertname=NfguardBridgeBypassesNetfilter " + b: "1",
				"alertname=NfguardContention " + a:              "1",
			})
	})

	t.Run("dashboard", func(t *testing.T) {
		for _, panel := range readDashboard(t).Panels {
			for _, target := range panel.Targets {
				expr := strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", "1m").Replace(target.Expr)
				got, err := p.query(expr)
				if err != nil {
					t.Errorf("%s: %v", panel.Title, err)
				}
				if len(got) == 0 && panel.Title != "Sources without news" { // there are none
					t.Errorf("%s shows nothing: %s", panel.Title, expr)
				}
			}
		}
	})

	t.Run("cost", func(t *testing.T) {
		text, err := os.ReadFile(guarded.textfile())
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.query(`count by (instance) ({__name__=~"nfguard_.*"})`)
		if err != nil {
			t.Fatal(err)
		}
		series := len(regexp.MustCompile(`(?m)^nfguard_`).FindAll(text, -1))
		t.Logf("%d bytes of text, %d series, %s in Prometheus", len(text), series, got[a])
		if want := fmt.Sprint(series); got[a] != want {
			t.Errorf("want every series of the file, %s, in Prometheus, got %s", want, got[a])
		}
		if series > 150 || len(text) > 12_000 {
			t.Errorf("a worker with one bridge costs %d series and %d bytes", series, len(text))
		}
	})

	t.Run("stopped", func(t *testing.T) {
		guarded.stop()
		p.is(t, `sum by (instance) (nfguard_up)`, map[string]string{a: "0", b: "1"})
		p.is(t, `count by (instance) (nfguard_guarded_right{kind="module"})`, map[string]string{b: "1"})
		p.is(t, `count by (instance) (ALERTS{alertname="NfguardDaemonGone"})`, map[string]string{a: "1"})
	})
}

func TestRules(t *testing.T) {
	promtool := lab.Tool(t, lab.Root, "promtool")
	cmd := exec.Command(promtool, "test", "rules", "nfguard.rules.test.yml")
	cmd.Dir = shipped
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRulesCanFail: the tests of the rules notice any rule that never fires.
func TestRulesCanFail(t *testing.T) {
	promtool := lab.Tool(t, lab.Root, "promtool")
	rules, err := os.ReadFile(filepath.Join(shipped, "nfguard.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(shipped, "nfguard.rules.test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllSubmatch(rules, -1) {
		without := strings.Replace(string(rules), string(m[0])+"\n", string(m[0])+"Gone\n", 1)
		for name, text := range map[string]string{"nfguard.rules.yml": without, "nfguard.rules.test.yml": string(tests)} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(promtool, "test", "rules", "nfguard.rules.test.yml")
		cmd.Dir = dir
		if err := cmd.Run(); err == nil {
			t.Errorf("no test expects %s to fire", m[1])
		}
	}
}

// TestDashboardCounts: the daemon of one of three nodes was killed, so the node is not
// guarded, whatever its last file says; the third will not be as wanted.
func TestDashboardCounts(t *testing.T) {
	promtool := lab.Tool(t, lab.Root, "promtool")
	var b strings.Builder
	b.WriteString("tests:\n- interval: 1m\n  input_series:\n")
	for name, passes := range map[string]string{"fine": "0+60x90", "killed": "0+60x10 600x80", "boots": "0+60x90"} {
		for series, values := range map[string]string{
			"nfguard_up{%s}": "1x90", "nfguard_last_pass_timestamp_seconds{%s}": passes, "nfguard_audit_interval_seconds{%s}": "60x90",
			`nfguard_verdict{%s,verdict="right"}`: "1x90", "nfguard_next_boot_breaks{%s}": "0x90",
			`nfguard_guarded_right{%s,kind="dropin",subject="F"}`: map[bool]string{true: "0x90", false: "1x90"}[name == "boots"],
		} {
			fmt.Fprintf(&b, "  - {series: '%s', values: '%s'}\n", fmt.Sprintf(series, `job="node",instance="`+name+`"`), values)
		}
	}
	b.WriteString("  promql_expr_test:\n")
	want := map[string]int{"Nodes with nfguard running": 2, "Nodes as wanted": 2, "Nodes with nfguard stopped": 1, "Next boot breaks": 1}
	for _, panel := range readDashboard(t).Panels {
		if n, ok := want[panel.Title]; ok {
			expr := strings.NewReplacer("$job", ".*", "$instance", ".*").Replace(panel.Targets[0].Expr)
			fmt.Fprintf(&b, "  - {expr: '%s', eval_time: 60m, exp_samples: [{labels: '{}', value: %d}]}\n", expr, n)
			delete(want, panel.Title)
		}
	}
	if len(want) > 0 {
		t.Errorf("there is no panel %v", want)
	}
	file := filepath.Join(t.TempDir(), "counts.yml")
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestMetricsLint(t *testing.T) {
	promtool := lab.Tool(t, lab.Root, "promtool")
	for _, name := range []string{"worker.prom", "stopped.prom"} {
		f, err := os.Open(filepath.Join("../../internal/core/metrics/testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd := exec.Command(promtool, "check", "metrics")
		cmd.Stdin = f
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// dashboard is what Grafana needs of a dashboard; it has defaults for the rest.
type dashboard struct {
	Title, UID    string
	SchemaVersion int
	Panels        []struct {
		ID          int
		Type, Title string
		Description string
		Datasource  struct{ Type, UID string }
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct {
			RefID, Expr, Format string
			Datasource          struct{ Type, UID string }
		}
	}
	Templating struct {
		List []struct{ Name, Type string }
	}
	Inputs json.RawMessage `json:"__inputs"`
	ID     *int
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(shipped, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboard checks what an import into Grafana requires.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	if d.Title == "" || d.UID == "" || len(d.UID) > 40 || d.SchemaVersion < 36 || d.ID != nil {
		t.Errorf("want title, uid, a schema from Grafana 9 on, and no id, got %q %q %d %v", d.Title, d.UID, d.SchemaVersion, d.ID)
	}
	variables := []string{"__rate_interval"}
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	used := regexp.MustCompile(`\$\{?(\w+)\}?`)
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: id, title, description or targets", p.ID, p.Title)
		}
		ids[p.ID] = true
		if !slices.Contains([]string{"stat", "table", "timeseries", "heatmap"}, p.Type) {
			t.Errorf("%s: %s is not one of Grafana's own panels", p.Title, p.Type)
		}
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s is outside the grid: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s overlaps %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if refs[q.RefID] || q.RefID == "" || q.Expr == "" || q.Datasource.UID != "${datasource}" || q.Datasource.Type != "prometheus" {
				t.Errorf("%s: target %+v", p.Title, q)
			}
			refs[q.RefID] = true
			for _, m := range used.FindAllStringSubmatch(q.Expr, -1) {
				if !slices.Contains(variables, m[1]) {
					t.Errorf("%s: no variable %s", p.Title, m[0])
				}
			}
		}
	}
	if len(d.Panels) < 10 {
		t.Errorf("want 10 panels or more, got %d", len(d.Panels))
	}
}
