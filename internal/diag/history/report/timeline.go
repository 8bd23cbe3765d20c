package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/diag/history"
)

const (
	// buckets is the width of the picture; on a phone, one bucket is two pixels wide.
	buckets = 200

	// maxLanes limits how many pairs of subject and culprit have a lane; later ones
	// are in the totals only.
	maxLanes = 500

	// How many of them are shown.
	maxSubjects = 12
	maxCulprits = 6
	maxHosts    = 20
)

// verdict is the result of a change, as its colour shows it.
type verdict int

const (
	right verdict = iota // put right, or kept out
	left                 // only observed
	wrong                // not put right
	verdicts
)

func (v verdict) name() string { return [...]string{"right", "left", "wrong"}[v] }

func (v verdict) text() string {
	return [...]string{"put right or kept out", "only observed", "not put right"}[v]
}

// class returns the verdict, and so the colour, of a record.
func class(r *history.Record) verdict {
	switch {
	case r.Failed():
		return wrong
	case (r.Outcome == record.Observed || r.Outcome == record.Paused) && r.Event != record.KindContention && r.Changes() > 0:
		return left
	}
	return right
}

// timeline counts changes in buckets of time. Whenever the records no longer fit, the
// width of a bucket is doubled.
type timeline struct {
	begin time.Time // of the first bucket
	width time.Duration
	first time.Time
	last  time.Time
	lanes map[laneID]*lane
	hosts map[hostID]*watch
}

type (
	laneID struct{ subject, culprit string }
	hostID struct{ name, machine string }
)

// lane is a row of the picture.
type lane struct {
	laneID
	counts      [verdicts][buckets]int
	total       [verdicts]int
	first, last time.Time
}

func (l *lane) changes() int { return l.total[right] + l.total[left] + l.total[wrong] }

// watch is when a host was guarded.
type watch struct {
	hostID
	spans []span
	on    bool
}

type span struct{ from, to time.Time }

// maxSpans limits the spans of a host; beyond it, the last one grows.
const maxSpans = 200

func newTimeline() *timeline {
	return &timeline{width: time.Millisecond, lanes: map[laneID]*lane{}, hosts: map[hostID]*watch{}}
}

func (t *timeline) guarded() bool { return len(t.hosts) > 0 }

// spans are those in which nfguard ran on a host.
func (t *timeline) spans(h *history.Host) []span {
	if w := t.hosts[hostID{h.Name, h.Machine}]; w != nil {
		return w.spans
	}
	return nil
}

func (t *timeline) add(r *history.Record) {
	i := t.place(r.Time)
	t.watch(r)
	n := r.Changes()
	if n == 0 {
		return
	}
	id := laneID{r.Subject, r.NamedCulprit()}
	l := t.lanes[id]
	if l == nil {
		if len(t.lanes) >= maxLanes {
			return
		}
		l = &lane{laneID: id, first: r.Time, last: r.Time}
		t.lanes[id] = l
	}
	l.first = earliest(l.first, r.Time)
	if r.Time.After(l.last) {
		l.last = r.Time
	}
	c := class(r)
	l.counts[c][i] += n
	l.total[c] += n
}

// place returns the bucket of a time, and makes room for it. Records of several hosts
// can be out of order.
func (t *timeline) place(at time.Time) int {
	if t.first.IsZero() {
		t.begin, t.first, t.last = at, at, at
	}
	t.first = earliest(t.first, at)
	if at.After(t.last) {
		t.last = at
	}
	for t.last.Sub(t.first)/(buckets-1) >= t.width {
		t.double()
	}
	if before := t.begin.Sub(t.first); before > 0 {
		t.shift(int((before + t.width - 1) / t.width))
	}
	return int(at.Sub(t.begin) / t.width) // begin is less than a bucket before first
}

// shift moves the beginning n buckets earlier.
func (t *timeline) shift(n int) {
	t.begin = t.begin.Add(-time.Duration(n) * t.width)
	for _, l := range t.lanes {
		for v := range l.counts {
			c := &l.counts[v]
			copy(c[n:], c[:buckets-n])
			clear(c[:n])
		}
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (t *timeline) double() {
	t.width *= 2
	for _, l := range t.lanes {
		for v := range l.counts {
			c := &l.counts[v]
			for i := range buckets / 2 {
				c[i] = c[2*i] + c[2*i+1]
			}
			clear(c[buckets/2:])
		}
	}
}

func (t *timeline) watch(r *history.Record) {
	if r.Once() {
		return
	}
	id := hostID{r.Host, r.Machine}
	w := t.hosts[id]
	if w == nil {
		if len(t.hosts) >= maxLanes {
			return
		}
		w = &watch{hostID: id}
		t.hosts[id] = w
	}
	switch {
	case len(w.spans) == 0, r.Event == record.KindStart && len(w.spans) < maxSpans:
		w.spans = append(w.spans, span{r.Time, r.Time})
		w.on = true
	case w.on || r.Event == record.KindStart:
		w.spans[len(w.spans)-1].to = r.Time
		w.on = true
	}
	if r.Event == record.KindStop {
		w.on = false
	}
}

// told is the time to show for a bucket that is not empty: its beginning, but no time
// before the first change. The last bucket shows the time of the last change.
func (t *timeline) told(l *lane, i int) time.Time {
	at := t.begin.Add(time.Duration(i) * t.width)
	switch {
	case l.last.Sub(at) < t.width:
		return l.last
	case at.Before(l.first):
		return l.first
	}
	return at
}

// end is where the picture ends: at the last record.
func (t *timeline) end() time.Time {
	if !t.last.After(t.begin) {
		return t.begin.Add(time.Second)
	}
	return t.last
}

// x is the position of a time in the picture, from 0 to buckets.
func (t *timeline) x(at time.Time) float64 {
	return buckets * float64(at.Sub(t.begin)) / float64(t.end().Sub(t.begin))
}

// group is the lanes of one subject.
type group struct {
	subject string
	lanes   []*lane // the most frequent first
	changes int
	left    int // lanes that are not shown
}

// groups returns the lanes to show, by subject, the most frequent first.
func (t *timeline) groups() []*group {
	var groups []*group
	by := map[string]*group{}
	for _, l := range t.lanes {
		g := by[l.subject]
		if g == nil {
			g = &group{subject: l.subject}
			by[l.subject] = g
			groups = append(groups, g)
		}
		g.lanes = append(g.lanes, l)
		g.changes += l.changes()
	}
	slices.SortFunc(groups, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.changes, a.changes), cmp.Compare(a.subject, b.subject))
	})
	groups = groups[:min(len(groups), maxSubjects)]
	for _, g := range groups {
		slices.SortFunc(g.lanes, func(a, b *lane) int {
			return cmp.Or(cmp.Compare(b.changes(), a.changes()), cmp.Compare(a.culprit, b.culprit))
		})
		if len(g.lanes) > maxCulprits {
			g.left = len(g.lanes) - maxCulprits
			g.lanes = g.lanes[:maxCulprits]
		}
	}
	return groups
}
