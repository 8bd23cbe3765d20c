package history

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
)

// Totals sum up a history. Their size does not grow with it.
type Totals struct {
	From, To time.Time // of the first and the last record; zero if there are none
	Records  int
	Sum             // over all
	Keys     []Sum  // by what was changed
	Culprits []Sum  // by who changed it
	Pods     []Sum  // by the pod of whoever changed it, if its name is known
	Days     []Sum  // "2006-01-02", in order; days without a change are left out
	Hosts    []Host // in order of their names

	// LeftAlone is how many changes mode enforce would have put right; Left is who
	// made them, the most frequent first.
	LeftAlone int
	Left      []string
}

// Sum counts changes of guarded things.
type Sum struct {
	Name      string
	Changes   int           // all changes, including those without a record of their own
	Corrected int           // put right, even if that was undone at once
	Kept      int           // kept out by the lock
	Failed    int           // not put right
	Observed  int           // left as they are, in mode observe or in a pause
	Unreplied int           // connections through Services that had no reply because of them
	Fights    int           // series that were recorded as one event
	Longest   time.Duration // of the changes whose duration is known; negative: none is
	Last      time.Time
}

// Host is what the records say about one host.
type Host struct {
	Name     string
	Machine  string
	Records  int
	Changes  int
	Boots    int
	From, To time.Time
	Start    string // the message of its last start; "" if that was not read
	On       bool   // the host was guarded at its last record
}

// maxNamed limits each list of totals: a process can take any name, and a new one
// each time.
const maxNamed = 1000

// Names for what has no name.
const (
	Others    = "(others)"         // what a list had no room for
	Unseen    = "(nobody seen)"    // the writer is not known
	AtStart   = "(found at start)" // it was wrong before nfguard started
	Asked     = "(configuration)"  // the configuration changed
	NewBridge = "(new bridge)"     // a bridge is created without its flags
)

// Tally computes [Totals].
type Tally struct {
	zone     *time.Location
	all      Sum
	from, to time.Time
	records  int
	keys     map[string]*Sum
	culprits map[string]*Sum
	pods     map[string]*Sum
	days     map[string]*Sum
	hosts    map[hostID]*Host
	boots    map[[2]string]bool
	left     map[string]int
}

type hostID struct{ machine, name string }

// NewTally returns an empty tally, whose days are those of zone.
func NewTally(zone *time.Location) *Tally {
	return &Tally{
		zone: zone, all: Sum{Longest: -1},
		keys: map[string]*Sum{}, culprits: map[string]*Sum{}, pods: map[string]*Sum{}, days: map[string]*Sum{},
		hosts: map[hostID]*Host{}, boots: map[[2]string]bool{}, left: map[string]int{},
	}
}

// Add counts r.
func (t *Tally) Add(r *Record) {
	t.records++
	if t.from.IsZero() || r.Time.Before(t.from) {
		t.from = r.Time
	}
	if r.Time.After(t.to) {
		t.to = r.Time
	}
	t.host(r)
	if r.Changes() == 0 && r.Event != record.KindContention {
		return
	}
	culprit := r.NamedCulprit()
	for _, s := range []*Sum{
		&t.all, named(t.keys, r.Subject), named(t.culprits, culprit), named(t.days, r.Time.In(t.zone).Format(time.DateOnly)),
	} {
		s.add(r)
	}
	if pod := r.PodOf(); pod != "" {
		named(t.pods, pod).add(r)
	}
	if r.LeftAlone() {
		if _, ok := t.left[culprit]; !ok && len(t.left) >= maxNamed {
			culprit = Others
		}
		t.left[culprit] += r.Changes()
	}
}

// NamedCulprit is [Record.Culprit] or, if that is not known, a name that says so.
func (r *Record) NamedCulprit() string {
	switch name := r.Culprit(); {
	case name != "":
		return name
	case r.Source == "start":
		return AtStart
	case r.Source == "reload" && (r.Event == record.KindDrift || r.Event == record.KindDropin):
		return Asked // for other kinds, the reload only caused the look
	case r.Event == record.KindFlag:
		return NewBridge
	}
	return Unseen
}

