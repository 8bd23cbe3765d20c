package rules

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/source/sourcetest"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/test/kubeproxy/standin"
	"github.com/nfguard/nfguard/test/lab"
)

// start runs a source in ns until the test ends; its first hint has to have the
// reason given.
func start(t *testing.T, ns *lab.Namespace, first string) sourcetest.Subscription {
	t.Helper()
	sub := sourcetest.Run(t, New(time.Minute), ns.Go)
	sub.First(t, first)
	return sub
}

func shell(t *testing.T, ns *lab.Namespace, script string) {
	t.Helper()
	ns.Run(t, "sh", "-ec", "PATH=$PATH:/usr/sbin:/sbin\n"+script)
}

// settle makes a change that is always hinted at, and undoes it. It returns
// the reasons of the hints before it, without their beginning.
func settle(t *testing.T, ns *lab.Namespace, sub sourcetest.Subscription) []string {
	t.Helper()
	var before []string
	until := func(last string) {
		for {
			reason := strings.TrimPrefix(sub.Next(t).Reason, "kube-proxy's rules ")
			if reason == last {
				return
			}
			before = append(before, reason)
		}
	}
	shell(t, ns, "nft add table ip6 kube-proxy; nft add chain ip6 kube-proxy end")
	until("appeared: nftables mode, IPv6")
	shell(t, ns, "nft delete table ip6 kube-proxy")
	until("were removed: nftables mode, IPv6")
	return before
}

func TestHints(t *testing.T) {
	ns := lab.NewNamespace(t)
	sub := start(t, ns, "subscribed: nf_tables news")
	for _, tt := range []struct {
		script string
		want   []string
	}{
		{"iptables-nft -t nat -N KUBE-SERVICES", nil}, // empty
		{"iptables-nft -t nat -A KUBE-SERVICES -j RETURN", []string{"appeared: iptables mode (nf_tables), IPv4"}},
		{"iptables-nft -t nat -A KUBE-SERVICES -j RETURN; iptables-nft -t nat -N DOCKER", nil},
		{"nft add table inet firewalld; nft delete table inet firewalld", nil},
		{"ip6tables-nft -t nat -N KUBE-SERVICES; ip6tables-nft -t nat -A KUBE-SERVICES -j RETURN", []string{"appeared: iptables mode (nf_tables), IPv6"}},
		{"iptables-legacy -t nat -N KUBE-SERVICES; iptables-legacy -t nat -A KUBE-SERVICES -j RETURN", nil},
		{"ip link add kube-ipvs0 type bridge; nft add table ip x", []string{
			"were removed: iptables mode (nf_tables), IPv4 and IPv6", "appeared: ipvs mode (nf_tables), IPv4 and IPv6",
		}},
		{"nft flush ruleset", []string{"were removed: ipvs mode (nf_tables), IPv4 and IPv6"}},
	} {
		shell(t, ns, tt.script)
		if diff := cmp.Diff(tt.want, settle(t, ns, sub)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.script, diff)
		}
	}
}

func TestStatusNamesLegacyTables(t *testing.T) {
	ns := lab.NewNamespace(t)
	shell(t, ns, "iptables-legacy -t nat -L")
	start(t, ns, "subscribed: nf_tables news, legacy tables every 1m")
}

// TestStandIn sees a kube-proxy come, go and come again. Its rules are written
// by programs that it runs; while they live they can be named.
func TestStandIn(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	path := standin.Build(t)
	for mode, want := range map[string]struct{ rules, comm string }{
		"iptables": {"iptables mode (nf_tables)", "tables"},
		"nftables": {"nftables mode", "nft"},
	} {
		t.Run(mode, func(t *testing.T) {
			ns := lab.NewNamespace(t)
			sub := start(t, ns, "subscribed: nf_tables news")
			check := func(did string) {
				t.Helper()
				h := sub.Next(t)
				if want := "kube-proxy's rules " + did + ": " + want.rules + ", IPv4"; h.Reason != want {
					t.Errorf("hint %q, want %q", h.Reason, want)
				}
				if h.Writer.PID == 0 || !strings.Contains(h.Writer.Comm, want.comm) {
					t.Errorf("%s: writer %+v", did, h.Writer)
				}
			}
			args := []string{"-mode=" + mode, "-family=ipv4"} // families follow each other too closely
			p := standin.Start(t, ns, path, args...)
			check("appeared")
			p.Stop(t)
			ns.Run(t, path, append(args, "-cleanup")...)
			check("were removed")
			p = standin.Start(t, ns, path, append(args, "-resync=1ms")...)
			if got, want := sub.Next(t).Reason, "kube-proxy's rules appeared: "+want.rules+", IPv4"; got != want {
				t.Errorf("started again: hint %q, want %q", got, want)
			}
			p.AwaitSync(t)
			p.AwaitSync(t)
			if got := settle(t, ns, sub); got != nil {
				t.Errorf("resyncs woke us: %q", got)
			}
		})
	}
}

