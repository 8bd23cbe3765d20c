package cli

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/diag/history"
	"github.com/nfguard/nfguard/internal/printable"
)

// eventRow is a record as JSON: its fields are named as in the journal, in
// lower case and without NFGUARD_.
type eventRow struct {
	Time      time.Time      `json:"time"` // when it was found
	Host      string         `json:"hostname"`
	MachineID string         `json:"machine_id,omitempty"`
	BootID    string         `json:"boot_id,omitempty"`
	Event     record.Kind    `json:"event"`
	About     record.Kind    `json:"about,omitempty"`
	Outcome   record.Outcome `json:"outcome"`
	Subject   string         `json:"subject"`
	Message   string         `json:"message"`
	Want      string         `json:"want,omitempty"`
	Old       string         `json:"oldvalue,omitempty"`
	Have      string         `json:"have,omitempty"`
	Now       string         `json:"now,omitempty"`
	Duration  *int64         `json:"duration_usec,omitempty"`
	Source    string         `json:"source,omitempty"`
	Pass      uint64         `json:"pass,omitempty"`
	Suppress  int            `json:"suppressed,omitempty"`
	Unreplied int            `json:"unreplied,omitempty"`
	Error     string         `json:"error,omitempty"`
	Next      string         `json:"next,omitempty"`
	Reason    string         `json:"reason,omitempty"`
	Until     string         `json:"until,omitempty"`
	Object    *objectRow     `json:"object,omitempty"`
	Teller    tellerRow      `json:"recorded_by"`
	Told      *time.Time     `json:"recorded,omitempty"`
}

// objectRow is the process of a record: who did it.
type objectRow struct {
	PID       int    `json:"pid"`
	Comm      string `json:"comm,omitempty"`
	UID       string `json:"uid,omitempty"`
	LoginUID  string `json:"loginuid,omitempty"`
	Exe       string `json:"exe,omitempty"`
	Unit      string `json:"systemd_unit,omitempty"`
	Cgroup    string `json:"systemd_cgroup,omitempty"`
	Container string `json:"container_id,omitempty"`
	Pod       string `json:"pod_uid,omitempty"`
	PodName   string `json:"pod_name,omitempty"`
	PodSpace  string `json:"pod_namespace,omitempty"`
	Name      string `json:"container_name,omitempty"`
}

// tellerRow is who wrote the record to the journal, according to journald.
type tellerRow struct {
	Origin history.Origin `json:"origin"` // "service", "apply" or "other"
	Comm   string         `json:"comm,omitempty"`
	PID    int            `json:"pid,omitempty"`
	UID    string         `json:"uid"`
	Unit   string         `json:"systemd_unit,omitempty"`
}

func newEventRow(r *history.Record) *eventRow {
	row := &eventRow{
		Time: r.Time, Host: r.Host, MachineID: r.Machine, BootID: r.Boot,
		Event: r.Event, About: r.About, Outcome: r.Outcome, Subject: r.Subject, Message: r.Message,
		Want: r.Want, Old: r.Old, Have: r.Have, Now: r.Now, Source: r.Source,
		Pass: r.Pass, Suppress: r.Suppressed, Unreplied: r.Unreplied, Error: r.Error, Next: r.Next, Reason: r.Reason, Until: r.Until,
		Teller: tellerRow{r.Origin(), r.Teller.Comm, r.Teller.PID, r.Teller.UID, r.Teller.Unit},
	}
	if r.Duration >= 0 {
		usec := r.Duration.Microseconds()
		row.Duration = &usec
	}
	if !r.Told.IsZero() {
		row.Told = &r.Told
	}
	if w := r.Process; w.PID > 0 {
		row.Object = &objectRow{w.PID, w.Comm, r.UID, r.LoginUID, w.Exe, w.Unit, w.Cgroup, w.Container, w.Pod, w.PodName, w.PodNamespace, w.ContainerName}
	}
	return row
}

// jsonLines is the format for --follow: one event per line.
type jsonLines struct{ w *bufio.Writer }

func (j *jsonLines) add(r *history.Record) {
	encode(j.w, struct {
		Schema int `json:"schema"`
		*eventRow
	}{1, newEventRow(r)})
	fmt.Fprintln(j.w)
}

func (j *jsonLines) end(*ending) {}

// jsonEvents is one document, written as the records come.
type jsonEvents struct {
	w      *bufio.Writer
	totals bool
	n      int
	fold   *history.Folder
	fights []fightRow
}

