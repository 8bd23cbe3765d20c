package keep

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/words"
)

// proxy follows kube-proxy from one look to the next.
type proxy struct {
	*account
	seen    *guard.KubeProxy // at the last look; nil: there was none yet
	told    []guard.Rules    // as last recorded
	change  *rulesChange     // that is not recorded yet; nil: there is none
	state   guard.ProxyState
	ran     bool // a process of it was seen once
	ruled   bool // rules were seen once
	unready time.Time
	began   time.Time // of the last start
	pace    pace
	odd     []guard.Finding // as recorded
}

// rulesChange is one of kube-proxy's rules. They are written family by family and
// table by table, and a change of the mode takes the old ones away as well: it is
// recorded once they have stayed as they are for a while.
type rulesChange struct {
	first, last time.Time // when it was seen to begin, and to go on
	trigger     Trigger   // of the look that found the rules as they are now
	report      *Report
}

// rulesSettle is that while: a kube-proxy with few Services writes its rules
// within a second.
const rulesSettle = 3 * time.Second

// now is how far kube-proxy has come, as of the last look.
func (p *proxy) now() guard.ProxyState {
	if p.seen == nil {
		return guard.ProxyUnknown
	}
	return p.state
}

// look compares what there is of kube-proxy with the last look, and records what
// has started, ended and changed, and whether the node was ready for it. rep is
// the pass as it ends.
func (p *proxy) look(t Trigger, rep *Report, now *guard.KubeProxy) {
	was := p.seen
	if now != nil {
		k := *now // what could not be looked at now is as it was
		if was != nil && k.ProcessesErr != nil {
			k.Processes = was.Processes
		}
		if was != nil && k.RulesErr != nil {
			k.Rules = was.Rules
		}
		p.seen = &k
	}
	if p.seen == nil {
		return
	}
	old := p.state
	p.judge()
	e := record.Event{
		Kind: record.KindKubeProxy, Outcome: record.Observed, Time: time.Now(), Subject: "kube-proxy",
		Have: string(old), Now: string(p.state), Source: t.Source,
	}
	var before []guard.Process
	if was != nil {
		before = was.Processes
	}
	started, ended := difference(before, p.seen.Processes)
	switch {
	case len(started) > 0: // says which rules there are
		e.Writer = writer(started[len(started)-1])
		verb := "started"
		if was == nil {
			verb = "was there before nfguard started"
		} else {
			p.began = t.Time
		}
		e.Message = fmt.Sprintf("%s %s (%s)", names(started), verb, strings.Join(circumstances(started, p.seen), ", "))
		if len(ended) > 0 {
			e.Message += ", in place of " + names(ended)
		}
		p.readiness(&e, t, rep)
		p.say(e)
	case len(ended) > 0: // so does this, of the last one
		e.Writer = writer(ended[len(ended)-1])
		e.Message = names(ended) + " ended; " + left(p.seen)
		p.say(e)
		if len(p.seen.Processes) > 0 {
			return
		}
	case slices.Equal(p.told, p.seen.Rules):
		p.change = nil // it was undone, if there was one
		e.Writer = p.writer()
		p.readied(e, rep)
		return
	default:
		p.lookRules(t, rep, was)
		return
	}
	p.told, p.change = p.seen.Rules, nil
}

// lookRules notes that the rules are not as recorded. was is the look before.
func (p *proxy) lookRules(t Trigger, rep *Report, was *guard.KubeProxy) {
	now := time.Now()
	switch {
	case p.change == nil:
		p.change = &rulesChange{first: now}
	case slices.Equal(was.Rules, p.seen.Rules):
		return // and have not changed since
	}
	p.change.last, p.change.trigger, p.change.report = now, t, rep
}

// recordRules records the change of the rules that is over.
func (p *proxy) recordRules() {
	c := p.change
	before := guard.KubeProxy{Rules: p.told}
	p.told, p.change = p.seen.Rules, nil
	e := record.Event{
		Kind: record.KindKubeProxy, Outcome: record.Observed, Time: c.last, Subject: "kube-proxy", Writer: p.writer(),
		Now: string(p.state), Source: c.trigger.Source,
	}
	switch {
	case len(p.seen.Rules) == 0:
		e.Message = "kube-proxy's rules are gone: " + before.DescribeRules()
		p.say(e)
		return
	case len(before.Rules) > 0:
		e.Message = "kube-proxy's rules have changed: " + p.seen.DescribeRules()
	default:
		e.Message = "kube-proxy's rules are there: " + p.seen.DescribeRules()
		if len(p.seen.Processes) > 0 && !p.began.IsZero() {
			e.Message += ", " + words.Short(c.first.Sub(p.began)) + " after its start"
		}
	}
	p.readiness(&e, c.trigger, c.report)
	p.say(e)
}

// writer is the kube-proxy that runs, if one does.
func (p *proxy) writer() record.Process {
	if n := len(p.seen.Processes); n > 0 {
		return writer(p.seen.Processes[n-1])
	}
	return record.Process{}
}

// judge sets the state, with what was seen before in mind.
func (p *proxy) judge() {
	k := p.seen
	p.state = k.State()
	switch {
	case p.ran && len(k.Processes) == 0 && (p.state == guard.ProxyProgrammed || p.state == guard.ProxyAbsent):
		p.state = guard.ProxyGone
	case p.ruled && p.state == guard.ProxyAbsent:
		p.state = guard.ProxyGone
	}
	p.ran = p.ran || len(k.Processes) > 0
	p.ruled = p.ruled || len(k.Rules) > 0
}

