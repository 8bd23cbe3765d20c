// Package pause is the announced pause: what somebody can ask for (a [Request],
// which is a file below /run/nfguard), and what the daemon makes of it ([Decide]).
// It is data, one file and pure functions; it knows neither what is guarded nor
// how that is left alone.
//
// Only root can write the file, and the daemon only reads it. A pause is in force
// while its file is there: without a valid file there is none. Times are of
// CLOCK_BOOTTIME, which nobody sets, and which goes on while the machine sleeps.
package pause

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/words"
)

// The bounds of what can be asked for. A pause that is longer than a day is no
// maintenance: mode "observe" is for that.
const (
	Shortest  = time.Second
	Longest   = 24 * time.Hour
	maxReason = 200 // bytes: it is part of a sentence
)

// The verbs of a request.
const (
	Pause  = "pause"
	Resume = "resume"
)

// Request is what somebody asks for.
type Request struct {
	Schema int    `json:"schema"` // 1
	Verb   string `json:"verb"`
	Boot   string `json:"boot_id"`

	Asked int64 `json:"asked_boottime_usec"`
	Since int64 `json:"since_boottime_usec,omitempty"` // of a pause that goes on: when it began
	For   int64 `json:"for_usec,omitempty"`

	Reason  string           `json:"reason,omitempty"`
	Process instance.Process `json:"process"` // who asks, so that the daemon can look
	By      Asker            `json:"by"`      // the same in its own words, for when that has ended
}

// Asker is who asked.
type Asker struct {
	PID       int    `json:"pid"`
	Comm      string `json:"comm"`
	Unit      string `json:"systemd_unit,omitempty"`
	Container string `json:"container_id,omitempty"`
	Pod       string `json:"pod_uid,omitempty"`
	UID       string `json:"uid,omitempty"`
	LoginUID  string `json:"login_uid,omitempty"` // who had logged in, before sudo, say; "": nobody
	Seen      bool   `json:"seen"`                // by the daemon while it ran; false: only the request says so
}

// Writer is a as records name processes.
func (a *Asker) Writer() record.Process {
	return record.Process{PID: a.PID, Comm: a.Comm, Unit: a.Unit, Container: a.Container, Pod: a.Pod}
}

// String names a in a sentence: "nfguard[812], session-3.scope (uid 0, login uid 1000)".
func (a *Asker) String() string {
	who := words.Writer(a.Writer())
	if who == "" {
		return "somebody who was not seen"
	}
	var more []string
	if a.UID != "" {
		more = append(more, "uid "+a.UID)
	}
	if a.LoginUID != "" {
		more = append(more, "login uid "+a.LoginUID)
	}
	if !a.Seen {
		more = append(more, "by its own word")
	}
	if len(more) > 0 {
		who += " (" + strings.Join(more, ", ") + ")"
	}
	return who
}

// ID tells requests of one boot apart.
func (r *Request) ID() string {
	return strconv.FormatInt(r.Asked, 10) + "-" + strconv.Itoa(r.Process.PID)
}

// Ends is when the pause ends by itself, by CLOCK_BOOTTIME.
func (r *Request) Ends() time.Duration { return usec(r.Asked) + usec(r.For) }

func usec(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// CheckLength says what is wrong with the length of a pause.
func CheckLength(d time.Duration) error {
	switch {
	case d <= 0:
		return errors.New("it has no end")
	case d < Shortest:
		return fmt.Errorf("it takes less than %s", words.Brief(Shortest))
	case d > Longest:
		return fmt.Errorf("it takes more than %s", words.Brief(Longest))
	}
	return nil
}

// CheckReason says what is wrong with a reason.
func CheckReason(s string) error {
	switch {
	case strings.TrimSpace(s) == "":
		return errors.New("it has no reason")
	case len(s) > maxReason:
		return fmt.Errorf("its reason has %d bytes; there is room for %d", len(s), maxReason)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("its reason has characters that can't be printed")
	}
	return nil
}

// Clock is the time on both clocks, and of which boot.
type Clock struct {
	Boot  string        // its id
	Since time.Duration // CLOCK_BOOTTIME
	Wall  time.Time
}

// Time is when CLOCK_BOOTTIME shows d, as the wall clock has it now, to the second: the
// clocks are not read at once, and what is shown must not flicker.
func (c *Clock) Time(d time.Duration) time.Time { return c.Wall.Add(d - c.Since).Round(time.Second) }

// Check says what is wrong with r. That its time is over is not wrong.
func (r *Request) Check(now Clock) error {
	const farthest = int64(time.Duration(1<<63-1) / time.Microsecond / 2) // so that no sum overflows
	switch {
	case r.Schema != 1:
		return fmt.Errorf("it has schema %d, and this version knows 1", r.Schema)
	case r.Verb != Pause && r.Verb != Resume:
		return fmt.Errorf("it asks for %q, and can ask for pause or resume", r.Verb)
	case r.Asked <= 0 || r.Asked > farthest || usec(r.Asked) > now.Since:
		return errors.New("it was asked for in the future")
	case r.Verb == Resume:
		return nil
	case r.For > farthest:
		return CheckLength(Longest + 1)
	case r.Since < 0 || r.Since > r.Asked:
		return errors.New("it began after it was asked for")
	}
	if err := CheckLength(usec(r.For)); err != nil {
		return err
	}
	return CheckReason(r.Reason)
}
