package cluster

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/cluster/programs"
	"github.com/nfguard/nfguard/test/lab"
	"github.com/nfguard/nfguard/test/markdown"
)

var focus = flag.String("focus", "", "run only those of Kubernetes' tests whose names match")

// The tests of Kubernetes that TestConformance runs: what the conformance suite has on
// Services and DNS, the checks of all ways to a Service, and two that are about what
// bridged packets change. Left out is what needs a cloud, a feature that is off, or the
// cluster for itself.
const (
	chosen = `\[sig-network\] (` +
		`(Services|DNS|Networking) .*\[Conformance\]` +
		`|Networking Granular Checks: Services ` +
		`|Services should allow pods to hairpin` +
		`|Services should preserve source pod IP` +
		`|Services should respect internalTrafficPolicy=Local Pod to Pod)`
	leftOut = `\[(Serial|Slow|Disruptive)\]|\[(Feature|FeatureGate|Provider):`
)

// atOnce is how many of them run at the same time; they mostly wait.
const atOnce = 8

// A suite runs Kubernetes' own end-to-end tests on a cluster.
type suite struct {
	c          *Cluster
	dir        string // of the programs
	kubeconfig string
}

// TestConformance runs Kubernetes' own tests of Services and DNS: with the keys at 0, with
// nfguard, and with nfguard that keeps hairpin mode on. With -doc it writes down the
// results.
func TestConformance(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns, lab.Cluster, lab.Conformance)
	began := time.Now()
	s := &suite{c: Start(t)}
	s.dir, _ = programs.Conformance.Dir()
	s.kubeconfig = filepath.Join(s.c.Control.dir, "kubeconfig")
	buildGuard(t)
	archive := s.image(t)
	for _, w := range s.c.Workers {
		w.StartJournal(t)
		w.Run("ctr", "-a", socket, "-n", "k8s.io", "images", "import", archive)
	}
	s.c.StartDNS(t)
	for _, w := range s.c.Workers {
		w.StartProxy(t, "iptables")
	}
	tests := s.list(t)

	columns := []struct{ name, config string }{
		{"keys at 0", ""},
		{"nfguard", "\n"},
		{"nfguard, `hairpin = \"keep\"`", "[bridges]\nhairpin = \"keep\"\n"},
	}
	results := make([]map[string]result, len(columns))
	var figures []string
	for i, column := range columns {
		var guards []*Process
		for _, w := range s.c.Workers {
			w.reset()
			if column.config != "" {
				guards = append(guards, w.Guard(t, column.config))
			}
		}
		start := time.Now()
		results[i] = s.run(t, tests)
		passed := 0
		for _, r := range results[i] {
			if r.why == "" {
				passed++
			}
		}
		figures = append(figures, fmt.Sprintf("%s: %d of %d pass, in %v.", column.name, passed, len(tests), time.Since(start).Round(time.Second)))
		t.Log(figures[i])
		for _, guard := range guards {
			guard.Stop()
		}
	}
	for _, test := range tests {
		if masqueraded(test) {
			continue
		}
		if why := results[2][test].why; why != "" {
			t.Errorf("with nfguard and hairpin mode: %s: %s", test, why)
		}
		if why := results[1][test].why; why != "" && !needsHairpin(test) {
			t.Errorf("with nfguard: %s: %s", test, why)
		}
		if results[0][test].why == "" && strings.Contains(test, "should function for pod-Service") {
			t.Errorf("with the keys at 0 it passes: %s", test)
		}
	}

	if *doc == "" || *focus != "" || t.Failed() {
		return
	}
	var b strings.Builder
	b.WriteString("\n| test | keys at 0 | nfguard | nfguard, `hairpin = \"keep\"` |\n|---|---|---|---|\n")
	for _, test := range tests {
		b.WriteString("| " + strings.ReplaceAll(strings.TrimPrefix(test, "[sig-network] "), "|", `\|`))
		for i := range columns {
			b.WriteString(" | " + results[i][test].String())
		}
		b.WriteString(" |\n")
	}
	b.WriteString("\n")
	for _, f := range figures {
		b.WriteString("* " + f + "\n")
	}
	fmt.Fprintf(&b, "* All of it took %v, the set-up of the cluster among it.\n", time.Since(began).Round(time.Second))
	if err := markdown.Insert(*doc, "conformance", b.String()); err != nil {
		t.Fatal(err)
	}
}

// needsHairpin: in these tests a pod reaches itself through a Service.
func needsHairpin(test string) bool {
	return strings.Contains(test, "hairpin back to themselves") || strings.Contains(test, "endpoint-Service")
}

// masqueraded: this test fails in all columns. The CNI plugin is configured with ipMasq,
// as in the classic guides, and hides the address of a pod from pods of other workers.
func masqueraded(test string) bool { return strings.Contains(test, "should preserve source pod IP") }