// readiness adds to e whether the node was ready for kube-proxy, and if it
// was not, why, and for how long.
func (p *proxy) readiness(e *record.Event, t Trigger, rep *Report) {
	var was, is []string
	for _, c := range rep.Changes {
		switch {
		case c.Error != "":
		case c.Op == guard.LoadModule.String():
			was = append(was, c.Subject+" was not loaded")
		case c.Op == guard.SetSysctl.String() || c.Op == guard.SetFlags.String():
			if s := c.Subject + " was " + quoted(c.From); !slices.Contains(was, s) {
				was = append(was, s)
			}
		}
	}
	for _, it := range rep.Items {
		if it.Kind != record.KindDropin && it.Verdict != guard.Right && it.Verdict != guard.Excused {
			is = append(is, it.Subject+" is "+orUnknown(it.Have))
		}
	}
	from := t.Time
	if from.IsZero() {
		from = e.Time
	}
	switch {
	case len(is) > 0:
		e.Outcome = record.Failed
		if p.mode == guard.Observe {
			e.Outcome = record.Observed
		}
		e.Message += "; the node is not ready: " + strings.Join(is, ", ")
		if p.unready.IsZero() {
			p.unready = from
		}
	case len(was) > 0:
		e.Outcome, e.Duration = record.Corrected, max(e.Time.Sub(from), 0)
		e.Message += "; the node was not ready: " + strings.Join(was, ", ")
		if e.Duration > 0 {
			e.Message += "; it was made so within " + words.Short(e.Duration)
		}
		p.unready = time.Time{}
	default:
		tells := "; the node was ready: "
		if !p.unready.IsZero() {
			e.Duration = e.Time.Sub(p.unready)
			tells = "; the node is ready now, after " + words.Short(e.Duration) + " in which it was not: "
		}
		e.Message += tells + Readiness(rep.Items) + ", " + bridgeNames(rep)
		p.unready = time.Time{}
	}
}

// readied records that the node has become ready under a running kube-proxy.
func (p *proxy) readied(e record.Event, rep *Report) {
	if p.unready.IsZero() {
		return
	}
	if len(p.seen.Processes) == 0 && len(p.seen.Rules) == 0 {
		p.unready = time.Time{}
		return
	}
	for _, it := range rep.Items {
		if it.Kind != record.KindDropin && it.Verdict != guard.Right && it.Verdict != guard.Excused {
			return
		}
	}
	e.Duration = e.Time.Sub(p.unready)
	e.Message = fmt.Sprintf("the node is ready for kube-proxy now, after %s in which it was not: %s", words.Short(e.Duration), Readiness(rep.Items))
	p.unready = time.Time{}
	p.record(e)
}

// say records e, or counts it where a kube-proxy comes and goes all the time.
func (p *proxy) say(e record.Event) { p.recordPaced(&p.pace, e, "starts and ends") }

// tick records a change of the rules that is over, and what became of a
// kube-proxy that started and ended too often to have each time recorded.
func (p *proxy) tick(now time.Time) (again time.Time) {
	if c := p.change; c != nil {
		if again = c.last.Add(rulesSettle); !now.Before(again) {
			again = time.Time{}
			p.recordRules()
		}
	}
	e := record.Event{Kind: record.KindKubeProxy, Subject: "kube-proxy", Now: string(p.state)}
	return earlier(again, p.tickPaced(&p.pace, now, e, func(n int) string {
		return fmt.Sprintf("kube-proxy started or ended %d more times since the last record; now: %s", n, p.seen.Describe())
	}))
}

// leave records a change of the rules that may not be over.
func (p *proxy) leave() {
	if p.change != nil {
		p.recordRules()
	}
}

// difference tells which processes are only in one of two lists.
func difference(before, after []guard.Process) (started, ended []guard.Process) {
	missing := func(p guard.Process, list []guard.Process) bool {
		return !slices.ContainsFunc(list, func(q guard.Process) bool { return q.PID == p.PID && q.Started == p.Started })
	}
	for _, p := range after {
		if missing(p, before) {
			started = append(started, p)
		}
	}
	for _, p := range before {
		if missing(p, after) {
			ended = append(ended, p)
		}
	}
	return started, ended
}

func names(processes []guard.Process) string {
	var out []string
	for _, p := range processes {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}

// circumstances are where the processes run, and the rules that are there.
func circumstances(processes []guard.Process, k *guard.KubeProxy) []string {
	var out []string
	for _, p := range processes {
		if h := p.Home(); h != "" && !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return append(out, k.DescribeRules())
}

// left says what an ended kube-proxy leaves.
func left(k *guard.KubeProxy) string {
	switch {
	case len(k.Processes) > 0:
		return names(k.Processes) + " still runs"
	case len(k.Rules) > 0:
		return "its rules stay and are no longer kept up to date: " + k.DescribeRules()
	}
	return k.DescribeRules()
}

func writer(p guard.Process) record.Process {
	return record.Process{PID: p.PID, Comm: p.Comm, Exe: p.Exe, Unit: p.Unit, Cgroup: p.Cgroup, Container: p.Container, Pod: p.Pod}
}

// maxNames bounds a list in a sentence.
const maxNames = 10

func bridgeNames(rep *Report) string {
	if rep.Bridging != nil {
		return "bridges unknown"
	}
	return listBridges(rep.Bridges)
}

func listBridges(bridges []guard.Bridge) string {
	var out []string
	for _, b := range bridges[:min(len(bridges), maxNames)] {
		out = append(out, b.Name)
	}
	switch {
	case len(out) == 0:
		return "no bridge yet"
	case len(out) == 1:
		return "1 bridge (" + out[0] + ")"
	case len(bridges) > len(out):
		out = append(out, "…")
	}
	return fmt.Sprintf("%d bridges (%s)", len(bridges), strings.Join(out, ", "))
}
