package claims

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nfguard/nfguard/test/claims/said"
)

// nobody is who the tests run as where the ledger is root: what needs root is no
// evidence here, so that the ledger is the same for everybody and touches nothing.
const nobody = 65534

// slow is how long a case may take that is evidence.
const slow = 2 * time.Second

// runner runs cases of one package's test binary.
type runner struct {
	p      *pkg
	binary string
	tmp    string
	seen   sync.Map // by the name of a case, a function that says what it passes
}

// result is what came of a run.
type result struct {
	passed, failed []string // cases
	panicked       bool
	out            string
}

var ended = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (.+) \(\d+\.\d+s\)$`)

func (r *runner) run(cases []string, env ...string) result {
	var alternatives []string
	for _, c := range cases {
		var parts []string
		for _, e := range strings.Split(c, "/") {
			parts = append(parts, "^"+regexp.QuoteMeta(e)+"$")
		}
		alternatives = append(alternatives, strings.Join(parts, "/"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	args := []string{"-test.v", "-test.timeout=5m", "-test.paniconexit0"}
	if len(cases) > 0 {
		args = append(args, "-test.run", strings.Join(alternatives, "|"))
	}
	cmd := exec.CommandContext(ctx, r.binary, args...)
	cmd.Dir = r.p.dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "NFGUARD_TEST_REQUIRE=") && !strings.HasPrefix(v, "TMPDIR=") && !strings.HasPrefix(v, "HOME=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, "TMPDIR="+r.tmp, "HOME="+r.tmp), env...)
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, _ := cmd.CombinedOutput() // what failed stands in the output
	res := result{out: string(out), panicked: bytes.Contains(out, []byte("\npanic: ")) || bytes.Contains(out, []byte("[signal ")) || bytes.Contains(out, []byte("panic: "))}
	for _, m := range ended.FindAllStringSubmatch(string(out), -1) {
		switch m[1] {
		case "PASS":
			res.passed = append(res.passed, m[2])
		case "FAIL":
			res.failed = append(res.failed, m[2])
		}
	}
	res.passed, res.failed = leaves(res.passed), leaves(res.failed)
	return res
}

// leaves are the cases that have no cases below them.
func leaves(names []string) []string {
	above := make(map[string]bool)
	for _, n := range names {
		for i := range n {
			if n[i] == '/' {
				above[n[:i]] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return above[n] })
}

// seen is a case, and what it passes.
type seen struct {
	name        string
	says, meets map[int]bool
	took        time.Duration
}

// survey runs each case by itself and says what it passes.
func (r *runner) survey() ([]*seen, error) {
	all := r.run(nil)
	if all.panicked {
		return nil, fmt.Errorf("%s:\n%s", r.p.name, all.out)
	}
	slices.Sort(all.passed) // tables that are maps come in any order
	list := make([]*seen, len(all.passed))
	each(len(list), func(i int) { list[i] = r.look(all.passed[i]) })
	return slices.DeleteFunc(list, func(s *seen) bool { return s == nil || s.took >= slow }), nil
}

// look runs a case and says what it passes; nil where it fails.
func (r *runner) look(name string) *seen {
	s := &seen{name: name, says: make(map[int]bool), meets: make(map[int]bool)}
	f, err := os.CreateTemp(r.tmp, "record")
	if err != nil {
		return nil
	}
	f.Close()
	defer os.Remove(f.Name())
	if err := os.Chmod(f.Name(), 0o666); err != nil {
		return nil
	}
	begin := time.Now()
	res := r.run([]string{name}, said.Record+"="+f.Name())
	s.took = time.Since(begin)
	text, err := os.ReadFile(f.Name())
	if err != nil || !slices.Equal(res.passed, []string{name}) {
		return nil
	}
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for scanner.Scan() {
		kind, n, _ := strings.Cut(scanner.Text(), " ")
		if kind == "s" {
			s.says[number(n)] = true
		} else {
			s.meets[number(n)] = true
		}
	}
	return s
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// each calls f for 0 to n-1, two at a time.
func each(n int, f func(int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 2 {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// Evidence are the cases that hold a claim.
type Evidence struct {
	True    string // fails when the sentence is garbled
	False   string // fails when the sentence is printed there
	Instead bool   // False was told by the sentence in the place of others, and not by its condition
}

// garble is the environment in which a claim is printed wrong.
func (c *Claim) garble() []string { return []string{fmt.Sprintf("%s=%d", said.Garble, c.number)} }

// forceIt is the one in which its condition is taken away.
func (c *Claim) forceIt() []string {
	values := make(map[int]int)
	for _, s := range c.force {
		if _, ok := values[s.site]; !ok {
			values[s.site] = s.value
		}
	}
	var parts []string
	for _, site := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, fmt.Sprintf("%d=%d", site, values[site]))
	}
	return []string{said.Force + "=" + strings.Join(parts, ",")}
}

// insteadOf is the one in which it stands in the place of the others of its function,
// and of those that become the same field or parameter elsewhere.
func (c *Claim) insteadOf() []string {
	var parts []string
	for _, o := range slices.Concat(c.others, c.alike) {
		parts = append(parts, strconv.Itoa(o))
	}
	return []string{said.Instead + "=" + strings.Join(parts, ","), said.Words + "=" + c.Text}
}

// seek finds what is missing of the evidence for a claim among cases.
func (r *runner) seek(c *Claim, cases []*seen, e Evidence) Evidence {
	var saying, meeting, replacing []string
	byTime := slices.Clone(cases)
	slices.SortStableFunc(byTime, func(a, b *seen) int { return int(a.took/(100*time.Millisecond)) - int(b.took/(100*time.Millisecond)) })
	for _, s := range byTime {
		if s.says[c.number] {
			saying = append(saying, s.name)
			if !c.table {
				continue
			}
		}
		if slices.ContainsFunc(c.force, func(x set) bool { return s.meets[x.site] }) {
			meeting = append(meeting, s.name)
		}
		if slices.ContainsFunc(slices.Concat(c.others, c.alike), func(o int) bool { return s.says[o] }) {
			replacing = append(replacing, s.name)
		}
	}
	if e.True == "" {
		e.True = r.first(saying, nil, c.garble()...)
	}
	if e.False != "" {
		return e
	}
	test, _, _ := strings.Cut(e.True, "/")
	near := func(list []string) []string { // a case of the same test first
		slices.SortStableFunc(list, func(a, b string) int {
			switch x, y := strings.HasPrefix(a, test+"/"), strings.HasPrefix(b, test+"/"); {
			case x == y:
				return 0
			case x:
				return -1
			}
			return 1
		})
		return list
	}
	e.False = r.first(near(meeting), c, c.forceIt()...)
	if e.False == "" {
		e.False = r.first(near(replacing), c, c.insteadOf()...)
		e.Instead = e.False != ""
	}
	return e
}

// first is the first of cases that fails, by what it compares and not by a panic,
// and that is without the sentence unless that is nil; "" where there is none.
func (r *runner) first(cases []string, unsaid *Claim, env ...string) string {
	for size := 4; len(cases) > 0; size *= 4 {
		some := cases[:min(size, len(cases))]
		cases = cases[len(some):]
		res := r.run(some, env...)
		for _, c := range some {
			fails := !res.panicked && slices.Contains(res.failed, c) || res.panicked && r.holds(c, env...)
			if fails && (unsaid == nil || r.without(c, unsaid)) {
				return c
			}
		}
	}
	return ""
}

// without reports whether a case does not print a sentence: it does not pass it, or,
// where it is passed whatever is printed, does not mind when it is garbled.
func (r *runner) without(name string, c *Claim) bool {
	if c.table {
		return slices.Equal(r.run([]string{name}, c.garble()...).passed, []string{name})
	}
	s, _ := r.seen.LoadOrStore(name, sync.OnceValue(func() *seen { return r.look(name) }))
	saw := s.(func() *seen)()
	return saw != nil && !saw.says[c.number]
}

// holds reports whether a case fails in that environment as first has it.
func (r *runner) holds(name string, env ...string) bool {
	res := r.run([]string{name}, env...)
	return !res.panicked && slices.Equal(res.failed, []string{name})
}
