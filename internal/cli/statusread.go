package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/run"
	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/files"
	"github.com/nfguard/nfguard/internal/kernel/monotonic"
)

// statusView is what the daemon has published, and what this command has seen
// itself, which has the last word on State and Sentence.
type statusView struct {
	daemon.Status
	Now statusNow `json:"now"`
}

// statusNow is what this command has found out itself.
type statusNow struct {
	Time     time.Time       `json:"time"`
	Process  instance.State  `json:"process"`                // what became of the daemon: running, stopped or frozen
	LookAge  *float64        `json:"look_age_sec,omitempty"` // how long ago the last look ended; nil: none has
	Sysctls  []daemon.Sysctl `json:"sysctls"`                // as they are now; none where they could not be read here
	Unread   string          `json:"unread,omitempty"`       // why none
	Problems []string        `json:"problems"`               // that the daemon does not tell of
}

// maxStatus limits the size of the status: that of a host with some ten thousand bridges.
const maxStatus = 16 << 20

// readStatus returns what is known of the daemon. That none runs, or that it can't
// be told, is an error.
func readStatus() (statusView, error) {
	dir := run.Dir()
	var v statusView
	if err := run.CheckDir(dir); errors.Is(err, fs.ErrNotExist) {
		return v, errNotRunning()
	} else if err != nil {
		return v, err
	}
	for try := 1; ; try++ {
		v, silent, err := readPublished(dir)
		if silent && try < 5 { // it has just started
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err == nil && !silent {
			v.assess()
		}
		return v, err
	}
}

var errNoDaemon = errors.New("nfguard is not running")

func errNotRunning() error {
	return &hintError{errNoDaemon, "systemctl start nfguard; nfguard check looks without a daemon"}
}

// readPublished returns the status of the daemon that runs. Of one that has
// published nothing, silent, it says that much.
//
// As root, it is the process that holds the lock; nobody else can ask for that,
// and goes by which process wrote the file.
func readPublished(dir string) (v statusView, silent bool, err error) {
	holder, held, lockErr := instance.Holder(dir)
	if lockErr != nil && !errors.Is(lockErr, fs.ErrPermission) {
		return v, false, lockErr
	}
	text, err := files.ReadNoLink(filepath.Join(dir, run.StatusFile), maxStatus)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return v, false, err
	}
	if err == nil {
		if err := json.Unmarshal(text, &v.Status); err != nil {
			return v, false, &hintError{fmt.Errorf("read %s: %w", filepath.Join(dir, run.StatusFile), err), "is the daemon of another version? restart it"}
		}
	}
	p := &v.Process
	switch {
	case held && holder != 0 && holder != p.PID, held && p.PID == 0: // PID 0: nothing, or of an earlier version
		return silentDaemon(holder), true, nil
	case p.PID == 0, lockErr == nil && !held:
		return v, false, errNotRunning()
	}
	switch v.Now.Process, err = p.State(); v.Now.Process {
	case instance.Gone:
		return v, false, errNotRunning()
	case instance.Hidden:
		return v, false, &hintError{fmt.Errorf("whether nfguard[%d] runs can't be told from here: %w", p.PID, err), "run nfguard status as root, on the host itself"}
	case instance.Running, instance.Stopped, instance.Frozen:
	}
	return v, false, nil
}

// silentDaemon is the view of a daemon that holds the lock and has published nothing.
func silentDaemon(pid int) statusView {
	v := statusView{Status: daemon.Starting(instance.Process{PID: pid})}
	v.Version, v.Started = "of unknown version", time.Time{}
	v.Sentence = fmt.Sprintf("nfguard[%d] runs and has published nothing", pid)
	v.Now = statusNow{Time: time.Now(), Process: instance.Running, Sysctls: []daemon.Sysctl{}, Problems: []string{v.Sentence}, Unread: "it is not known which are guarded"}
	return v
}

