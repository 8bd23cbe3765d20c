package monotonic_test

import (
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/kernel/monotonic"
)

func TestTime(t *testing.T) {
	for range 1000 {
		p := monotonic.Now()
		before, nano, after := time.Now(), monotonic.Nano(), time.Now()
		got := p.Time(nano)
		if slack := time.Millisecond; got.Before(before.Add(-slack)) || got.After(after.Add(slack)) {
			t.Fatalf("a moment between %v and %v is %v", before, after, got)
		}
	}
}
