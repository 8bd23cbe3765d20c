package config

import (
	"testing"
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
)

func TestLoad(t *testing.T) {
	const (
		a = "/etc/nfguard/conf.d/10-a.toml"
		b = "/etc/nfguard/conf.d/20-b.toml"
	)
	tests := map[string]struct {
		files   map[string]string
		change  func(c *Config)
		origins Origins
	}{
		"no file at all": {},
		"an empty file":  {files: map[string]string{mainFile: ""}},
		"every kind of value": {
			files: map[string]string{mainFile: `
mode = "observe"
module.override_blacklist = true
bridges = { match = ["cni[0-9]", '\[x'], ignore = [] }
[timing]
resync = "1m30s"
audit = "1h"
[contention]
limit = 1
policy = "yield"
[metrics]
textfile = "/var/lib/nfguard.prom"
`},
			change: func(c *Config) {
				c.Mode = ModeObserve
				c.Module.OverrideBlacklist = true
				c.Bridges = Bridges{Match: []string{"cni[0-9]", `\[x`}, Ignore: []string{}, Flags: c.Bridges.Flags, Hairpin: HairpinIgnore}
				c.Timing = Timing{Resync: 90 * time.Second, Audit: time.Hour}
				c.Contention.Limit = 1
				c.Contention.Policy = PolicyYield
				c.Metrics.Textfile = "/var/lib/nfguard.prom"
			},
			origins: Origins{
				"mode":                      {mainFile, 2},
				"module.override_blacklist": {mainFile, 3},
				"bridges.match":             {mainFile, 4},
				"bridges.ignore":            {mainFile, 4},
				"timing.resync":             {mainFile, 6},
				"timing.audit":              {mainFile, 7},
				"contention.limit":          {mainFile, 9},
				"contention.policy":         {mainFile, 10},
				"metrics.textfile":          {mainFile, 12},
			},
		},
		"modes and scopes that nfguard run refuses": {
			files: map[string]string{mainFile: "mode = \"lock\"\nscope = \"bridges\"\n"},
			change: func(c *Config) {
				c.Mode, c.Scope = ModeLock, ScopeBridges
				for i := range 3 {
					c.Sysctl[i] = Sysctl{Key: c.Sysctl[i].Key, Ignore: true}
				}
			},
			origins: Origins{"mode": {mainFile, 1}, "scope": {mainFile, 2}},
		},
		"scope bridges: sysctls at 0, and two flags": {
			files: map[string]string{
				mainFile: "scope = \"bridges\"\n[bridges]\nflags = [\"ip6tables\", \"iptables\"]\n[sysctl]\n\"net.bridge.bridge-nf-call-iptables\" = 1\n",
				a:        "[sysctl]\n\"net.bridge.bridge-nf-call-iptables\" = 0\n",
			},
			change: func(c *Config) {
				c.Scope, c.Bridges.Flags = ScopeBridges, []Flag{FlagIP6Tables, FlagIPTables}
				c.Sysctl[0].Value = "0"
				c.Sysctl[1] = Sysctl{Key: guard.IP6Tables, Ignore: true}
				c.Sysctl[2] = Sysctl{Key: guard.ARPTables, Ignore: true}
			},
			origins: Origins{
				"scope": {mainFile, 1}, "bridges.flags": {mainFile, 3}, `sysctl."net.bridge.bridge-nf-call-iptables"`: {a, 2},
			},
		},
		"scope bridges that keeps nothing, as it says": {
			files: map[string]string{mainFile: "scope = \"bridges\"\nbridges.flags = []\nbridges.match = []\n"},
			change: func(c *Config) {
				c.Scope, c.Bridges.Flags, c.Bridges.Match = ScopeBridges, []Flag{}, []string{}
				for i := range 3 {
					c.Sysctl[i] = Sysctl{Key: c.Sysctl[i].Key, Ignore: true}
				}
			},
			origins: Origins{"scope": {mainFile, 1}, "bridges.flags": {mainFile, 2}, "bridges.match": {mainFile, 3}},
		},
		"scope bridges without a bridge, for the sysctls alone": {
			files: map[string]string{mainFile: "scope = \"bridges\"\nbridges.match = []\n[sysctl]\n\"net.bridge.bridge-nf-call-arptables\" = 0\n"},
			change: func(c *Config) {
				c.Scope, c.Bridges.Match = ScopeBridges, []string{}
				c.Sysctl[0] = Sysctl{Key: guard.IPTables, Ignore: true}
				c.Sysctl[1] = Sysctl{Key: guard.IP6Tables, Ignore: true}
				c.Sysctl[2].Value = "0"
			},
			origins: Origins{"scope": {mainFile, 1}, "bridges.match": {mainFile, 2}, `sysctl."net.bridge.bridge-nf-call-arptables"`: {mainFile, 4}},
		},
		"the later file wins key by key; sysctls are merged": {
			files: map[string]string{
				mainFile: "[timing]\nresync = \"5s\"\naudit = \"2m\"\n[sysctl]\n\"net.ipv4.ip_forward\" = 0\n",
				b:        "timing.resync = \"auto\"\n[sysctl]\n\"net.ipv4.ip_forward\" = 1\n\"net.bridge.bridge-nf-call-arptables\" = \"ignore\"\n",
				a:        "timing.resync = \"7s\"\nkube_proxy.units = []\n",
			},
			change: func(c *Config) {
				c.Timing.Audit = 2 * time.Minute
				c.KubeProxy.Units = []string{}
				c.Sysctl[2] = Sysctl{Key: guard.ARPTables, Ignore: true}
				c.Sysctl = append(c.Sysctl, Sysctl{Key: "net.ipv4.ip_forward", Value: "1"})
			},
			origins: Origins{
				"timing.resync":    {b, 1},
				"timing.audit":     {mainFile, 3},
				"kube_proxy.units": {a, 2},

				`sysctl."net.ipv4.ip_forward"`: {b, 3},

				`sysctl."net.bridge.bridge-nf-call-arptables"`: {b, 4},
			},
		},
		"sysctls in the order of the file, in all spellings": {
			files: map[string]string{mainFile: `[sysctl]
"vm.swappiness" = "10"
"net/ipv4/conf/eth0.100/rp_filter" = -1
"net.ipv4.conf.eth0/200.rp_filter" = 0x10
"net.ipv4.tcp_rmem" = " 4096	131072 6291456 "
"kernel.core_pattern" = "ignore"
"net.bridge.bridge-nf-filter-vlan-tagged" = "0"
`},
			change: func(c *Config) {
				c.Sysctl = append(c.Sysctl,
					Sysctl{Key: "vm.swappiness", Value: "10"},
					Sysctl{Key: "net.ipv4.conf.eth0/100.rp_filter", Value: "-1"},
					Sysctl{Key: "net.ipv4.conf.eth0/200.rp_filter", Value: "16"},
					Sysctl{Key: "net.ipv4.tcp_rmem", Value: "4096\t131072 6291456"},
					Sysctl{Key: "kernel.core_pattern", Ignore: true},
					Sysctl{Key: "net.bridge.bridge-nf-filter-vlan-tagged", Value: "0"})
			},
			origins: Origins{
				`sysctl."vm.swappiness"`:                           {mainFile, 2},
				`sysctl."net.ipv4.conf.eth0/100.rp_filter"`:        {mainFile, 3},
				`sysctl."net.ipv4.conf.eth0/200.rp_filter"`:        {mainFile, 4},
				`sysctl."net.ipv4.tcp_rmem"`:                       {mainFile, 5},
				`sysctl."kernel.core_pattern"`:                     {mainFile, 6},
				`sysctl."net.bridge.bridge-nf-filter-vlan-tagged"`: {mainFile, 7},
			},
		},
		"hidden and other files in conf.d are skipped": {
			files: map[string]string{
				"/etc/nfguard/conf.d/.hidden.toml":  "noise",
				"/etc/nfguard/conf.d/a.toml.rpmnew": "noise",
				"/etc/nfguard/conf.d/README":        "noise",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := Default()
			if tt.change != nil {
				tt.change(&want)
			}
			if tt.origins == nil {
				tt.origins = Origins{}
			}
			c, origins, msg := load(t, tt.files)
			diff(t, "error", "", msg)
			diff(t, "config", want, c)
			diff(t, "origins", tt.origins, origins)
		})
	}
}