type fightRow struct {
	Host      string             `json:"hostname"`
	MachineID string             `json:"machine_id,omitempty"`
	Subject   string             `json:"subject"`
	Began     time.Time          `json:"began"`
	Ended     time.Time          `json:"ended"`
	State     history.FightState `json:"state"`
	Changes   int                `json:"changes"`
	Records   int                `json:"records"`
	By        string             `json:"by,omitempty"`
}

// maxFights limits the list of fights: each is at least a minute long.
const maxFights = 10_000

func newJSONEvents(w *bufio.Writer, totals bool) *jsonEvents {
	j := &jsonEvents{w: w, totals: totals, fights: []fightRow{}}
	j.fold = history.NewFolder(func(l *history.Line) {
		if f := l.Fight; f != nil && len(j.fights) < maxFights {
			j.fights = append(j.fights, fightRow{f.Host, f.Machine, f.Subject, f.Began, f.Ended, f.State, f.Changes, f.Records, f.By})
		}
	})
	return j
}

const head = "{\"schema\": 1, \"events\": [\n"

func (j *jsonEvents) add(r *history.Record) {
	j.fold.Add(r)
	if j.totals {
		return
	}
	if j.n++; j.n > 1 {
		fmt.Fprint(j.w, ",\n")
	} else {
		fmt.Fprint(j.w, head)
	}
	encode(j.w, newEventRow(r))
}

// encode writes v on the rest of the line.
func encode(w io.Writer, v any) {
	text, err := printable.Marshal(v, "")
	if err != nil {
		panic(err) // no content of a record can make it fail
	}
	_, _ = w.Write(text)
}

// totalsRow are the totals of the events.
type totalsRow struct {
	From     *time.Time `json:"from,omitempty"`
	To       *time.Time `json:"to,omitempty"`
	Events   int        `json:"events"`
	Sentence string     `json:"sentence"`
	Complete bool       `json:"complete"` // everything could be read
	Ignored  int        `json:"ignored"`  // entries that look like events and were not written by root
	sumRow
	Keys     []namedSum `json:"subjects"`
	Culprits []namedSum `json:"culprits"`
	Pods     []namedSum `json:"pods"`
	Days     []namedSum `json:"days"`
	Hosts    []hostRow  `json:"hosts"`
}

type sumRow struct {
	Changes   int    `json:"changes"`
	Corrected int    `json:"corrected"`
	Kept      int    `json:"kept_out"`
	Failed    int    `json:"failed"`
	Observed  int    `json:"observed"`
	Unreplied int    `json:"unreplied"`
	Fights    int    `json:"fights"`
	Longest   *int64 `json:"longest_usec,omitempty"`
}

type namedSum struct {
	Name string `json:"name"`
	sumRow
	Last time.Time `json:"last"`
}

type hostRow struct {
	Host      string    `json:"hostname"`
	MachineID string    `json:"machine_id,omitempty"`
	Events    int       `json:"events"`
	Changes   int       `json:"changes"`
	Boots     int       `json:"boots"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Start     string    `json:"last_start,omitempty"`
	On        bool      `json:"on_guard"`
}

func newSumRow(s *history.Sum) sumRow {
	row := sumRow{Changes: s.Changes, Corrected: s.Corrected, Kept: s.Kept, Failed: s.Failed, Observed: s.Observed, Unreplied: s.Unreplied, Fights: s.Fights}
	if s.Longest >= 0 {
		usec := s.Longest.Microseconds()
		row.Longest = &usec
	}
	return row
}

func namedSums(list []history.Sum) []namedSum {
	rows := make([]namedSum, len(list))
	for i := range list {
		rows[i] = namedSum{list[i].Name, newSumRow(&list[i]), list[i].Last}
	}
	return rows
}

func (j *jsonEvents) end(e *ending) {
	j.fold.Close()
	t := &e.totals
	row := totalsRow{
		Events: t.Records, Sentence: e.sentence(), Complete: e.err == nil, Ignored: e.ignored.Count, sumRow: newSumRow(&t.Sum),
		Keys: namedSums(t.Keys), Culprits: namedSums(t.Culprits), Pods: namedSums(t.Pods), Days: namedSums(t.Days), Hosts: []hostRow{},
	}
	if t.Records > 0 {
		row.From, row.To = &t.From, &t.To
	}
	for _, h := range t.Hosts {
		row.Hosts = append(row.Hosts, hostRow{h.Name, h.Machine, h.Records, h.Changes, h.Boots, h.From, h.To, h.Start, h.On})
	}
	if j.n == 0 {
		fmt.Fprint(j.w, head)
	}
	fmt.Fprint(j.w, "\n],\n\"fights\": ")
	encode(j.w, j.fights)
	fmt.Fprint(j.w, ",\n\"totals\": ")
	encode(j.w, row)
	fmt.Fprint(j.w, "}\n")
}
