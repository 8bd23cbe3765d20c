// Package rules tells when kube-proxy's rules appear in nf_tables and when they
// go, whoever writes them: kube-proxy in its mode nftables, or in the others by
// iptables-nft. It is woken once by each transaction, however large, and hints
// only at a change of that picture. Changes of iptables-legacy are told to
// nobody: an audit finds those.
package rules

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/record"
	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/kernel/netfilter"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

const name = "rules"

// Source is the source "rules".
type Source struct {
	audit time.Duration
}

var _ source.Source = (*Source)(nil)

// New returns the source of news about kube-proxy's rules. The interval of the
// audit is only told: it is what finds the changes of iptables-legacy.
func New(audit time.Duration) *Source { return &Source{audit: audit} }

// Name is "rules".
func (*Source) Name() string { return name }

// Run hints "kube-proxy's rules appeared: MODE, FAMILIES" and "… were removed:
// …". The Writer is known if one transaction was looked at alone, and incomplete if the
// process had ended. Where nf_tables is a module that is not loaded, Run does
// not load it, but waits until somebody does. It belongs to the network
// namespace of the calling thread, and to a goroutine that stays on it if
// others of the process are elsewhere. An error that is unix.EPERM means that
// CAP_NET_ADMIN is missing.
func (s *Source) Run(ctx context.Context, hint func(source.Hint)) error {
	subscribed := source.Hint{Source: name, About: source.Rules, Kind: source.Subscribed, Reason: "subscribed" + s.how(), Time: time.Now()}
	waited, err := awaitModule(ctx, func() { hint(subscribed) })
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	sub, err := nfnl.Subscribe()
	if err != nil {
		return err
	}
	defer sub.Close()

	f := follower{news: sub, look: new(netfilter.Look).NFT, hint: hint}
	if waited { // what there is has appeared since
		err = f.update(record.Process{})
	} else {
		f.seen, err = f.look()
		subscribed.Time = time.Now()
		hint(subscribed)
	}
	if err != nil {
		return err
	}
	return f.follow(ctx)
}

// how says for the status what news there will be.
func (s *Source) how() string {
	how := ": nf_tables news"
	if !nfnl.Loaded() {
		how += ", once it is loaded"
	}
	if netfilter.HasLegacy() {
		how += ", legacy tables every " + words.Brief(s.audit)
	}
	return how
}

// follower turns transactions into hints.
type follower struct {
	news interface {
		Next(ctx context.Context) (nfnl.Commit, error)
		Renew() error
	}
	look func() ([]netfilter.Rules, error)
	hint func(source.Hint)
	seen []netfilter.Rules
	pace pace
}

// follow looks after each transaction, the first ones at once and then as the
// pace has it: those that come meanwhile are looked at together, and it is
// unknown then which of them made the change. It returns nil when ctx ends.
func (f *follower) follow(ctx context.Context) error {
	for {
		commit, err := f.news.Next(ctx)
		lost := errors.Is(err, unix.ENOBUFS)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // told to stop: the error is of that
		case err != nil && !lost:
			return err
		}
		// At once, and before the look: nft ends right after its transaction.
		writer := writerOf(commit)
		if wait := f.pace.take(time.Now()); lost || wait > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wait):
			}
			if err := f.news.Renew(); err != nil {
				return err
			}
			writer = record.Process{}
		}
		if err := f.update(writer); err != nil {
			return err
		}
	}
}

// update looks, and hints at what is different.
func (f *follower) update(writer record.Process) error {
	now, err := f.look()
	if err != nil {
		return err
	}
	was := f.seen
	f.seen = now
	say := func(rules []netfilter.Rules, kind source.Kind, did string) {
		for _, r := range rules {
			f.hint(source.Hint{Source: name, About: source.Rules, Kind: kind, Reason: "kube-proxy's rules " + did + ": " + r.String(), Time: time.Now(), Writer: writer})
		}
	}
	say(without(was, now), source.Removed, "were removed")
	say(without(now, was), source.Appeared, "appeared")
	return nil
}

// without returns what is in a and not in b, by mode, backend and family.
func without(a, b []netfilter.Rules) []netfilter.Rules {
	var rest []netfilter.Rules
	for _, r := range a {
		for _, other := range b {
			if other.Mode == r.Mode && other.Backend == r.Backend {
				r.IPv4 = r.IPv4 && !other.IPv4
				r.IPv6 = r.IPv6 && !other.IPv6
			}
		}
		if r.IPv4 || r.IPv6 {
			rest = append(rest, r)
		}
	}
	return rest
}

// writerOf reads who made a transaction. Of one that has ended, the kernel's
// message has the name.
func writerOf(c nfnl.Commit) record.Process {
	w := source.ReadWriter(c.PID)
	if w.Comm == "" {
		w.Comm = c.Comm
	}
	return w
}

// The pace of the looks. A kube-proxy that starts makes some fifty small
// transactions before the large one: each is looked at alone, so that the
// writer is known. Beyond that, five looks a second take less than half a
// percent of a core, however fast a table changes: one costs 0.1 ms warm, and
// up to 1 ms behind a large transaction, which leaves no cache to anybody.
const (
	burst   = 100
	between = 200 * time.Millisecond
)

// pace is a token bucket. The zero value is full.
type pace struct {
	full time.Time // when it is full again
}

// take takes a token, and returns how long to wait for it.
func (p *pace) take(now time.Time) time.Duration {
	if p.full.Before(now) {
		p.full = now
	}
	p.full = p.full.Add(between)
	return max(0, p.full.Sub(now)-burst*between)
}