// TestWriter is named wholly if it still runs.
func TestWriter(t *testing.T) {
	ns := lab.NewNamespace(t)
	sub := start(t, ns, "subscribed: nf_tables news")
	cmd := ns.Command("nft", "-i")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	fmt.Fprintln(in, "add table ip kube-proxy { chain services { accept; }; }")
	h := sub.Next(t)
	want := source.ReadWriter(cmd.Process.Pid)
	if h.Writer != want || want.Comm != "nft" || want.Exe == "" {
		t.Errorf("writer %+v, want %+v", h.Writer, want)
	}
}

// TestFlood replaces ten thousand rules ten times, and counts what that costs
// the source.
func TestFlood(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	ns := lab.NewNamespace(t)
	path := standin.Build(t)
	// 2,500 Services of one family are 10,000 rules.
	flood := []string{"-mode=nftables", "-family=ipv4", "-services=2500", "-resync=1ms", "-syncs=11"}

	var news *nfnl.Subscription
	var err error
	ns.Do(func() { news, err = nfnl.Subscribe() }) // counts datagrams
	if err != nil {
		t.Fatal(err)
	}
	defer news.Close()
	sub := start(t, ns, "subscribed: nf_tables news")
	began := time.Now()
	p := standin.Start(t, ns, path, flood...)
	cpu := ownCPU()
	for range 10 {
		p.AwaitSync(t)
	}
	cpu, took := ownCPU()-cpu, time.Since(began)
	if h := sub.Next(t); h.Reason != "kube-proxy's rules appeared: nftables mode, IPv4" {
		t.Errorf("hint %+v", h)
	}
	select {
	case h := <-sub.Hints:
		t.Errorf("a hint about a resync: %+v", h)
	default:
	}

	datagrams := 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := news.Next(ctx)
		cancel()
		if err != nil {
			break
		}
		datagrams++
	}
	if datagrams != 11 {
		t.Errorf("%d datagrams for 11 transactions", datagrams)
	}
	share := 100 * cpu.Seconds() / took.Seconds()
	t.Logf("%d datagrams; %v of processor time in %v: %.3f %% of a core (with this test's own)", datagrams, cpu, took, share)
	if share > 1 {
		t.Errorf("%.2f %% of a core, want less than 1 %%", share)
	}
}

// ownCPU is the processor time of this process.
func ownCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestStorm commits small transactions as fast as nft can, more than the pace
// lets pass at once; the change at its end is not lost.
func TestStorm(t *testing.T) {
	ns := lab.NewNamespace(t)
	sub := start(t, ns, "subscribed: nf_tables news")
	shell(t, ns, `for i in $(seq 300); do nft "add table ip t; delete table ip t"; done
		nft "add table ip kube-proxy { chain services { accept; }; }"`)
	if h := sub.Next(t); h.Reason != "kube-proxy's rules appeared: nftables mode, IPv4" {
		t.Errorf("hint %+v", h)
	}
}

func TestWithoutCapability(t *testing.T) {
	ns := lab.NewNamespace(t)
	done := make(chan error)
	ns.Go(func() {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capset(&header, &data[0]); err != nil {
			t.Error(err)
		}
		done <- New(time.Minute).Run(t.Context(), func(h source.Hint) { t.Errorf("hint %+v", h) })
	})
	if err := <-done; !errors.Is(err, unix.EPERM) {
		t.Errorf("error %v, want EPERM", err)
	}
}

func TestRunLeavesNothing(t *testing.T) {
	ns := lab.NewNamespace(t)
	sourcetest.LeavesNothing(t, func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		ns.Go(func() { done <- New(time.Minute).Run(ctx, func(source.Hint) { cancel() }) })
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
