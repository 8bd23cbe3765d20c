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
