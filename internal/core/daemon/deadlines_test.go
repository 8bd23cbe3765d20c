package daemon

import (
	"testing"
	"time"
)

func TestDeadlines(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1000, 0).Add(time.Duration(s) * time.Second) }
	none := time.Time{}
	for _, tt := range []struct {
		name         string
		set          func(*deadlines)
		due, not     []deadline // at second 5
		upkeep, next time.Time
	}{
		{"nothing is set", func(*deadlines) {}, nil, []deadline{passAnyway, publish}, none, none},
		{
			"some are due, one just now",
			func(d *deadlines) { d.Set(publish, at(5)); d.Set(passAnyway, at(3)); d.Set(feedWatchdog, at(6)) },
			[]deadline{publish, passAnyway},
			[]deadline{feedWatchdog, passForHints},
			at(5), at(3),
		},
		{
			"a pass waits for the end of a look",
			func(d *deadlines) { d.Set(passAnyway, at(3)) },
			[]deadline{passAnyway},
			nil, none, at(3),
		},
		{
			"set again, later",
			func(d *deadlines) { d.Set(readConfiguration, at(1)); d.Set(readConfiguration, at(9)) },
			nil,
			[]deadline{readConfiguration},
			none, at(9),
		},
		{
			"sooner than nothing",
			func(d *deadlines) { d.Sooner(publish, at(7)) },
			nil,
			[]deadline{publish},
			at(7), at(7),
		},
		{
			"sooner, and then not",
			func(d *deadlines) { d.Set(publish, at(7)); d.Sooner(publish, at(5)); d.Sooner(publish, at(8)) },
			[]deadline{publish},
			nil, at(5), at(5),
		},
		{
			"sooner by nothing",
			func(d *deadlines) { d.Set(publish, at(7)); d.Sooner(publish, none) },
			nil,
			[]deadline{publish},
			at(7), at(7),
		},
		{
			"cleared",
			func(d *deadlines) {
				d.Set(publish, at(1))
				d.Clear(publish)
				d.Set(tellWork, at(2))
				d.Set(tellWork, none)
			},
			nil,
			[]deadline{publish, tellWork},
			none, none,
		},
		{
			"nobody wakes for these",
			func(d *deadlines) { d.Set(lookAtSysctls, at(1)); d.Set(hearOfWrites, at(1)); d.Set(lookAtAll, at(1)) },
			[]deadline{lookAtSysctls, hearOfWrites, lookAtAll},
			nil, none, none,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d deadlines
			tt.set(&d)
			for _, n := range tt.due {
				if !d.Due(n, at(5)) {
					t.Errorf("%d is not due", n)
				}
			}
			for _, n := range tt.not {
				if d.Due(n, at(5)) {
					t.Errorf("%d is due", n)
				}
			}
			if got := d.NextOfUpkeep(); !got.Equal(tt.upkeep) {
				t.Errorf("the next of upkeep is at %v, want %v", got, tt.upkeep)
			}
			if got := d.Next(); !got.Equal(tt.next) {
				t.Errorf("the next is at %v, want %v", got, tt.next)
			}
		})
	}
}
