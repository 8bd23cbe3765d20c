package report

import (
	"bufio"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/diag/history"
)

var update = flag.Bool("update", false, "renew the goldens in testdata")

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func entry(host string, sec int, kind record.Kind, outcome record.Outcome, subject string) history.Record {
	return history.Record{
		Time: noon.Add(time.Duration(sec) * time.Second), Host: host, Machine: "id of " + host, Boot: host, Event: kind, Outcome: outcome,
		Subject: subject, Message: fmt.Sprintf("%s of %s", kind, subject), Duration: -1, Teller: history.Teller{UID: "0", Comm: "nfguard", PID: 9, Unit: history.Service},
	}
}

func drift(host string, sec int, outcome record.Outcome, key, now string) history.Record {
	r := entry(host, sec, record.KindDrift, outcome, key)
	r.Want, r.Have, r.Now, r.Duration, r.Source = "1", "0", now, 84*time.Microsecond, "sysctl"
	r.Process = record.Process{PID: 812, Comm: "tuned", Unit: "tuned.service"}
	return r
}

// story has one record of each kind, on two hosts.
func story() []history.Record {
	const key = "net.bridge.bridge-nf-call-iptables"
	hostile := drift("worker-1", 9000, record.Denied, key, "1")
	hostile.Event = record.KindDenied
	hostile.Process = record.Process{PID: 7, Comm: "</td><script>\x1b[2J"}
	fight := entry("worker-1", 100, record.KindContention, record.Held, key)
	fight.Suppressed, fight.Source, fight.Process = 1, "sysctl", hostile.Process
	over := fight
	over.Time, over.Outcome, over.Suppressed, over.Source, over.Duration = fight.Time.Add(200*time.Second), record.Observed, 99, "timer", 140*time.Second
	failed := entry("worker-2", 4000, record.KindModule, record.Failed, "br_netfilter")
	failed.Have, failed.Want, failed.Now, failed.Error, failed.Next = "absent", "loaded", "absent", "it is not there", "install it"
	found := drift("worker-2", 7200, record.Corrected, key, "1")
	found.Process, found.Duration, found.Source, found.Teller = record.Process{}, -1, "start", history.Teller{UID: "0", Comm: "logger", PID: 9, Unit: "session-3.scope"}
	return []history.Record{
		entry("worker-1", 0, record.KindStart, record.Observed, "nfguard"),
		drift("worker-1", 50, record.Corrected, key, "1"),
		fight, over, failed,
		entry("worker-1", 5000, record.KindStop, record.Observed, "nfguard"),
		found,
		entry("worker-1", 8000, record.KindStart, record.Observed, "nfguard"),
		drift("worker-1", 8500, record.Observed, key, "0"),
		hostile,
	}
}

