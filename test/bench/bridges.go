package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/nfguard/nfguard/internal/kernel/rtnl"
	"github.com/nfguard/nfguard/test/demo/box"
)

// scopeBridges is the configuration for keeping the flags of bridges, in a file that is
// read after the box's own.
const scopeBridges = "scope = \"bridges\"\n[bridges]\nmatch = [\"cni*\"]\n"

// appearance is how long new bridges are without their flags with
// scope = "bridges".
type appearance struct {
	after []time.Duration // since the answer to the request that created the bridge, sorted
	whole []time.Duration // since the beginning of that request, sorted
	err   error           // why it could not be measured
}

// appearances creates count bridges, one at a time, and deletes each as soon as its flags
// are right. The kernel reports a new bridge right before it answers the request; the time
// for creating it is in whole only.
func (b *bench) appearances(ctx context.Context, count int) *appearance {
	progress("appearance: %d bridges", count)
	a := new(appearance)
	a.err = b.withScopedDaemon(ctx, func(in *box.Box) error {
		if err := sleep(ctx, b.settle); err != nil {
			return err
		}
		for i := range count {
			if err := in.Do(func() error { return a.one(ctx, fmt.Sprintf("cni%d", i)) }); err != nil {
				return err
			}
			if err := sleep(ctx, time.Duration(2000+rand.IntN(5000))*time.Microsecond); err != nil {
				return err
			}
		}
		return nil
	})
	for _, list := range [][]time.Duration{a.after, a.whole} {
		slices.Sort(list)
	}
	return a
}

// one creates a bridge that is up, and waits for the kernel's news of its flags, which it
// reports only while a bridge is up. Polling instead would slow down nfguard.
func (a *appearance) one(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, tooLong)
	defer cancel()
	news, err := rtnl.Subscribe(0, false)
	if err != nil {
		return err
	}
	defer news.Close()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, Flags: net.FlagUp}}
	began := time.Now()
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	made := time.Now()
	defer netlink.LinkDel(bridge)
	for {
		if _, err := news.Next(ctx); err != nil {
			return fmt.Errorf("%s is without its flags after %v: %w", name, tooLong, err)
		}
		now := time.Now()
		right, err := flagged(name)
		if err != nil {
			return err
		}
		if right {
			a.after, a.whole = append(a.after, max(0, now.Sub(made))), append(a.whole, now.Sub(began))
			return nil
		}
	}
}

// flagged reads the flags from sysfs, which takes no lock.
func flagged(name string) (bool, error) {
	for _, flag := range []string{"nf_call_arptables", "nf_call_ip6tables", "nf_call_iptables"} { // one message sets all
		text, err := os.ReadFile("/sys/class/net/" + name + "/bridge/" + flag)
		if err != nil {
			return false, err
		}
		if strings.TrimSpace(string(text)) != "1" {
			return false, nil
		}
	}
	return true, nil
}

// configure puts a file next to the configuration of the daemons in a box.
func configure(in *box.Box, text string) error {
	return in.Do(func() error {
		return errors.Join(os.Mkdir("/run/conf.d", 0o755), os.WriteFile("/run/conf.d/scope.toml", []byte(text), 0o644))
	})
}

func (b *bench) withScopedDaemon(ctx context.Context, f func(in *box.Box) error) error {
	in, err := box.New()
	if err != nil {
		return err
	}
	defer in.Close()
	if err := configure(in, scopeBridges); err != nil {
		return err
	}
	d, err := b.startDaemon(ctx, in, asPackaged)
	if err != nil {
		return err
	}
	return errors.Join(f(in), d.Stop())
}

// String is its part of the report, in Markdown.
func (a *appearance) String() string {
	var w strings.Builder
	fmt.Fprint(&w, "\n| a new bridge is without its flags, µs | bridges | min | p50 | p99 | max |\n|---|--:|--:|--:|--:|--:|\n")
	if a.err != nil {
		fmt.Fprintf(&w, "| not measured: %s ||||||\n", oneLine(a.err))
		return w.String()
	}
	for _, l := range []struct {
		what    string
		samples []time.Duration
	}{{"after it was made", a.after}, {"with the time that it takes to make it", a.whole}} {
		fmt.Fprintf(&w, "| %s | %d | %s | %s | %s | %s |\n", l.what, len(l.samples), micros(l.samples[0]),
			micros(quantile(l.samples, 0.5)), micros(quantile(l.samples, 0.99)), micros(l.samples[len(l.samples)-1]))
	}
	return w.String()
}
