package keep

import (
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/record"
)

// Pause has what is wrong from now on left as it is, and recorded as
// [record.Paused], or corrected again from the next look on. The drop-ins are kept
// all the same: a pause is of this boot.
func (k *Keeper) Pause(on bool) {
	k.account.paused = on
	k.bridges.setRules()
}

// acts reports whether what is wrong is put right.
func (a *account) acts() bool { return a.mode != guard.Observe && !a.paused }

// unacted is the outcome of what is left as it is because nothing is put right.
func (a *account) unacted() record.Outcome {
	if a.mode != guard.Observe && a.paused {
		return record.Paused
	}
	return record.Observed
}

// whyLeft says why something of that outcome was left so.
func whyLeft(o record.Outcome) string {
	if o == record.Paused {
		return "left so: nfguard is paused"
	}
	return "left so in mode observe"
}

// countsAgain reports whether e puts right what a pause had left so, which was
// counted as a drift then.
func countsAgain(e *record.Event) bool { return e.Source == record.CausePause }
