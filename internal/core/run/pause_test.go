package run

import (
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/pause"
	"github.com/nfguard/nfguard/internal/kernel/monotonic"
)

// TestAsked: who asks is looked up while that process runs; after that, or where its PID
// is another's, its own word counts, and is said to be that.
func TestAsked(t *testing.T) {
	self, err := instance.Self()
	if err != nil {
		t.Fatal(err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	gone := self
	gone.PID = ended.Process.Pid
	another := self
	another.Ticks++
	for _, tt := range []struct {
		name string
		by   instance.Process
		want pause.Asker
	}{
		{"it waits for the answer", self, pause.Asker{PID: self.PID, Comm: self.Comm, UID: strconv.Itoa(os.Getuid()), Seen: true}},
		{"it has ended", gone, pause.Asker{PID: 1, Comm: "said", UID: "7"}},
		{"its PID is another's", another, pause.Asker{PID: 1, Comm: "said", UID: "7"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if a := asked(dir); a.Request != nil || a.Err != nil {
				t.Errorf("nothing is asked for: %+v", a)
			}
			if err := pause.Write(dir, &pause.Request{
				Schema: 1, Verb: pause.Pause, Boot: self.Boot, Asked: monotonic.Boot() / 1000, For: 1e6, Reason: "x", Process: tt.by,
				By: pause.Asker{PID: 1, Comm: "said", UID: "7", Seen: true},
			}); err != nil {
				t.Fatal(err)
			}
			a := asked(dir)
			if a.Err != nil {
				t.Fatal(a.Err)
			}
			got := a.Request.By
			if got.PID != tt.want.PID || got.Comm != tt.want.Comm || got.UID != tt.want.UID || got.Seen != tt.want.Seen {
				t.Errorf("want %+v, got %+v", tt.want, got)
			}
		})
	}
}
