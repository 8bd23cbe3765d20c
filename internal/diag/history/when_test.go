package history

import (
	"testing"
	"time"
)

func TestParseWhen(t *testing.T) {
	cet := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 23, 15, 4, 5, 0, cet)
	tests := []struct{ in, want string }{
		{"now", "2026-11-23T15:04:05+01:00"},
		{"today", "2026-11-23T00:00:00+01:00"},
		{" yesterday ", "2026-11-22T00:00:00+01:00"},
		{"2026-11-01", "2026-11-01T00:00:00+01:00"},
		{"2026-11-01 02:03", "2026-11-01T02:03:00+01:00"},
		{"2026-11-01 02:03:04", "2026-11-01T02:03:04+01:00"},
		{"2026-11-01T02:03:04", "2026-11-01T02:03:04+01:00"},
		{"2026-11-01T02:03:04.5Z", "2026-11-01T02:03:04.5Z"},
		{"@1795405977", "2026-11-23T04:52:57+01:00"},
		{"@1795405977.615309", "2026-11-23T04:52:57.615309+01:00"},
		{"90m", "2026-11-23T13:34:05+01:00"},
		{"-90m", "2026-11-23T13:34:05+01:00"},
		{"1h30m ago", "2026-11-23T13:34:05+01:00"},
		{"7d", "2026-11-16T15:04:05+01:00"},
		{"0.5d", "2026-11-23T03:04:05+01:00"},
		{"2w", "2026-11-09T15:04:05+01:00"},
		{"", ""},
		{"tomorrow", ""},
		{"7", ""},
		{"d", ""},
		{"--7d", ""},
		{"NaNd", ""},
		{"1e99d", ""},
		{"--1h", ""},
		{"2026-13-01", ""},
		{"@x", ""},
		{"@1.x", ""},
		{"@1.-5", ""},
		{"@1.0123456789", ""},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseWhen(tt.in, now)
			if tt.want == "" {
				if err == nil {
					t.Errorf("want an error, got %v", got)
				}
				return
			}
			if err != nil || got.Format(time.RFC3339Nano) != tt.want {
				t.Errorf("want %s, got %v, %v", tt.want, got, err)
			}
		})
	}
}

func TestFilter(t *testing.T) {
	at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	r := &Record{Time: at, Event: "drift", Outcome: "corrected", Subject: "/etc/sysctl.d/99-zz-nfguard.conf"}
	tests := []struct {
		name string
		f    Filter
		want bool
	}{
		{"everything", Filter{}, true},
		{"from that moment on, to that moment", Filter{Since: at, Until: at}, true},
		{"later", Filter{Since: at.Add(1)}, false},
		{"earlier", Filter{Until: at.Add(-1)}, false},
		{"one of its kinds", Filter{Events: Kinds()}, true},
		{"another kind", Filter{Events: Kinds()[1:]}, false},
		{"its outcome", Filter{Outcomes: Outcomes()}, true},
		{"another outcome", Filter{Outcomes: Outcomes()[1:]}, false},
		{"its subject", Filter{Subjects: []string{"x", r.Subject}}, true},
		{"a pattern, over slashes", Filter{Subjects: []string{"*nfguard*"}}, true},
		{"another subject", Filter{Subjects: []string{"/etc"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.f.Wants(r); got != tt.want {
				t.Errorf("want %v, got %v", tt.want, got)
			}
		})
	}
	if err := (&Filter{Subjects: []string{"a", "[b"}}).Check(); err == nil {
		t.Error("a pattern that is not well-formed is no error")
	}
}
