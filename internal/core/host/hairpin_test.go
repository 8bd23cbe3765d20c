package host

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// A port has lost what it had for a while; what a plugin sets right after it has
// added a port takes nothing away.
func TestHairpinsAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h hairpins
		look := func(whole bool, in []int, out ...int) (lost []int) {
			b := guard.Bridge{Name: "cni0", InHairpin: in}
			for _, index := range out {
				b.NoHairpin = append(b.NoHairpin, guard.Port{Index: index})
			}
			list := []guard.Bridge{b}
			h.follow(list, whole)
			for _, p := range list[0].NoHairpin {
				if p.Lost {
					lost = append(lost, p.Index)
				}
			}
			return lost
		}
		want := func(when string, lost []int, n int) {
			t.Helper()
			if len(lost) != n || len(h.seen) == 0 && n > 0 {
				t.Errorf("%s: %v", when, lost)
			}
		}
		want("new ones", look(true, []int{1}, 2, 3), 0)
		h.note(2)
		want("right after that", look(false, []int{1}, 2, 3), 0)
		time.Sleep(settles)
		want("a while later", look(false, []int{1}, 2, 3), 1)
		want("of a look at all", look(true, nil, 1, 2, 3), 2)
		want("they have gone", look(true, []int{3}), 0)
		want("others come", look(true, []int{3}, 1, 2), 0)
		if len(h.seen) != 1 {
			t.Errorf("what has gone is remembered: %v", h.seen)
		}
	})
}
