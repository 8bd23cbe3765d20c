package history

import (
	"cmp"
	"slices"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
)

// Fight is a series of changes of one thing that nfguard recorded as one event:
// nfguard set it back, and somebody changed it again.
type Fight struct {
	Host    string
	Machine string
	Subject string
	Began   time.Time // of the first change that is known to belong to it
	Ended   time.Time // of the last change, as far as known
	State   FightState
	Changes int // counted over all its records
	Records int
	By      string // culprit; "": unknown
	Who     string // the last writer, as in [Record.Who]

	noticed time.Time // when nfguard noticed that it was a fight
	told    time.Time // of the last record
	teller  Teller    // of the last record
}

// FightState says how a fight ended, as far as known.
type FightState string

// The states of a fight.
const (
	FightOver FightState = "over"      // the changes stopped
	FightOn   FightState = "on"        // it still went on at the end of the records
	FightLeft FightState = "left open" // nfguard stopped before its end
)

// Line is one line of a history: a record, or a fight.
type Line struct {
	Record Record // the last record of the fight, if it is one
	Fight  *Fight // nil: a single record
}

const (
	// approach is how long before the first record of a fight changes can already
	// belong to it: nfguard's default window.
	approach = time.Minute

	// maxHeld limits the records that are held back for that. Even hundreds of hosts
	// write fewer records in a minute: nfguard does not record every change of a
	// flood.
	maxHeld = 1 << 12
)

// Folder turns records into lines. The records of a fight become one line, at the end
// of the fight. It holds back one minute of records, by their own times.
type Folder struct {
	emit func(*Line)
	held []held // from gone on
	gone int
	open map[thing]*Fight
}

// thing identifies what a fight is about, and who recorded it: what others write to
// the journal neither begins nor ends a fight of nfguard.service.
type thing struct{ machine, host, subject, other string }

func (r *Record) thing() thing { return thing{r.Machine, r.Host, r.Subject, r.other()} }

// other is who wrote the record, if that is neither nfguard.service nor nfguard
// apply; otherwise it is "".
func (r *Record) other() string {
	if r.Origin() != ByOther {
		return ""
	}
	return r.foreign()
}

type held struct {
	line   Line
	folded bool // part of a fight that has its own line
}

// NewFolder returns a folder that passes each line to emit, which must not keep it.
func NewFolder(emit func(*Line)) *Folder {
	return &Folder{emit: emit, open: map[thing]*Fight{}}
}

// Add takes the next record. Records must be in order of time.
func (f *Folder) Add(r *Record) {
	f.release(r.Time.Add(-approach), maxHeld-1)
	switch {
	case r.Event == record.KindContention:
		f.contention(r)
		return
	case r.Event == record.KindStop || r.Event == record.KindStart:
		f.leave(r)
	case part(r):
		if fight := f.open[r.thing()]; fight != nil {
			fight.add(r)
			return
		}
	}
	f.hold(Line{Record: *r})
}

// Close passes on the remaining lines.
func (f *Folder) Close() {
	f.endAll(FightOn, func(thing) bool { return true })
	f.release(time.Time{}, 0)
}

// part reports whether the record can belong to a fight: it is a change that was put
// right or kept out.
func part(r *Record) bool {
	switch r.Outcome { //nolint:exhaustive // other outcomes stand alone
	case record.Corrected, record.Reverted, record.Denied, record.Rewritten:
		return r.Changes() > 0 && !r.Failed()
	}
	return false
}

func (f *Folder) contention(r *Record) {
	key := r.thing()
	fight := f.open[key]
	begins := r.Source != "timer" // the timer records fights that go on
	if fight != nil && begins {
		f.end(key, fight, FightLeft)
		fight = nil
	}
	if fight == nil {
		fight = &Fight{Host: r.Host, Machine: r.Machine, Subject: r.Subject, Began: r.Time, noticed: r.Time}
		if !begins { // the first record was not read
			fight.noticed = r.Time.Add(-max(r.Duration, 0))
			fight.Began = fight.noticed
		}
		f.open[key] = fight
		for i := f.gone; i < len(f.held); i++ {
			if h := &f.held[i]; begins && h.ledTo(r) {
				h.folded = true
				fight.Began = earliest(fight.Began, h.line.Record.Time)
				fight.add(&h.line.Record)
			}
		}
	}
	fight.add(r)
	if !begins { // the duration counts, because the clock may have been set meanwhile
		fight.Ended = fight.noticed.Add(max(r.Duration, 0))
	}
	if r.Outcome == record.Observed {
		f.end(key, fight, FightOver)
	}
}

// ledTo reports whether h is a change of the same thing as the fight r, shortly
// before r. If a clock was set back, older lines are held too.
func (h *held) ledTo(r *Record) bool {
	before := r.Time.Sub(h.line.Record.Time)
	return !h.folded && h.line.Fight == nil && part(&h.line.Record) && h.line.Record.thing() == r.thing() && 0 <= before && before <= approach
}

func (fight *Fight) add(r *Record) {
	fight.Ended, fight.told, fight.teller = r.Time, r.Time, r.Teller
	fight.Changes += r.Changes()
	fight.Records++
	if by := r.Culprit(); by != "" {
		fight.By, fight.Who = by, r.Who()
	}
}

// leave ends the fights on a host when nfguard has stopped or started, according to
// the teller of r.
func (f *Folder) leave(r *Record) {
	f.endAll(FightLeft, func(key thing) bool {
		return key.machine == r.Machine && key.host == r.Host && key.other == r.other()
	})
}

// endAll ends the fights that of chooses, in the order of their last records.
func (f *Folder) endAll(s FightState, of func(thing) bool) {
	var keys []thing
	for key := range f.open {
		if of(key) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b thing) int {
		return cmp.Or(f.open[a].told.Compare(f.open[b].told), cmp.Compare(a.subject, b.subject), cmp.Compare(a.host, b.host), cmp.Compare(a.other, b.other))
	})
	for _, key := range keys {
		f.end(key, f.open[key], s)
	}
}

func (f *Folder) end(key thing, fight *Fight, s FightState) {
	delete(f.open, key)
	fight.State = s
	f.hold(Line{
		Record: Record{
			Time: fight.told, Host: fight.Host, Machine: fight.Machine,
			Event: record.KindContention, Subject: fight.Subject, Duration: fight.Ended.Sub(fight.Began), Teller: fight.teller,
		},
		Fight: fight,
	})
}

func (f *Folder) hold(l Line) { f.held = append(f.held, held{line: l}) }

// release passes on the lines before t, and the oldest others until only keep are
// left.
func (f *Folder) release(t time.Time, keep int) {
	for len(f.held)-f.gone > keep || f.gone < len(f.held) && f.held[f.gone].line.Record.Time.Before(t) {
		if h := &f.held[f.gone]; !h.folded {
			f.emit(&h.line)
		}
		f.gone++
	}
	if f.gone > len(f.held)/2 {
		n := copy(f.held, f.held[f.gone:])
		clear(f.held[n:])
		f.held, f.gone = f.held[:n], 0
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