// image is the image of the tests' pods. It has agnhost, which is Kubernetes' own, and
// what the tests run beside it, from Debian: dash, busybox, curl, dig, nslookup, nc and
// getent. It goes by the names of all images that the tests ask for.
func (s *suite) image(t *testing.T) string {
	t.Helper()
	files := map[string]string{
		"agnhost": filepath.Join(s.dir, "agnhost"), "bin/busybox": lab.Tool(t, lab.Conformance, "busybox"),
		"etc/nsswitch.conf": s.c.Control.file("nsswitch.conf", "hosts: files dns\n"),
		"etc/passwd":        s.c.Control.file("passwd", "root:x:0:0:root:/:/bin/sh\n"),
		"etc/group":         s.c.Control.file("group", "root:x:0:\n"),
	}
	applets, err := exec.Command("busybox", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			files["bin/"+name] = "busybox"
		}
	}
	library := regexp.MustCompile(`(?m)(/\S+) \(0x`)
	// The shell is not busybox, which would prefer its own nc.
	for name, program := range map[string]string{"sh": "dash", "curl": "curl", "dig": "dig", "nslookup": "nslookup", "nc": "nc.openbsd", "getent": "getent"} {
		path := lab.Tool(t, lab.Conformance, program)
		out, err := exec.Command("ldd", path).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", path, err)
		}
		for _, lib := range library.FindAllStringSubmatch(string(out), -1) {
			files[strings.TrimPrefix(lib[1], "/")] = lib[1]
		}
		files["bin/"+name] = path
	}
	list, err := exec.Command(filepath.Join(s.dir, "e2e.test"), "--list-images").Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range strings.Fields(string(list)) {
		switch base, _, _ := strings.Cut(filepath.Base(name), ":"); base {
		case "agnhost", "glibc-dns-testing", "pause":
			names = append(names, name)
		}
	}
	return archive(t, dir, "agnhost", names, []string{"/agnhost"}, []string{"pause"}, files)
}

// A report is what Ginkgo writes about a test.
type report struct {
	ContainerHierarchyTexts []string
	LeafNodeType            string
	LeafNodeText            string
	State                   string
	Failure                 struct{ Message string }
}

// name is the whole name of the test.
func (r report) name() string {
	return strings.Join(append(slices.DeleteFunc(r.ContainerHierarchyTexts, func(s string) bool { return s == "" }), r.LeafNodeText), " ")
}

// e2e runs the test program, and returns what it reports about the tests that it has not
// skipped. log is the name of the file for its output.
func (s *suite) e2e(log string, args ...string) ([]report, error) {
	n := s.c.Control
	path := filepath.Join(n.dir, "log", log)
	args = append([]string{
		filepath.Join(s.dir, "e2e.test"), "--kubeconfig", s.kubeconfig, "--provider", "skeleton", "--num-nodes", "2", "--kubectl-path", filepath.Join(s.dir, "kubectl"),
		"--dump-logs-on-failure=false", "--ginkgo.no-color", "--ginkgo.silence-skips", "--ginkgo.json-report", path + ".json",
	}, args...)
	cmd := n.Command("e2e.service", args[0], args[1:]...)
	out, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := startTied(cmd); err != nil {
		return nil, err
	}
	ended := cmd.Wait() // it exits 1 if a test fails, which the report tells, too
	text, err := os.ReadFile(path + ".json")
	if err != nil {
		return nil, fmt.Errorf("%w: %w\n%s", ended, err, tail(path, 20))
	}
	var suites []struct{ SpecReports []report }
	if err := json.Unmarshal(text, &suites); err != nil || len(suites) != 1 {
		return nil, fmt.Errorf("%d reports: %w", len(suites), err)
	}
	return slices.DeleteFunc(suites[0].SpecReports, func(r report) bool { return r.State == "skipped" }), nil
}

// list returns the names of the chosen tests.
func (s *suite) list(t *testing.T) (names []string) {
	t.Helper()
	reports, err := s.e2e("list", "--ginkgo.dry-run", "--ginkgo.focus", chosen, "--ginkgo.skip", leftOut)
	if err != nil {
		t.Fatal(err)
	}
	only, err := regexp.Compile(*focus)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		if r.LeafNodeType == "It" && only.MatchString(r.name()) {
			names = append(names, r.name())
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		t.Fatal("no test is chosen")
	}
	return names
}

// A result is that of a test.
type result struct {
	why  string // it has failed; "" if it has passed
	took time.Duration
}

func (r result) String() string {
	if r.why != "" {
		return fmt.Sprintf("**fails**, %v", r.took)
	}
	return fmt.Sprintf("passes, %v", r.took)
}

// run runs those tests, each in a process of its own.
func (s *suite) run(t *testing.T, tests []string) map[string]result {
	t.Helper()
	results := map[string]result{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, test := range tests {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			began := time.Now()
			why := s.one(fmt.Sprint("e2e-", i), test)
			r := result{why, time.Since(began).Round(time.Second)}
			mu.Lock()
			defer mu.Unlock()
			results[test] = r
			t.Logf("%v: %s %s", r, test, why)
		})
	}
	wg.Wait()
	return results
}

// one runs a test, and returns why it has failed, or "".
func (s *suite) one(log, test string) string {
	reports, err := s.e2e(log, "--ginkgo.focus", regexp.QuoteMeta(test)+"$", "--ginkgo.timeout", "15m")
	if err != nil {
		return err.Error()
	}
	ran := false
	for _, r := range reports {
		if r.State != "passed" {
			return r.State + ": " + strings.Join(strings.Fields(r.Failure.Message), " ")
		}
		ran = ran || r.LeafNodeType == "It" && r.name() == test
	}
	if !ran {
		return "it did not run"
	}
	return ""
}
