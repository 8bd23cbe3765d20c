package words

import (
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/core/record"
)

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                            "0s",
		84*time.Microsecond + 400:    "84µs",
		1234 * time.Microsecond:      "1.23ms",
		99_999 * time.Microsecond:    "100ms",
		123_456 * time.Microsecond:   "123ms",
		1_234_567 * time.Microsecond: "1.23s",
		9_999 * time.Millisecond:     "10s",
		71_600 * time.Millisecond:    "1m12s",
	} {
		if got := Short(d); got != want {
			t.Errorf("%d ns: want %s, got %s", d, want, got)
		}
	}
}

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Minute: "1m", 10 * time.Minute: "10m", 30 * time.Second: "30s", 90 * time.Second: "1m30s",
		time.Hour: "1h", 10 * time.Hour: "10h", 90 * time.Minute: "1h30m", 500 * time.Millisecond: "500ms", 0: "0s",
	} {
		if got := Brief(d); got != want {
			t.Errorf("Brief(%v) is %q, want %q", d, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 hosts", 1: "1 host", 2: "2 hosts"} {
		if got := Count(n, "host"); got != want {
			t.Errorf("want %s, got %s", want, got)
		}
	}
}

func TestWriter(t *testing.T) {
	tests := []struct {
		name string
		w    record.Process
		want string
	}{
		{"nobody was seen", record.Process{Comm: "x"}, ""},
		{"outside of units", record.Process{PID: 812, Comm: "tuned"}, "tuned[812]"},
		{"a service", record.Process{PID: 812, Comm: "tuned", Unit: "tuned.service"}, "tuned[812], tuned.service"},
		{"gone before its name was read", record.Process{PID: 812, Unit: "tuned.service"}, "process[812], tuned.service"},
		{"a container", record.Process{PID: 7, Comm: "sysctl", Unit: "cri-0123456789abcdef.scope", Container: "0123456789abcdef"}, "sysctl[7], container 0123456789ab"},
		{
			"a container of a pod",
			record.Process{PID: 7, Comm: "sysctl", Container: "c0", PodNamespace: "kube-system", PodName: "setup", ContainerName: "init"},
			"sysctl[7], pod kube-system/setup, container init",
		},
		{"a pod", record.Process{PID: 7, Comm: "sysctl", Container: "c0", PodNamespace: "kube-system", PodName: "setup"}, "sysctl[7], pod kube-system/setup"},
		{"a container with a short id", record.Process{PID: 7, Comm: "sysctl", Container: "c0"}, "sysctl[7], container c0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Writer(tt.w); got != tt.want {
				t.Errorf("want %q, got %q", tt.want, got)
			}
		})
	}
}
