package proc_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// BenchmarkNative looks through the machine's processes and 500 more.
func BenchmarkNative(b *testing.B) {
	const more = 500
	for range more {
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if e.Name()[0] <= '9' {
			n++
		}
	}
	names := proc.NewNames([]string{"kube-proxy", "k3s", "k3s-server", "k3s-agent", "rke2", "k0s", "kubelite"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := names.Native("/proc"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/process")
}

func BenchmarkRead(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		proc.Read(os.Getpid())
	}
}
