package rules

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/kernel/netfilter"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// fakeNews has a queue of transactions, as a socket has.
type fakeNews struct {
	queue   chan error // nil: a transaction
	commit  nfnl.Commit
	renewed int
}

func (f *fakeNews) Next(ctx context.Context) (nfnl.Commit, error) {
	select {
	case err := <-f.queue:
		return f.commit, err
	case <-ctx.Done():
		return nfnl.Commit{}, ctx.Err()
	}
}

func (f *fakeNews) Renew() error {
	f.renewed++
	for len(f.queue) > 0 {
		<-f.queue
	}
	return nil
}

func TestWithout(t *testing.T) {
	rules := func(r ...netfilter.Rules) []netfilter.Rules { return r }
	var (
		v4   = netfilter.Rules{Mode: netfilter.IPTables, Backend: netfilter.NFT, IPv4: true}
		v6   = netfilter.Rules{Mode: netfilter.IPTables, Backend: netfilter.NFT, IPv6: true}
		both = netfilter.Rules{Mode: netfilter.IPTables, Backend: netfilter.NFT, IPv4: true, IPv6: true}
		nft  = netfilter.Rules{Mode: netfilter.NFTables, IPv4: true}
	)
	for name, tt := range map[string]struct{ a, b, want []netfilter.Rules }{
		"nothing":        {},
		"the same":       {rules(both, nft), rules(both, nft), nil},
		"a family more":  {rules(both), rules(v4), rules(v6)},
		"a family less":  {rules(v4), rules(both), nil},
		"another family": {rules(v4), rules(v6), rules(v4)},
		"another mode":   {rules(v4), rules(nft), rules(v4)},
		"one of two":     {rules(both, nft), rules(both), rules(nft)},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, without(tt.a, tt.b)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestPace commits every millisecond for a minute, and makes the change that
// counts in the very last transaction.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks, there int
		var hints []source.Hint
		news := &fakeNews{queue: make(chan error, 300), commit: nfnl.Commit{Comm: "nft"}}
		f := follower{
			news: news,
			hint: func(h source.Hint) { hints = append(hints, h) },
			look: func() ([]netfilter.Rules, error) {
				looks++
				return []netfilter.Rules{{Mode: netfilter.NFTables, IPv4: true, IPv6: there > 0}}[:there], nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.follow(ctx) }()

		news.queue <- nil
		synctest.Wait()
		if looks != 1 {
			t.Errorf("%d looks after the first transaction", looks)
		}
		start := time.Now()
		for time.Since(start) < time.Minute {
			time.Sleep(time.Millisecond)
			select {
			case news.queue <- nil:
			default:
				t.Fatal("the queue is full")
			}
		}
		synctest.Wait()
		there = 1
		news.queue <- nil
		time.Sleep(between + time.Second)
		synctest.Wait()
		if most := burst + int(time.Minute/between) + 10; looks > most || looks < most-20 {
			t.Errorf("%d looks in a minute, want about %d", looks, most)
		}
		if len(hints) != 1 || hints[0].Reason != "kube-proxy's rules appeared: nftables mode, IPv4 and IPv6" || hints[0].Writer != (record.Process{}) {
			t.Errorf("hints %+v", hints)
		}

		before := looks
		time.Sleep(time.Minute)
		there = 0
		news.queue <- nil
		synctest.Wait()
		if looks != before+1 {
			t.Errorf("%d looks for one transaction after a quiet minute", looks-before)
		}
		if len(hints) != 2 || hints[1].Reason != "kube-proxy's rules were removed: nftables mode, IPv4 and IPv6" || hints[1].Writer.Comm != "nft" {
			t.Errorf("hints %+v", hints)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// TestErrors: lost news is looked after, with nobody named; anything else is
// the end.
func TestErrors(t *testing.T) {
	broken := errors.New("broken")
	news := &fakeNews{queue: make(chan error, 9), commit: nfnl.Commit{PID: os.Getpid(), Comm: "x"}}
	there, fail := true, false
	var hints []source.Hint
	f := follower{
		news: news,
		hint: func(h source.Hint) { hints = append(hints, h); there = false; news.queue <- broken },
		look: func() ([]netfilter.Rules, error) {
			if fail {
				return nil, broken
			}
			return []netfilter.Rules{{Mode: netfilter.IPVS, Backend: netfilter.NFT, IPv4: there}}, nil
		},
	}
	news.queue <- fmt.Errorf("wrapped: %w", unix.ENOBUFS)
	if err := f.follow(t.Context()); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if len(hints) != 1 || hints[0].Reason != "kube-proxy's rules appeared: ipvs mode (nf_tables), IPv4" || hints[0].Writer.PID != 0 || news.renewed != 1 {
		t.Errorf("hints %+v, renewed %d times", hints, news.renewed)
	}
	news.queue <- nil
	fail = true
	if err := f.follow(t.Context()); !errors.Is(err, broken) {
		t.Errorf("a look that fails: %v", err)
	}
}

func TestModuleFilter(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	filter := rtnl.StartsWith(loaded)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(pair[1], unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]bool{
		"add@/module/nf_tables\x00ACTION=add\x00":        true,
		"add@/module/nf_tables":                          false,
		"add@/module/nf_tables_set\x00ACTION=add\x00":    false,
		"add@/module/nf_nat\x00ACTION=add\x00SUBSYS\x00": false,
		"remove@/module/nf_tables\x00":                   false,
	} {
		if _, err := unix.Write(pair[0], []byte(in)); err != nil && !errors.Is(err, unix.EPERM) {
			t.Fatalf("send %q: %v", in, err)
		}
		_, err := unix.Read(pair[1], make([]byte, 1))
		if got := err == nil; got != want {
			t.Errorf("%q passes: %t", in, got)
		}
	}
}
