package keep_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host/hosttest"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/record"
)

// crowd is a host with many keys and bridges, of which each is found at once.
type crowd struct {
	*hosttest.Host
	values  map[guard.Key]string
	bridges []guard.Bridge
	byName  map[string]int
}

func newCrowd(keys, bridges int) (*crowd, guard.Policy) {
	c := &crowd{Host: hosttest.New(true), values: make(map[guard.Key]string), byName: make(map[string]int)}
	p := guard.Policy{Mode: guard.Enforce, Module: "br_netfilter"}
	for i := range keys {
		k := guard.Key(fmt.Sprintf("net.ipv4.conf.eth%d.rp_filter", i))
		p.Sysctls = append(p.Sysctls, guard.Setting{Key: k, Value: "1"})
		c.values[k] = "1"
	}
	for i := range bridges {
		name := fmt.Sprintf("cni%d", i)
		c.bridges = append(c.bridges, guard.Bridge{Name: name, Index: 10 + i, Ports: guard.Ports{Pods: 1, VMs: 1}})
		c.byName[name] = i
	}
	if bridges > 0 {
		p.Bridges = &guard.Selection{Match: []string{"cni*"}, Families: []guard.Family{guard.IPv4, guard.IPv6}}
	}
	return c, p
}

func (c *crowd) Value(k guard.Key) (guard.Value, bool) {
	return guard.Value{State: guard.Present, Have: c.values[k]}, false
}

func (c *crowd) Survey(ctx context.Context, p *guard.Policy, look guard.Look) guard.Observation {
	o := c.Host.Survey(ctx, p, look)
	o.Bridges = slices.Clone(c.bridges)
	return o
}

func (c *crowd) SurveyBridge(ctx context.Context, p *guard.Policy, name string) guard.Observation {
	o := c.Host.Survey(ctx, p, 0)
	o.Bridges = []guard.Bridge{c.bridges[c.byName[name]]}
	return o
}

func (c *crowd) Do(_ context.Context, a guard.Action) error {
	if a.Op == guard.SetSysctl {
		c.values[guard.Key(a.Subject)] = a.Value
		return nil
	}
	b := &c.bridges[c.byName[a.Subject]]
	b.CallIPTables, b.CallIP6Tables = true, true
	return nil
}

func (c *crowd) clear() {
	for i := range c.bridges {
		c.bridges[i].CallIPTables, c.bridges[i].CallIP6Tables = false, false
	}
}

type nowhere struct{}

func (nowhere) Record(record.Event) {}

// each runs f b.N times on n things, and tells what one of them takes.
func each(b *testing.B, n int, f func()) {
	b.Helper()
	b.ResetTimer()
	for range b.N {
		f()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/thing")
}

// What one key costs does not depend on how many there are.
func BenchmarkKeys(b *testing.B) {
	for _, n := range []int{100, 1000} {
		c, p := newCrowd(n, 0)
		var news []record.Write
		k := keep.New(p, limits, keep.Options{Host: c, Recorder: nowhere{}, News: func() []record.Write {
			told := news
			news = nil
			return told
		}})
		report := k.Pass(b.Context(), keep.Trigger{Source: record.CauseStart})
		b.Run(fmt.Sprint("look/", n), func(b *testing.B) {
			each(b, n, func() { k.Look(b.Context(), keep.Trigger{Source: record.CauseResync}) })
		})
		b.Run(fmt.Sprint("corrected/", n), func(b *testing.B) {
			each(b, n, func() {
				for _, s := range p.Sysctls {
					c.values[s.Key] = "0"
					news = append(news, record.Write{
						File: s.Key.File(), Writer: record.Process{PID: 1, Comm: "sh"}, Exact: true, At: time.Now(), Old: "1", New: "0",
					})
				}
				k.Look(b.Context(), keep.Trigger{Source: record.CauseSysctl, Time: time.Now()})
				if len(news) > 0 || c.values[p.Sysctls[n-1].Key] != "1" {
					b.Fatal("not corrected")
				}
			})
		})
		b.Run(fmt.Sprint("kept-out/", n), func(b *testing.B) {
			each(b, n, func() {
				for _, s := range p.Sysctls {
					news = append(news, record.Write{File: s.Key.File(), Exact: true, At: time.Now(), New: "0", Outcome: record.Denied})
				}
				k.Look(b.Context(), keep.Trigger{Source: record.CauseSysctl})
			})
		})
		b.Run(fmt.Sprint("pass/", n), func(b *testing.B) {
			each(b, n, func() { report = k.Pass(b.Context(), keep.Trigger{Source: record.CauseAudit}) })
		})
		b.Run(fmt.Sprint("current/", n), func(b *testing.B) {
			each(b, n, func() { k.Current(report.Items) })
		})
		b.Run(fmt.Sprint("reload/", n), func(b *testing.B) {
			each(b, n, func() { k.SetPolicy(p, limits) })
		})
	}
}

// What one bridge costs does not depend on how many there are.
func BenchmarkBridges(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		c, p := newCrowd(0, n)
		k := keep.New(p, limits, keep.Options{Host: c, Recorder: nowhere{}})
		k.Pass(b.Context(), keep.Trigger{Source: record.CauseStart})
		b.Run(fmt.Sprint("pass/", n), func(b *testing.B) {
			each(b, n, func() { k.Pass(b.Context(), keep.Trigger{Source: record.CauseAudit}) })
		})
		b.Run(fmt.Sprint("corrected-by-pass/", n), func(b *testing.B) {
			each(b, n, func() {
				c.clear()
				k.SetPolicy(p, keep.Contention{Limit: 1 << 30, Window: time.Nanosecond})
				k.Pass(b.Context(), keep.Trigger{Source: record.CauseAudit})
				if c.bridges[n-1].Flags() != both {
					b.Fatal("not corrected")
				}
			})
		})
		b.Run(fmt.Sprint("corrected-by-news/", n), func(b *testing.B) {
			each(b, n, func() {
				c.clear()
				for i := range c.bridges {
					k.Correct(b.Context(), c.bridges[i].Name, keep.Trigger{Source: record.CauseLink})
					k.Look(b.Context(), keep.Trigger{Source: record.CauseResync})
				}
				k.Tick(time.Now())
				if c.bridges[n-1].Flags() != both {
					b.Fatal("not corrected")
				}
			})
		})
	}
}
