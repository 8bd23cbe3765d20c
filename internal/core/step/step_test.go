package step_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/step"
)

func TestStepIsOfItsWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mine, other step.Current
		ctx := step.Follow(t.Context(), &mine)
		if mine.Now() != nil {
			t.Errorf("before the first step, want none, got %v", mine.Now())
		}
		step.Begin(ctx, "reading a")
		time.Sleep(time.Second)
		step.Begin(step.Follow(t.Context(), &other), "reading b")
		step.Begin(t.Context(), "reading c") // nobody follows
		want := &step.Step{What: "reading a", Since: time.Now().Add(-time.Second)}
		if diff := cmp.Diff(want, mine.Now()); diff != "" {
			t.Errorf("step (-want +got):\n%s", diff)
		}
		if mine.Reset(); mine.Now() != nil {
			t.Errorf("after Reset, want none, got %v", mine.Now())
		}
	})
}