func named(sums map[string]*Sum, name string) *Sum {
	s := sums[name]
	if s == nil && len(sums) >= maxNamed {
		name = Others
		s = sums[name]
	}
	if s == nil {
		s = &Sum{Name: name, Longest: -1}
		sums[name] = s
	}
	return s
}

func (s *Sum) add(r *Record) {
	n := r.Changes()
	s.Changes += n
	if r.Time.After(s.Last) {
		s.Last = r.Time
	}
	if r.Event == record.KindContention {
		if r.Source != "timer" {
			s.Fights++
		}
		if r.About == record.KindDenied {
			s.Kept += n
		} else {
			s.Corrected += n
		}
		return
	}
	switch r.Outcome { // the way the daemon counts
	case record.Corrected, record.Held:
		s.Corrected += n
	case record.Denied:
		s.Kept += n
	case record.Rewritten:
		if r.Event == record.KindDenied { // by the lock of older versions
			s.Kept += n
		} else {
			s.Corrected += n
		}
	case record.Failed, record.Reverted:
		if r.Failed() {
			s.Failed += n
		} else {
			s.Corrected += n
		}
	case record.Observed, record.Paused:
		s.Observed += n
	}
	s.Unreplied += r.Unreplied
	if r.Event == record.KindDrift {
		s.Longest = max(s.Longest, r.Duration)
	}
}

func (t *Tally) host(r *Record) {
	id := hostID{r.Machine, r.Host}
	h := t.hosts[id]
	if h == nil {
		if len(t.hosts) >= maxNamed {
			id = hostID{name: Others}
		}
		if h = t.hosts[id]; h == nil {
			h = &Host{Name: id.name, Machine: id.machine, From: r.Time}
			t.hosts[id] = h
		}
	}
	h.Records++
	h.Changes += r.Changes()
	h.From = earliest(h.From, r.Time)
	if r.Time.After(h.To) {
		h.To = r.Time
	}
	if boot := [2]string{r.Machine, r.Boot}; r.Boot != "" && !t.boots[boot] && len(t.boots) < 100*maxNamed {
		t.boots[boot] = true
		h.Boots++
	}
	switch {
	case r.Event == record.KindStop:
		h.On = false
	case r.Event == record.KindStart:
		h.Start, h.On = r.Message, true
	case !r.Once():
		h.On = true
	}
}

// Totals returns what was counted until now.
func (t *Tally) Totals() Totals {
	all := Totals{From: t.from, To: t.to, Records: t.records, Sum: t.all}
	all.Keys, all.Culprits = most(t.keys), most(t.culprits)
	all.Pods, all.Days = most(t.pods), most(t.days)
	slices.SortFunc(all.Days, func(a, b Sum) int { return cmp.Compare(a.Name, b.Name) })
	for _, h := range t.hosts {
		all.Hosts = append(all.Hosts, *h)
	}
	for _, n := range t.left {
		all.LeftAlone += n
	}
	slices.SortFunc(all.Hosts, func(a, b Host) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Machine, b.Machine))
	})
	all.Left = slices.SortedFunc(maps.Keys(t.left), func(a, b string) int {
		return cmp.Or(cmp.Compare(t.left[b], t.left[a]), cmp.Compare(a, b))
	})
	return all
}

// most returns the sums, those with the most changes first.
func most(sums map[string]*Sum) []Sum {
	var list []Sum
	for _, s := range sums {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b Sum) int {
		return cmp.Or(cmp.Compare(b.Changes, a.Changes), strings.Compare(a.Name, b.Name))
	})
	return list
}

// Column is a column of a table of sums.
type Column struct {
	Title string
	Of    func(*Sum) int
}

// Columns returns the columns that are not 0 in every row.
func Columns(all *Sum) []Column {
	columns := []Column{
		{"Put right", func(s *Sum) int { return s.Corrected }},
		{"Kept out", func(s *Sum) int { return s.Kept }},
		{"Not put right", func(s *Sum) int { return s.Failed }},
		{"Observed", func(s *Sum) int { return s.Observed }},
		{"Unreplied", func(s *Sum) int { return s.Unreplied }},
		{"Fights", func(s *Sum) int { return s.Fights }},
	}
	return slices.DeleteFunc(columns, func(c Column) bool { return c.Of(all) == 0 })
}
