package history

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

var errWhen = errors.New("no such time")

// ParseWhen reads a time as people write it: how long ago ("90m", "36h", "7d",
// "2w"), a day ("2026-11-23", "today", "yesterday"), a day and a time
// ("2026-11-23 03:52" or "…:57"), "now", seconds since 1970 ("@1795405977"
// or "@1795405977.25"), or RFC 3339. A time without a zone is in that of now.
func ParseWhen(s string, now time.Time) (time.Time, error) {
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch s = strings.TrimSpace(s); s {
	case "now":
		return now, nil
	case "today":
		return midnight, nil
	case "yesterday":
		return midnight.AddDate(0, 0, -1), nil
	}
	if digits, ok := strings.CutPrefix(s, "@"); ok {
		digits, fraction, _ := strings.Cut(digits, ".")
		sec, err := strconv.ParseInt(digits, 10, 40)
		if err != nil || len(fraction) > 9 {
			return time.Time{}, errWhen
		}
		nsec, err := strconv.ParseUint("0"+fraction+strings.Repeat("0", 9-len(fraction)), 10, 32)
		if err != nil {
			return time.Time{}, errWhen
		}
		return time.Unix(sec, int64(nsec)).In(now.Location()), nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime, "2006-01-02T15:04:05", time.RFC3339Nano} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	ago, err := parseAgo(strings.TrimPrefix(strings.TrimSuffix(s, " ago"), "-"))
	if err != nil {
		return time.Time{}, err
	}
	return now.Add(-ago), nil
}

// parseAgo reads a duration. A day has 24 hours, a week 168.
func parseAgo(s string) (time.Duration, error) {
	for unit, hours := range map[string]float64{"d": 24, "w": 7 * 24} {
		if digits, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseFloat(digits, 64)
			if err != nil || !(n >= 0 && n*hours < maxDuration.Hours()) {
				return 0, errWhen
			}
			return time.Duration(n * hours * float64(time.Hour)), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxDuration {
		return 0, errWhen
	}
	return d, nil
}