// assess adds what the daemon can't tell of itself, and how the sysctls are now.
func (v *statusView) assess() {
	now, clock := &v.Now, monotonic.Nano()/1000
	now.Time, now.Problems = time.Now(), []string{}
	if v.Look.Ended != 0 {
		age := max(float64(clock-v.Look.Ended)/1e6, 0)
		now.LookAge = &age
	}
	switch now.Process {
	case instance.Stopped:
		now.Problems = append(now.Problems, fmt.Sprintf("nfguard[%d] is stopped, and corrects and records nothing: kill -CONT %d has it go on", v.PID, v.PID))
	case instance.Frozen:
		now.Problems = append(now.Problems, fmt.Sprintf("nfguard[%d] is frozen, and corrects and records nothing: systemctl thaw nfguard has it go on", v.PID))
	case instance.Running, instance.Gone, instance.Hidden:
	}
	if v.Look.LateAt != 0 && clock > v.Look.LateAt && !v.Look.Late {
		since := v.Started
		if now.LookAge != nil {
			since = now.Time.Add(-time.Duration(*now.LookAge * float64(time.Second)))
		}
		now.Problems = append(now.Problems, "no look has ended for "+words.Short(now.Time.Sub(since)))
	}
	v.readSysctls()
	if len(now.Problems) > 0 {
		v.State = "degraded"
		v.Sentence = fmt.Sprintf("%s; nfguard said at %s: %s", strings.Join(now.Problems, "; "), v.Written.Local().Format(time.TimeOnly), v.Sentence)
	}
}

// If the daemon works, it puts a foreign value right within the resync interval.
const (
	corrected = 1500 * time.Millisecond
	lookAgain = 50 * time.Millisecond
)

// readSysctls reads the guarded sysctls. If the daemon should put wrong ones right, it
// waits a moment for that.
func (v *statusView) readSysctls() {
	v.Now.Sysctls = []daemon.Sysctl{}
	if len(v.Sysctls) == 0 {
		return
	}
	if !v.Process.SameNetwork() {
		v.Now.Unread = "this command is in another network namespace than the daemon"
		return
	}
	machine := host.New(host.Options{})
	defer machine.Close()
	patient := v.Now.Process == instance.Running && v.Mode != string(guard.Observe) && v.Pause == nil
	for deadline := time.Now().Add(corrected); ; time.Sleep(lookAgain) {
		var wrong []string
		v.Now.Sysctls = v.Now.Sysctls[:0]
		for _, s := range v.Sysctls {
			if s.Verdict == guard.Excused {
				continue
			}
			told := s.Verdict == guard.Wrong || s.Verdict == guard.Blocked
			read(machine, &s)
			v.Now.Sysctls = append(v.Now.Sysctls, s)
			if s.Verdict == guard.Wrong && !told {
				wrong = append(wrong, fmt.Sprintf("%s is %s, wanted %s", s.Key, s.Have, s.Want))
			}
		}
		if len(wrong) == 0 {
			return
		}
		if !patient || time.Now().After(deadline) {
			v.Now.Problems = append(v.Now.Problems, wrong...)
			return
		}
	}
}

// read reads s and judges its current value.
func read(machine *host.Linux, s *daemon.Sysctl) {
	value, _ := machine.Value(s.Key)
	switch s.Have = value.Have; value.State {
	case guard.Unknown:
		s.Verdict = guard.Uncertain
	case guard.Absent:
		s.Have, s.Verdict = "absent", guard.Wrong
	case guard.Present:
		s.Verdict = guard.Wrong
		if guard.SameValue(s.Have, s.Want) {
			s.Verdict = guard.Right
		}
	}
}

// line describes the sysctls in one line.
func (n *statusNow) line() string {
	if n.Unread != "" {
		return "the sysctls were not read now: " + n.Unread
	}
	right, unread := 0, 0
	for _, s := range n.Sysctls {
		switch s.Verdict { //nolint:exhaustive // those of read
		case guard.Right:
			right++
		case guard.Uncertain:
			unread++
		}
	}
	line := fmt.Sprintf("read now: %d of %s as wanted", right, words.Count(len(n.Sysctls), "sysctl"))
	if unread > 0 {
		line += fmt.Sprintf(", %d could not be read", unread)
	}
	return line
}
