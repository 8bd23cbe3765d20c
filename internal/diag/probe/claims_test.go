package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestJudgeOfAWorld: what a world says that takes over what this host drops, or does
// not take over what it depends on.
func TestJudgeOfAWorld(t *testing.T) {
	works := cells(IPv4, Answered, Answered, Answered, Answered, Answered)
	silent := cells(IPv4, TimedOut, TimedOut, Answered, Answered, Answered)
	const answer = "a pod that calls a Service with an endpoint on its own node gets the answer from the cluster IP (IPv4)"
	const nothing = "IPv4 UDP bridged, cluster IP 203.0.113.3:7: no answer within 300ms, and the pod behind it, 192.0.2.3:7, was not reached either: this says nothing about Services"
	for name, tt := range map[string]struct {
		s     Settings
		cells []Cell
		want  Judgement
	}{
		"as on this host":             {Settings{}, works, Judgement{Verdict: Works, Meaning: answer}},
		"FORWARD drops":               {Settings{Dropped: Dropped{IPv4: "the policy of FORWARD"}}, silent, Judgement{Verdict: Broken, Meaning: "a pod reaches neither another on its own node nor a Service with an endpoint there (IPv4): FORWARD drops what it sends, as on this host (the policy of FORWARD)"}},
		"FORWARD drops IPv6":          {Settings{Dropped: Dropped{IPv6: "the policy of FORWARD"}}, silent, Judgement{Verdict: Unknown, Meaning: nothing}},
		"it is apart":                 {Settings{Apart: "rp_filter"}, works, Judgement{Verdict: Works, Meaning: answer + "; the world of the probe routes and filters nothing itself: rp_filter"}},
		"it is apart, and that fails": {Settings{Apart: "rp_filter", ApartFails: true}, works, Judgement{Verdict: Unknown, Meaning: answer + "; the world of the probe routes and filters nothing itself: rp_filter"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.s.judge(tt.cells)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestNoIPv6: why there is none, by the key.
func TestNoIPv6(t *testing.T) {
	boom := errors.New("boom")
	for name, tt := range map[string]struct {
		off  string
		err  error
		want string
		fail error
	}{
		"it is on":       {"0\n", nil, "", nil},
		"it is off":      {"1\n", nil, "net.ipv6.conf.all.disable_ipv6 is 1", nil},
		"no key":         {"", fmt.Errorf("open: %w", fs.ErrNotExist), "this kernel has no IPv6, or was booted without it", nil},
		"it is not read": {"", boom, "", boom},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := noIPv6(tt.off, tt.err); got != tt.want || !errors.Is(err, tt.fail) {
				t.Errorf("it says %q, %v; want %q, %v", got, err, tt.want, tt.fail)
			}
		})
	}
}

// TestWhat: an answer in words.
func TestWhat(t *testing.T) {
	wrong, silent := cells(IPv4, Answered, WrongSource, Answered, Answered, Answered), cells(IPv4, Answered, TimedOut, Answered, Answered, Answered)
	for name, tt := range map[string]struct {
		a    Answer
		want string
	}{
		"answered":     {wrong[0].Answer, "answered"},
		"wrong source": {wrong[1].Answer, "reply from 192.0.2.3:7"},
		"silence":      {silent[1].Answer, "no answer within 300ms"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.a.What(); got != tt.want {
				t.Errorf("it says %q, want %q", got, tt.want)
			}
		})
	}
}
