package instance

import "testing"

func TestOther(t *testing.T) {
	for _, tt := range []struct {
		name          string
		network, init uint64
		release       string
		want          bool
	}{
		{"the host, 6.18", 4026531833, 0, "6.18.5", false},
		{"the host, 5.10", 4026531992, 4026531992, "5.10.0-30-amd64", false},
		{"another network, 5.10", 4026532243, 4026531992, "5.10.0-30-amd64", true},
		{"another network, and PID 1 cannot be looked at, 6.18", 4026532243, 0, "6.18.5", true},
		{"PID 1 cannot be looked at, 6.1", 4026531992, 0, "6.1.0-18", false},
	} {
		if got := other(tt.network, tt.init, tt.release); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}
