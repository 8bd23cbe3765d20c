package main

import (
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The aims for nfguard.
const (
	aimRatio   = 1.8                    // its p50 against the C loop's, at nice -10
	aimP99     = 250 * time.Microsecond // the same
	aimPSS     = 8 << 10                // KiB
	aimWakeup  = 0.1                    // a second
	aimStart   = 60 * time.Millisecond  // to READY, the module is loaded
	aimMany    = time.Millisecond       // p95 of a correction beside many bridges
	aimScope   = 10 * time.Second       // of a change of the scope beside them
	aimFlags   = time.Millisecond       // p99 of a new bridge without its flags
	aimChurn   = 10 * time.Microsecond  // a veth pair, the idle cost included: less than a wake-up
	aimStarts  = 0.2                    // per cent of a core
	aimRules   = 1.0                    // per cent of a core
	aimNames   = 1.0                    // per cent of a core
	aimCheck   = 50 * time.Millisecond
	aimEvents  = 2 * time.Second
	aimTelling = 64 << 10 // KiB, nfguard events and its journalctl together
	aimFight   = 2.0      // per cent of a core
	aimRecords = 10       // of a fight, in a minute
)

// report is one run of the benchmark.
type report struct {
	*bench
	machine   string
	latencies []*latency
	ones      []*latency // with the sysctls at 0
	witness   witness
	idle      idle
	starts    starts
	many      many
	churns    []*churn
	fights    []*fight
	checked   checked
	told      told

	appearance *appearance
}

// incomplete tells whether something could not be measured.
func (r *report) incomplete() bool {
	failed := r.checked.err != nil || r.told.err != nil || r.idle.err != nil || r.appearance.err != nil ||
		r.witness.err != nil || r.starts.err != nil || r.many.err != nil
	for _, l := range slices.Concat(r.latencies, r.ones) {
		failed = failed || l.err != nil
	}
	for _, c := range r.churns {
		failed = failed || c.err != nil
	}
	for _, f := range r.fights {
		failed = failed || f.err != nil
	}
	return failed
}

// String is the report in Markdown.
func (r *report) String() string {
	var w strings.Builder
	fmt.Fprintf(&w, "%s\n", r.machine)
	r.writeLatencies(&w, "0", r.latencies)
	r.writeLatencies(&w, "1", r.ones)
	w.WriteString(r.witness.String())
	r.writeIdle(&w)
	w.WriteString(r.starts.String())
	w.WriteString(r.many.String())
	r.writeChurns(&w)
	r.writeFights(&w)
	if r.checked.err == nil {
		fmt.Fprintf(&w, "\n`nfguard check` of a host with %d drop-ins and %d kernels takes %s µs, the median of %d runs.\n",
			manyDropins, manyKernels, micros(quantile(r.checked.took, 0.5)), len(r.checked.took))
	}
	if h := r.told; h.err == nil {
		fmt.Fprintf(&w, "\n`nfguard events --totals` of a journal with %d drifts takes %.2f s, the median of %d runs; it has %.1f MiB, and its journalctl %.1f MiB besides the journal's files. That journal takes %d bytes a drift.\n",
			h.records, quantile(h.took, 0.5).Seconds(), len(h.took), float64(h.own)/1024, float64(h.child)/1024, h.disk/int64(h.records))
	}
	w.WriteString(r.appearance.String())
	r.writeAims(&w)
	return w.String()
}

// writeLatencies says how long that foreign value stays, under each contender.
func (r *report) writeLatencies(w *strings.Builder, foreign string, all []*latency) {
	fmt.Fprintf(w, "\n| a foreign %s stays, µs | writes | min | p50 | p99 | p99.9 | max | p50 / C loop | p50 as the writer sees it |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n", foreign)
	for _, l := range all {
		if l.err != nil {
			fmt.Fprintf(w, "| %s | not measured: %s ||||||||\n", l.title(), oneLine(l.err))
			continue
		}
		ratio := "1"
		if x, ok := ratioOf(l, all); !ok {
			ratio = "unknown"
		} else if l.name != "C loop" {
			ratio = fmt.Sprintf("%.*f", precision(x), x)
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %s | %s | %s | %s |\n", l.title(), len(l.samples),
			micros(l.stood[0]), micros(quantile(l.stood, 0.5)), micros(quantile(l.stood, 0.99)),
			micros(quantile(l.stood, 0.999)), micros(l.stood[len(l.stood)-1]), ratio, micros(quantile(l.own, 0.5)))
	}
	if r.pace() == alone {
		fmt.Fprint(w, "\nThis machine has one processor, so only the writer could watch: each figure is how long it takes until the writer itself runs again and sees the value.\n")
	} else {
		fmt.Fprint(w, "\nThe last column is longer where the contender runs on the writer's core, which the writer gets back only when the contender sleeps again. nfguard first reads who the writer is, and records it.\n")
	}
	for _, l := range all {
		if n := l.count(sample.missed); n > 0 {
			fmt.Fprintf(w, "\n%s: %d writes were not put right within %v, and count as that.\n", l.title(), n, tooLong)
		}
	}
	if r.pace() == watch {
		writeDoubts(w, foreign, all)
	}
}

// writeDoubts says by how much the figures of the watched contenders can be too high. The
// true time of a sample is between its time minus its slack and its time, and the same goes
// for the quantiles.
func writeDoubts(w *strings.Builder, foreign string, all []*latency) {
	fmt.Fprintf(w, "\n| how sure that is | %s never seen | slack over %s µs | p50 at least, µs | p99 at least, µs |\n|---|--:|--:|--:|--:|\n", foreign, micros(blurred))
	for _, l := range all[:4] { // then comes the crowd
		if l.err != nil {
			continue
		}
		fmt.Fprintf(w, "| %s | %d | %d | %s | %s |\n", l.title(), l.count(sample.unseen), l.count(sample.vague),
			micros(quantile(l.least, 0.5)), micros(quantile(l.least, 0.99)))
	}
}

// ratioOf compares the median of l with that of the C loop at the same nice.
func ratioOf(l *latency, all []*latency) (float64, bool) {
	for _, yardstick := range all {
		if yardstick.name == "C loop" && yardstick.nice == l.nice && yardstick.err == nil && l.err == nil {
			return float64(quantile(l.stood, 0.5)) / float64(quantile(yardstick.stood, 0.5)), true
		}
	}
	return 0, false
}

func (r *report) writeIdle(w *strings.Builder) {
	fmt.Fprintf(w, "\n| idle, with one bridge | |\n|---|--:|\n")
	if r.idle.err != nil {
		fmt.Fprintf(w, "| not measured | %s |\n", oneLine(r.idle.err))
		return
	}
	fmt.Fprintf(w, "| RSS, KiB | %d |\n| PSS, KiB | %d |\n| of it anonymous, KiB | %d |\n| threads | %d |\n",
		r.idle.rss, r.idle.pss, r.idle.anonymous, r.idle.threads)
	fmt.Fprintf(w, "| wake-ups a second | %.2f |\n| times a second that one of its threads goes to sleep | %.2f |\n| processor time, µs a second | %s |\n",
		r.idle.wakeups, r.idle.switches, micros(time.Duration(float64(r.idle.cpu)/r.idle.window.Seconds())))
	if info, err := os.Stat(r.nfguard); err == nil {
		fmt.Fprintf(w, "| the binary, KiB | %d |\n", info.Size()>>10)
	}
}

func (r *report) writeChurns(w *strings.Builder) {
	fmt.Fprint(w, "\n| come and go | how many | took, s | nfguard's processor time, ms | µs each | % of a core |\n|---|--:|--:|--:|--:|--:|\n")
	for _, c := range r.churns {
		if c.err != nil {
			fmt.Fprintf(w, "| %s | not measured: %s |||||\n", c.what, oneLine(c.err))
			continue
		}
		fmt.Fprintf(w, "| %s | %d | %.1f | %.1f | %s | %.2f |\n", c.what, c.events, c.elapsed.Seconds(),
			float64(c.cpu.Microseconds())/1e3, micros(c.cpu/time.Duration(c.events)), c.share())
	}
}

func (r *report) writeFights(w *strings.Builder) {
	fmt.Fprintf(w, "\n| somebody writes 0 in a tight loop for %v | writes a second | reads that found the 0 | nfguard, %% of a core | records |\n|---|--:|--:|--:|--:|\n", r.storm)
	for _, f := range r.fights {
		if f.err != nil {
			fmt.Fprintf(w, "| %s | not measured: %s ||||\n", f.what, oneLine(f.err))
			continue
		}
		fmt.Fprintf(w, "| %s | %.0f | %.2f %% | %.2f | %d |\n", f.what, float64(f.writes)/f.elapsed.Seconds(),
			100*float64(f.zeros)/float64(f.writes), f.share(), f.records)
	}
}

func (r *report) writeAims(w *strings.Builder) {
	fmt.Fprint(w, "\n| aim | measured | |\n|---|--:|---|\n")
	aim := func(what, have string, known, met bool) {
		verdict := "met"
		switch {
		case !known:
			have, verdict = "", "not measured"
		case !met:
			verdict = "**missed**"
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", what, have, verdict)
	}
	seen := r.witness
	aim(fmt.Sprintf("a reader sees nothing of %d writes of 0", r.claims), fmt.Sprintf("%d of %d reads", seen.zeros, seen.reads), seen.err == nil, seen.zeros == 0)
	for _, l := range r.latencies {
		if l.name != "nfguard" || l.nice == 0 {
			continue
		}
		x, ok := ratioOf(l, r.latencies)
		aim(fmt.Sprintf("%s, where it has to react: p50 at most %.1f times the C loop's", l.title(), aimRatio), fmt.Sprintf("%.2f", x), ok, x <= aimRatio)
		p99 := quantile(l.stood, 0.99)
		aim(fmt.Sprintf("%s, the same: p99 below %s µs", l.title(), micros(aimP99)), micros(p99)+" µs", l.err == nil, p99 < aimP99)
	}
	m := r.many
	p95 := quantile(m.stood, 0.95)
	aim(fmt.Sprintf("beside %d bridges: p95 of a correction below %s µs", m.bridges, micros(aimMany)), micros(p95)+" µs", m.err == nil, p95 < aimMany)
	aim(fmt.Sprintf("beside %d bridges: scope bridges to host within %.0f s", m.bridges, aimScope.Seconds()),
		fmt.Sprintf("%.1f s", m.toHost.Seconds()), m.err == nil, m.toHost < aimScope)
	ready := quantile(r.starts.took, 0.5)
	aim(fmt.Sprintf("start to READY at most %.0f ms, at the median", millis(aimStart)), fmt.Sprintf("%.0f ms", millis(ready)), r.starts.err == nil, ready <= aimStart)
	measured := r.idle.err == nil
	aim(fmt.Sprintf("PSS below %d MiB", aimPSS>>10), fmt.Sprintf("%.1f MiB", float64(r.idle.pss)/1024), measured, r.idle.pss < aimPSS)
	aim(fmt.Sprintf("at most %.1f wake-ups a second", aimWakeup), fmt.Sprintf("%.2f", r.idle.wakeups), measured, r.idle.wakeups <= aimWakeup)
	p99 := quantile(r.appearance.after, 0.99)
	aim(fmt.Sprintf("a new bridge has its flags: p99 below %s µs", micros(aimFlags)), micros(p99)+" µs", r.appearance.err == nil, p99 < aimFlags)
	const pairs = 500
	for _, c := range r.churns {
		each := c.cpu / time.Duration(c.events)
		switch c.what {
		case vethPairs:
			aim(fmt.Sprintf("veth pairs do not wake it: below %d ms per %d pairs", (pairs*aimChurn).Milliseconds(), pairs),
				fmt.Sprintf("%.1f ms", (pairs*each).Seconds()*1e3), c.err == nil, each < aimChurn)
		case processStarts:
			aim(fmt.Sprintf("%d starts of programs a second: below %.1f %% of a core", startsPerSecond, aimStarts),
				fmt.Sprintf("%.2f %%", c.share()), c.err == nil, c.share() < aimStarts)
		case nameStorm:
			aim(fmt.Sprintf("%d starts a second by nobody of what is called kube-proxy, beside %d processes: at most %.0f %% of a core", stormPerSecond, beside, aimNames),
				fmt.Sprintf("%.2f %%", c.share()), c.err == nil, c.share() <= aimNames)
		case ruleFlood:
			aim(fmt.Sprintf("%d nftables rules replaced %d times: below %.0f %% of a core", floodRules, floodTurns, aimRules),
				fmt.Sprintf("%.2f %%", c.share()), c.err == nil, c.share() < aimRules)
		}
	}
	if check := r.checked; check.err == nil {
		aim(fmt.Sprintf("check of %d drop-ins and %d kernels: below %d ms", manyDropins, manyKernels, aimCheck.Milliseconds()),
			micros(quantile(check.took, 0.5))+" µs", true, quantile(check.took, 0.5) < aimCheck)
	} else {
		aim("check of a host with many files", "", false, false)
	}
	h := r.told
	aim(fmt.Sprintf("events of %d drifts: below %.0f s and %d MiB", manyRecords, aimEvents.Seconds(), aimTelling>>10),
		fmt.Sprintf("%.2f s, %.1f MiB", quantile(h.took, 0.5).Seconds(), float64(h.own+h.child)/1024),
		h.err == nil && h.records == manyRecords, quantile(h.took, 0.5) < aimEvents && h.own+h.child < aimTelling)
	for _, f := range r.fights {
		aim(fmt.Sprintf("a fight, %s: at most %.0f %% of a core and %d records a minute", f.what, aimFight, aimRecords),
			fmt.Sprintf("%.2f %%, %d", f.share(), f.records), f.err == nil, f.share() <= aimFight && f.records <= aimRecords)
	}
}

// precision is how many decimals of a ratio are meaningful.
func precision(x float64) int {
	if x < 100 {
		return 2
	}
	return 0
}

func micros(d time.Duration) string {
	if d >= 100*time.Microsecond {
		return strconv.FormatInt(d.Round(time.Microsecond).Microseconds(), 10)
	}
	return fmt.Sprintf("%.1f", float64(d)/float64(time.Microsecond))
}

// oneLine fits an error into a cell.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(err.Error()), " "), "|", "\\|")
}

// describe says what was measured where, and by which command.
func describe(nfguard string) string {
	kernel := "unknown"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	built := "unknown"
	if info, err := buildinfo.ReadFile(nfguard); err == nil {
		built = info.GoVersion
	}
	load, _, _ := strings.Cut(firstLine("/proc/loadavg", ""), " ")
	return fmt.Sprintf("    go run ./test/bench %s\n\n%s: %s, %d processors, Linux %s, HZ %s, load %s at the start; nfguard built by %s.",
		strings.Join(os.Args[1:], " "), time.Now().UTC().Format(time.DateOnly), processor(), runtime.NumCPU(), kernel, hz(kernel), load, built)
}

func processor() string {
	_, model, _ := strings.Cut(firstLine("/proc/cpuinfo", "model name"), ":")
	if model = strings.TrimSpace(model); model == "" {
		return runtime.GOARCH
	}
	return model
}

// hz is the kernel's tick, if its configuration can be read.
func hz(kernel string) string {
	for _, path := range []string{"/proc/config.gz", "/boot/config-" + kernel} {
		if _, hz, ok := strings.Cut(firstLine(path, "CONFIG_HZ="), "="); ok {
			return hz
		}
	}
	return "unknown"
}

// firstLine returns the first line of a file, compressed or not, that begins
// with prefix, or "".
func firstLine(path, prefix string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	if z, err := gzip.NewReader(bytes.NewReader(text)); err == nil {
		text, _ = io.ReadAll(z) // what can be read is enough
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, prefix) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
