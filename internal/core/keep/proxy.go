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
	e := p.event(t.Source, time.Now())
	e.Have = string(old)
	started, ended := p.seen.Processes, []guard.Process(nil)
	if was != nil {
		started = without(p.seen.Processes, was.Processes, one)
		ended = without(was.Processes, p.seen.Processes, one)
	}
	switch {
	case len(started) > 0: // says which rules there are
		if was != nil {
			p.began = t.Time
		}
		e.Writer = writer(started)
		e.Message = startedMessage(started, ended, p.seen, was == nil)
		p.recordReadiness(e, t, rep)
	case len(ended) > 0: // so does this, of the last one
		e.Writer = writer(ended)
		e.Message = names(ended, guard.Process.String) + " ended; " + left(p.seen)
		p.say(e)
		if len(p.seen.Processes) > 0 {
			return
		}
	case slices.Equal(p.told, p.seen.Rules):
		p.change = nil // it was undone, if there was one
		p.recordReady(e, rep)
		return
	default:
		p.lookRules(t, rep, was)
		return
	}
	p.told, p.change = p.seen.Rules, nil
}

// one says which process it is, whatever numbers are used again.
func one(p guard.Process) [2]int64 { return [2]int64{int64(p.PID), int64(p.Started)} }

// event is one of kube-proxy as it is now.
func (p *proxy) event(cause record.Cause, at time.Time) record.Event {
	return record.Event{
		Kind: record.KindKubeProxy, Outcome: record.Observed, Time: at, Subject: "kube-proxy", Writer: writer(p.seen.Processes),
		Now: string(p.state), Source: cause,
	}
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
	e := p.event(c.trigger.Source, c.last)
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
	p.recordReadiness(e, c.trigger, c.report)
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

// recordReadiness records e with whether the node was ready for kube-proxy, and if
// it was not, why, and for how long.
func (p *proxy) recordReadiness(e record.Event, t Trigger, rep *Report) {
	from := t.Time
	if from.IsZero() {
		from = e.Time
	}
	was, is := rep.wrong()
	switch {
	case len(is) > 0:
		if p.mode != guard.Observe {
			e.Outcome = record.Failed
		}
		e.Message += "; the node is not ready: " + strings.Join(is, ", ")
		if p.unready.IsZero() {
			p.unready = from
		}
		rep.hairpins(&e)
		p.say(e)
		return
	case len(was) > 0:
		e.Outcome, e.Duration = record.Corrected, max(e.Time.Sub(from), 0)
		e.Message += "; the node was not ready: " + strings.Join(was, ", ")
		if e.Duration > 0 {
			e.Message += "; it was made so within " + words.Short(e.Duration)
		}
	case !p.unready.IsZero():
		e.Duration = e.Time.Sub(p.unready)
		e.Message += "; the node is ready now, after " + words.Short(e.Duration) + " in which it was not: " + rep.ready()
	default:
		e.Message += "; the node was ready: " + rep.ready()
	}
	p.unready = time.Time{}
	rep.hairpins(&e)
	p.say(e)
}

// hairpins adds to e which pods do not reach their own Service.
func (r *Report) hairpins(e *record.Event) {
	for _, f := range r.Hairpin {
		e.Message += "; " + f.Sentence
		if e.Next == "" {
			e.Next = f.Next
		}
	}
}

// recordReady records that the node has become ready under a running kube-proxy.
func (p *proxy) recordReady(e record.Event, rep *Report) {
	_, is := rep.wrong()
	switch {
	case p.unready.IsZero():
		return
	case len(p.seen.Processes) > 0 || len(p.seen.Rules) > 0:
		if len(is) > 0 {
			return
		}
		e.Duration = e.Time.Sub(p.unready)
		e.Message = fmt.Sprintf("the node is ready for kube-proxy now, after %s in which it was not: %s", words.Short(e.Duration), Readiness(rep.Items))
		p.record(e)
	}
	p.unready = time.Time{}
}

// wrong says what of the node kube-proxy depends on was not as wanted when the
// pass began, and was put right, and what is not as wanted now.
func (r *Report) wrong() (was, is []string) {
	for _, c := range r.Changes {
		s := c.Subject + " was " + quoted(c.From)
		switch c.Op {
		case guard.LoadModule.String():
			s = c.Subject + " was not loaded"
		case guard.SetSysctl.String(), guard.SetFlags.String():
		default:
			continue
		}
		if c.Error == "" && !slices.Contains(was, s) {
			was = append(was, s)
		}
	}
	for i := range r.Items {
		if it := &r.Items[i]; it.Kind != record.KindDropin && !it.Verdict.Settled() {
			is = append(is, it.Subject+" is "+orUnknown(it.Have))
		}
	}
	return was, append(is, r.Unready...)
}

// ready says how the node stands, and which bridges there are.
func (r *Report) ready() string {
	if r.Bridging != nil {
		return Readiness(r.Items) + ", bridges unknown"
	}
	return Readiness(r.Items) + ", " + listBridges(r.Bridges)
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

// startedMessage says what has started, in place of what, where that runs, and
// which rules are there. before: it was there before nfguard.
func startedMessage(started, ended []guard.Process, k *guard.KubeProxy, before bool) string {
	verb := "started"
	if before {
		verb = "was there before nfguard started"
	}
	var where []string
	for _, p := range started {
		if h := p.Home(); h != "" && !slices.Contains(where, h) {
			where = append(where, h)
		}
	}
	s := fmt.Sprintf("%s %s (%s)", names(started, guard.Process.String), verb, strings.Join(append(where, k.DescribeRules()), ", "))
	if len(ended) > 0 {
		s += ", in place of " + names(ended, guard.Process.String)
	}
	return s
}

// left says what an ended kube-proxy leaves.
func left(k *guard.KubeProxy) string {
	switch {
	case len(k.Processes) > 0:
		return names(k.Processes, guard.Process.String) + " still runs"
	case len(k.Rules) > 0:
		return "its rules stay and are no longer kept up to date: " + k.DescribeRules()
	}
	return k.DescribeRules()
}

// writer is the last of the processes, as the record has it; nobody where there
// is none.
func writer(processes []guard.Process) (w record.Process) {
	for _, p := range processes {
		w = record.Process{PID: p.PID, Comm: p.Comm, Exe: p.Exe, Unit: p.Unit, Cgroup: p.Cgroup, Container: p.Container, Pod: p.Pod}
	}
	return w
}

func names[T any](list []T, name func(T) string) string {
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = name(t)
	}
	return strings.Join(out, ", ")
}

// maxNames bounds a list in a sentence.
const maxNames = 10

func listBridges(bridges []guard.Bridge) string {
	if len(bridges) == 0 {
		return "no bridge yet"
	}
	return words.Count(len(bridges), "bridge") + " (" + someNames(bridges) + ")"
}

func someNames(bridges []guard.Bridge) string {
	list := names(bridges[:min(len(bridges), maxNames)], func(b guard.Bridge) string { return b.Name })
	if len(bridges) > maxNames {
		list += ", …"
	}
	return list
}
