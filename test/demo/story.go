package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// story prints the demo, and remembers what did not go as it should.
type story struct {
	w       io.Writer
	colour  bool
	chapter int
	odd     []string
}

// newStory prints to f, in colour if f is a terminal and NO_COLOR is unset.
func newStory(f *os.File) *story {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return &story{w: f, colour: err == nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

const (
	bold, dim          = "1", "2"
	red, green, yellow = "31", "32", "33"
)

func (s *story) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *story) step(title string) {
	s.chapter++
	fmt.Fprintf(s.w, "\n%s\n", s.paint(bold, fmt.Sprintf("%d. %s", s.chapter, title)))
}

func (s *story) say(format string, args ...any) {
	fmt.Fprintf(s.w, "   "+format+"\n", args...)
}

// quote shows what somebody else printed.
func (s *story) quote(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(s.w, "   %s\n", s.paint(dim, "│ "+strings.TrimRight(line, "\n")))
	}
}

// works prints something that should work, with its result.
func (s *story) works(what, result string, err error) {
	if err != nil {
		s.mark(red, "✗", what, err.Error())
		s.differs("%s: %v", what, err)
		return
	}
	s.mark(green, "✓", what, result)
}

// fails prints something that should fail, with its error.
func (s *story) fails(what, result string, err error) {
	if err == nil {
		s.mark(green, "✓", what, result)
		s.differs("%s: worked where it had to fail", what)
		return
	}
	s.mark(red, "✗", what, err.Error())
}

func (s *story) mark(code, sign, what, result string) {
	fmt.Fprintf(s.w, "   %s %-31s %s\n", s.paint(code, sign), what, result)
}

func (s *story) differs(format string, args ...any) {
	s.odd = append(s.odd, fmt.Sprintf("step %d: "+format, append([]any{s.chapter}, args...)...))
}

// end prints how the demo went and returns the exit code.
func (s *story) end() int {
	if len(s.odd) == 0 {
		fmt.Fprintf(s.w, "\n%s\n", s.paint(green, "Every step showed what it should."))
		return 0
	}
	fmt.Fprintf(s.w, "\n%s\n", s.paint(yellow, "Not as it should be:"))
	for _, what := range s.odd {
		fmt.Fprintf(s.w, " - %s\n", what)
	}
	return 1
}

// record is one event of nfguard, a JSON object with the journal's fields.
type record map[string]any

// records collects nfguard's stderr line by line. The zero value is ready.
type records struct {
	mu   sync.Mutex
	text []byte
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, p...)
	return len(p), nil
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text)
}

// messages returns the messages of all records so far, one line each.
func (r *records) messages() string {
	var all strings.Builder
	for line := range strings.Lines(r.String()) {
		var rec record
		if json.Unmarshal([]byte(line), &rec) == nil && rec["MESSAGE"] != nil {
			fmt.Fprintln(&all, rec["MESSAGE"])
		}
	}
	return all.String()
}

// await returns the first record after the offset with this value of a field, or nil if
// there is none within two seconds.
func (r *records) await(after int, field, value string) record {
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for line := range strings.Lines(r.String()[after:]) {
			var rec record
			if json.Unmarshal([]byte(line), &rec) == nil && rec[field] == value && rec["NFGUARD_EVENT"] == "drift" {
				return rec
			}
		}
	}
	return nil
}