func TestLoadProblemsOfSeveralFiles(t *testing.T) {
	c, origins, msg := load(t, map[string]string{
		mainFile:                       "[timing]\naudit = \"1ms\"\nmode = \"lock\"\n",
		"/etc/nfguard/conf.d/b.toml":   "mode = observe\n",
		"/etc/nfguard/conf.d/a.toml":   "scope = \"bridges\"\nbridges.match = []\njournal.sync = 1\n",
		"/etc/nfguard/conf.d/c.toml":   "mode = \"observe\"\n",
		"/etc/nfguard/conf.d/.c.toml~": "noise",
	})
	diff(t, "config", Config{}, c)
	diff(t, "origins", Origins(nil), origins)
	diff(t, "error", lines(
		`/etc/nfguard/nfguard.toml:2: timing.audit: must be at least 1s, not 1ms (hint: the default is audit = "1m")`,
		`/etc/nfguard/nfguard.toml:3: timing.mode: unknown key (hint: write it at the top of the file, above the first [table])`,
		`/etc/nfguard/conf.d/a.toml:2: bridges.match: is empty, so scope "bridges" would guard nothing (hint: name the bridges that carry pods, such as "cni*")`,
		`/etc/nfguard/conf.d/a.toml:3: journal.sync: must be true or false, without quotes, not a whole number (hint: the default is sync = true)`,
		`/etc/nfguard/conf.d/b.toml:1: mode: expected value but found "observe" instead (hint: put a text in quotes: "observe")`,
	), msg)
}