func page(t *testing.T, records []history.Record, f Facts) string {
	t.Helper()
	p, tally := New(time.UTC), history.NewTally(time.UTC)
	for i := range records {
		p.Add(&records[i])
		tally.Add(&records[i])
	}
	f.Made, f.Version, f.Totals = noon.Add(24*time.Hour), "v1", tally.Totals()
	var b strings.Builder
	w := bufio.NewWriter(&b)
	p.Write(w, &f)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPage(t *testing.T) {
	tests := []struct {
		name    string
		records []history.Record
		facts   Facts
	}{
		{name: "empty", facts: Facts{Sentence: "nothing is on record"}},
		{name: "one host", records: story()[:2], facts: Facts{Sentence: "2 events", Kernel: "6.18", Config: "\nmode = \"enforce\"  # default\n"}},
		{name: "two hosts", records: story(), facts: Facts{Sentence: "10 events", Observed: "mode observe: 1", Asked: "since yesterday", Notes: []string{"a <note>"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := page(t, tt.records, tt.facts)
			check(t, got)
			_, body, _ := strings.Cut(got, "</style>") // the style is for a person to judge
			golden := filepath.Join("testdata", strings.ReplaceAll(tt.name, " ", "-")+".html.golden")
			if *update {
				if err := os.WriteFile(golden, []byte(body), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), body); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// check checks what a program can check of a page: every element ends, nothing is
// fetched or run, each picture has a text, each header a scope, and each section a
// name that exists.
func check(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	ids, wanted := map[string]int{}, []string{}
	open := []string{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			open = append(open, e.Name.Local)
			has := map[string]string{}
			for _, a := range e.Attr {
				has[a.Name.Local] = a.Value
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "src" || a.Name.Local == "href" {
					t.Errorf("%s has %s", e.Name.Local, a.Name.Local)
				}
			}
			switch e.Name.Local {
			case "script", "link", "img", "iframe":
				t.Errorf("there is a %s", e.Name.Local)
			case "svg":
				if has["role"] != "img" || has["aria-label"] == "" {
					t.Errorf("a picture without words: %v", e.Attr)
				}
			case "th":
				if has["scope"] == "" {
					t.Error("a header without a scope")
				}
			case "section":
				wanted = append(wanted, has["aria-labelledby"])
			}
			if id := has["id"]; id != "" {
				ids[id]++
			}
		case xml.EndElement:
			if last := open[len(open)-1]; last != e.Name.Local {
				t.Fatalf("%s ends within %s", e.Name.Local, last)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("not closed: %v", open)
	}
	for _, id := range wanted {
		if ids[id] != 1 {
			t.Errorf("%d elements have the id %q", ids[id], id)
		}
	}
	if strings.Contains(page, "\x1b") {
		t.Error("there is an escape sequence")
	}
}

// TestZones: a page that covers a year names the zones of summer and winter.
func TestZones(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		from time.Time
		want string
	}{
		{"a day of winter", noon, "CET (UTC+01:00)"},
		{"since summer", noon.AddDate(0, -2, 0), "CEST (UTC+02:00) or CET (UTC+01:00)"},
		{"three years, winter to winter", noon.AddDate(-3, 0, 0), "CET (UTC+01:00) or CEST (UTC+02:00)"},
		{"nothing", time.Time{}, "CET (UTC+01:00)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &Facts{Made: noon.Add(time.Hour)}
			if !tt.from.IsZero() {
				f.Totals.From, f.Totals.Records = tt.from, 1
			}
			if got := (&doc{zone: berlin}).zones(f); got != tt.want {
				t.Errorf("want %s, got %s", tt.want, got)
			}
		})
	}
}

// TestOnce: the changes of nfguard apply are shown, but do not make the host guarded.
func TestOnce(t *testing.T) {
	applied := drift("worker-1", 0, record.Corrected, "a", "1")
	applied.Source = "apply"
	got := page(t, []history.Record{applied}, Facts{})
	check(t, got)
	if strings.Contains(got, "<h3>On guard</h3>") || !strings.Contains(got, "not guarded") || !strings.Contains(got, "tuned.service: 1 change, put right or kept out") {
		t.Error(got)
	}
}

// TestStyle: the style fetches nothing, and each colour also exists for dark mode and
// for print.
func TestStyle(t *testing.T) {
	if strings.Contains(style, "url(") || strings.Contains(style, "@import") {
		t.Error("the style fetches something")
	}
	roots := regexp.MustCompile(`:root \{([^}]*)\}`).FindAllStringSubmatch(style, -1)
	if len(roots) != 3 {
		t.Fatalf("want the colours three times, got %d", len(roots))
	}
	names := func(s string) []string { return regexp.MustCompile(`--\w+`).FindAllString(s, -1) }
	for _, r := range roots[1:] {
		if diff := cmp.Diff(names(roots[0][1]), names(r[1])); diff != "" {
			t.Error(diff)
		}
	}
}

// contrast is the contrast of two colours by WCAG 2.
func contrast(a, b string) float64 {
	luminance := func(hex string) float64 {
		if len(hex) == 3 {
			hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
		}
		sum := 0.0
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, _ := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
			v := float64(n) / 255
			if v <= 0.04045 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += weight * v
		}
		return sum + 0.05
	}
	x, y := luminance(a), luminance(b)
	return max(x, y) / min(x, y)
}

// TestContrast: text and bars have the contrast that WCAG 2 requires for level AA, in
// light mode, dark mode and print.
func TestContrast(t *testing.T) {
	if c := contrast("fff", "767676"); c < 4.54 || c > 4.55 { // a well-known pair
		t.Fatalf("the contrast is computed as %v", c)
	}
	for i, root := range regexp.MustCompile(`:root \{([^}]*)\}`).FindAllStringSubmatch(style, -1) {
		colours := map[string]string{}
		for _, m := range regexp.MustCompile(`--(\w+): #(\w+);`).FindAllStringSubmatch(root[1], -1) {
			colours[m[1]] = m[2]
		}
		for _, p := range []struct {
			of, on string
			least  float64
		}{
			{"ink", "paper", 4.5}, {"faint", "paper", 4.5}, {"ink", "band", 4.5}, {"left", "paper", 4.5}, {"wrong", "paper", 4.5}, // text
			{"right", "band", 3}, {"left", "band", 3}, {"wrong", "band", 3}, {"guarded", "band", 3}, // bars
			{"right", "paper", 3}, {"guarded", "paper", 3}, // in the legend
		} {
			if c := contrast(colours[p.of], colours[p.on]); c < p.least {
				t.Errorf("colours %d: %s on %s has %.2f, want %.1f", i, p.of, p.on, c, p.least)
			}
		}
	}
}

// TestPageIsBounded: a long history does not make a long page, and the page says what
// it leaves out.
func TestPageIsBounded(t *testing.T) {
	var records []history.Record
	for i := range 5 * maxRows {
		r := drift("worker-1", 600*i, record.Corrected, fmt.Sprint("key", i%(2*maxLanes)), "1")
		r.Process.Unit = fmt.Sprintf("unit%d.service", i%7)
		records = append(records, r)
	}
	got := page(t, records, Facts{})
	check(t, got)
	for what, want := range map[string]int{"<tr role": maxRows + 1, `<div class="lane">`: maxSubjects + 1} {
		if n := strings.Count(got, what); n != want {
			t.Errorf("want %d of %s, got %d", want, what, n)
		}
	}
	for _, want := range []string{
		"The last 1000 lines; 4000 before them are left out here, and counted above.",
		"<p>900 more are left out.</p>", "and 988 more subjects",
		`<time datetime="2026-12-28T05:10:00Z">`, // the last one
	} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q", want)
		}
	}
	if strings.Contains(got, `cell"><time datetime="2026-11-23T12:00:00Z">`) {
		t.Error("the first one is in the table")
	}
}

// TestTimeline: however far apart records are, and in whatever order they come, each
// is counted at its time.
func TestTimeline(t *testing.T) {
	tests := []struct {
		name  string
		at    []int // milliseconds
		begin int
		width time.Duration
		want  map[int]int
	}{
		{"one", []int{7}, 7, time.Millisecond, map[int]int{0: 1}},
		{"all in the first width", []int{0, 0, 198, 10}, 0, time.Millisecond, map[int]int{0: 2, 10: 1, 198: 1}},
		{"doubled", []int{0, 1, 199}, 0, 2 * time.Millisecond, map[int]int{0: 2, 99: 1}},
		{"doubled many times", []int{0, 0, 199, 200, 399, 86400, 86400, 10}, 0, 512 * time.Millisecond, map[int]int{0: 6, 86400 / 512: 2}},
		{"backwards", []int{100, 0}, 0, time.Millisecond, map[int]int{0: 1, 100: 1}},
		{"backwards, doubled", []int{300, 298, 0}, 0, 2 * time.Millisecond, map[int]int{0: 1, 149: 1, 150: 1}},
		{"as far apart as can be", []int{6_794_000_000_000, -1_795_000_000_000, 0}, -1_795_934_592_000, 1 << 36 * time.Millisecond, map[int]int{0: 1, 26: 1, 125: 1}},
		{"backwards, not a whole bucket", []int{301, 2, 1}, 1, 2 * time.Millisecond, map[int]int{0: 2, 150: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tl := newTimeline()
			for _, ms := range tt.at {
				r := drift("worker-1", 0, record.Corrected, "a", "1")
				r.Time = noon.Add(time.Duration(ms) * time.Millisecond)
				tl.add(&r)
			}
			got := map[int]int{}
			for i, n := range tl.lanes[laneID{"a", "tuned.service"}].counts[right] {
				if n > 0 {
					got[i] = n
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || tl.width != tt.width || tl.begin.Sub(noon) != time.Duration(tt.begin)*time.Millisecond {
				t.Errorf("%sfrom %v on, a bucket is %v wide", diff, tl.begin.Sub(noon), tl.width)
			}
		})
	}
}
