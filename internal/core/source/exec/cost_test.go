package exec

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/test/lab"
)

// BenchmarkOthers is what it costs that processes of other names start, 2,000
// a second, by another process. The aim is under 0.2 % of a core with BPF and
// under 1 % with the connector, which is not listened to all the time then:
//
//	go test -run - -bench Others -benchtime 40000x ./internal/core/source/exec
func BenchmarkOthers(b *testing.B) {
	lab.Need(b, lab.Root)
	const rate = 2000
	forker := filepath.Join(b.TempDir(), "forker")
	gcc := exec.Command(lab.Tool(b, lab.Root, "gcc"), "-O2", "-Wall", "-Wextra", "-static", "-o", forker, "../../../../test/bench/forker.c")
	if out, err := gcc.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	run := func(b *testing.B) {
		before, began := processorTime(b), time.Now()
		out, err := exec.Command(forker, forker, strconv.Itoa(rate), strconv.Itoa(b.N)).CombinedOutput()
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		cpu, wall := processorTime(b)-before, time.Since(began)
		b.ReportMetric(100*cpu.Seconds()/wall.Seconds(), "%core")
		b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/start")
		b.ReportMetric(float64(b.N)/wall.Seconds(), "starts/s")
	}
	b.Run("nobody", run)
	for _, w := range []way{bpf, connector} {
		b.Run(w.short, func(b *testing.B) {
			need(b, w)
			ctx, cancel := context.WithCancel(b.Context())
			s := New(Options{Names: []string{"kube-proxy", "k3s", "k3s-server", "k3s-agent", "rke2", "k0s", "kubelite"}})
			s.ways = []way{w}
			subscribed, done := make(chan struct{}), make(chan error)
			first := sync.OnceFunc(func() { close(subscribed) }) // a machine may have a kube-proxy
			go func() {
				done <- s.Run(ctx, func(source.Hint) { first() })
			}()
			select {
			case <-subscribed:
			case err := <-done:
				b.Fatal(err)
			}
			run(b)
			cancel()
			if err := <-done; err != nil {
				b.Error(err)
			}
		})
	}
}

// processorTime is what this process has used, its children excepted.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
