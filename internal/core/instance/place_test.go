package instance

import "testing"

func TestElsewhere(t *testing.T) {
	const container, network = "this is a container: its sysctls and files need not be the host's", "this is not the host's network namespace, and its sysctls are others"
	for _, tt := range []struct {
		name               string
		pid, network, init uint64
		release, want      string
	}{
		{"the host, 6.18", hostPID, 4026531833, 0, "6.18.5", ""},
		{"the host, 5.10", hostPID, 4026531992, 4026531992, "5.10.0-30-amd64", ""},
		{"another network, 5.10", hostPID, 4026532243, 4026531992, "5.10.0-30-amd64", network},
		{"another network, and PID 1 cannot be looked at, 6.18", hostPID, 4026532243, 0, "6.18.5", network},
		{"PID 1 cannot be looked at, 6.1", hostPID, 4026531992, 0, "6.1.0-18", ""},
		{"a container", 4026532240, 4026532243, 4026532243, "6.1.0", container},
		{"a container with the host's network", 4026532240, 4026531833, 4026531833, "6.18.0", container},
	} {
		if got := elsewhere(tt.pid, tt.network, tt.init, tt.release); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
