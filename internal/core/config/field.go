package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nfguard/nfguard/internal/core/words"
)

// A field connects a key of the file with its value in a Config.
type field struct {
	key   string // with its table, as in TOML: timing.resync
	value value
}

// A value moves between TOML and a Config.
type value interface {
	// set accepts what the toml package decoded, or returns a problem and changes
	// nothing. For a problem without a hint, the caller suggests the default value.
	set(v any) *Problem
	// get returns a string, an int64, a bool or a list of strings.
	get() any
}

// schema returns every key of c in the order of the packaged file. It is the only
// list of keys: reading, hints and Show all use it. The values point into c.
func (c *Config) schema() schema {
	fields := schema{
		{"mode", choice[Mode]{&c.Mode, []Mode{ModeEnforce, ModeObserve, ModeLock}}},
		{"scope", choice[Scope]{&c.Scope, []Scope{ScopeHost, ScopeBridges}}},
		{"namespace", choice[Namespace]{&c.Namespace, []Namespace{NamespaceHost, NamespaceOwn}}},
		{"module.name", text{&c.Module.Name, moduleName}},
		{"module.override_blacklist", flag{&c.Module.OverrideBlacklist}},
	}
	for i := range c.Sysctl {
		s := &c.Sysctl[i]
		fields = append(fields, field{sysctlField(s.Key), s})
	}
	return append(fields,
		field{"confirm.sysctl", list{&c.Confirm.Sysctl, confirmedSysctl}},
		field{"bridges.match", patterns{list{&c.Bridges.Match, bridgePattern}, &c.Bridges.Auto}},
		field{"bridges.ignore", list{&c.Bridges.Ignore, bridgePattern}},
		field{"bridges.flags", choices[Flag]{&c.Bridges.Flags, []Flag{FlagIPTables, FlagIP6Tables, FlagARPTables}}},
		field{"bridges.hairpin", choice[Hairpin]{&c.Bridges.Hairpin, []Hairpin{HairpinIgnore, HairpinKeep}}},
		field{"kube_proxy.processes", list{&c.KubeProxy.Processes, processName}},
		field{"kube_proxy.units", list{&c.KubeProxy.Units, unitName}},
		field{"persist.enabled", flag{&c.Persist.Enabled}},
		field{"persist.modules_load", text{&c.Persist.ModulesLoad, dropinPath}},
		field{"persist.sysctl", text{&c.Persist.Sysctl, dropinPath}},
		field{"timing.resync", interval{&c.Timing.Resync, 100 * time.Millisecond, true}},
		field{"timing.audit", interval{&c.Timing.Audit, time.Second, false}},
		field{"contention.limit", count{&c.Contention.Limit}},
		field{"contention.window", interval{&c.Contention.Window, time.Second, false}},
		field{"contention.policy", choice[Policy]{&c.Contention.Policy, []Policy{PolicyHold, PolicyYield}}},
		field{"journal.sync", flag{&c.Journal.Sync}},
		field{"metrics.textfile", text{&c.Metrics.Textfile, textfilePath}},
	)
}

// split splits the key of a field into its table, "" for the top of the file, and its
// name there.
func split(key string) (table, name string) {
	if table, name, ok := strings.Cut(key, "."); ok {
		return table, name
	}
	return "", key
}

// choice is one of a few words.
type choice[T ~string] struct {
	into *T
	of   []T
}

func (c choice[T]) get() any { return string(*c.into) }

func (c choice[T]) set(v any) *Problem {
	s, ok := v.(string)
	if !ok {
		return mistyped("a word in quotes", v)
	}
	words := make([]string, len(c.of))
	for i, word := range c.of {
		if s == string(word) {
			*c.into = word
			return nil
		}
		words[i] = string(word)
	}
	if word := nearest(s, words); word != "" {
		return wrong(fmt.Sprintf("no such value %q", s), fmt.Sprintf("write %q", word))
	}
	return wrong(fmt.Sprintf("no such value %q", s), "write one of "+literal(words))
}

// choices is a list of a few words, none of them twice.
type choices[T ~string] struct {
	into *[]T
	of   []T
}

func (c choices[T]) get() any {
	words := make([]string, len(*c.into))
	for i, word := range *c.into {
		words[i] = string(word)
	}
	return words
}

func (c choices[T]) set(v any) *Problem {
	items, ok := v.([]any)
	if !ok {
		return mistyped("a list of texts in quotes", v)
	}
	chosen := make([]T, len(items))
	for i, item := range items {
		p := choice[T]{&chosen[i], c.of}.set(item)
		if p == nil && slices.Contains(chosen[:i], chosen[i]) {
			p = wrong(fmt.Sprintf("%q is there twice", string(chosen[i])), "keep one of the two")
		}
		if p != nil {
			p.Msg = fmt.Sprintf("item %d: %s", i+1, p.Msg)
			return p
		}
	}
	*c.into = chosen
	return nil
}

// flag is true or false.
type flag struct{ into *bool }

func (f flag) get() any { return *f.into }

func (f flag) set(v any) *Problem {
	b, ok := v.(bool)
	if !ok {
		return mistyped("true or false, without quotes", v)
	}
	*f.into = b
	return nil
}

// count is a positive number that fits into an int on any machine.
type count struct{ into *int }

// maxCount is more than anything reaches within a window.
const maxCount = 1_000_000

func (c count) get() any { return int64(*c.into) }

func (c count) set(v any) *Problem {
	n, ok := v.(int64)
	if !ok {
		return mistyped("a whole number", v)
	}
	if n < 1 || n > maxCount {
		return wrong(fmt.Sprintf("must be from 1 to %d, not %d", maxCount, n), "")
	}
	*c.into = int(n)
	return nil
}

// interval is a Go duration of at least min, or "auto" for zero if that is allowed.
type interval struct {
	into *time.Duration
	min  time.Duration
	auto bool
}

func (i interval) get() any {
	if i.auto && *i.into == 0 {
		return "auto"
	}
	return words.Brief(*i.into)
}

func (i interval) set(v any) *Problem {
	if n, ok := v.(int64); ok {
		return wrong("must be a time with its unit, not a bare number", fmt.Sprintf(`write "%ds" for seconds`, n))
	}
	s, ok := v.(string)
	if !ok {
		return mistyped("a time in quotes", v)
	}
	if i.auto && s == "auto" {
		*i.into = 0
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return wrong(fmt.Sprintf("no such time %q", s), `write a number and a unit, such as "500ms", "30s" or "5m"`)
	}
	if d < i.min {
		return wrong(fmt.Sprintf("must be at least %s, not %s", words.Brief(i.min), words.Brief(d)), "")
	}
	*i.into = d
	return nil
}

// text is a string that obeys a rule.
type text struct {
	into *string
	rule rule
}

func (t text) get() any { return *t.into }

func (t text) set(v any) *Problem {
	s, p := t.rule.of(v)
	if p == nil {
		*t.into = s
	}
	return p
}

// list is a list of strings that all obey a rule.
type list struct {
	into *[]string
	rule rule
}

func (l list) get() any { return *l.into }

func (l list) set(v any) *Problem {
	items, ok := v.([]any)
	if !ok {
		return mistyped("a list of texts in quotes", v)
	}
	strs := make([]string, len(items))
	for i, item := range items {
		s, p := l.rule.of(item)
		if p != nil {
			p.Msg = fmt.Sprintf("item %d: %s", i+1, p.Msg)
			return p
		}
		strs[i] = s
	}
	*l.into = strs
	return nil
}

// patterns is a list, or "auto".
type patterns struct {
	list
	auto *bool
}

func (p patterns) get() any {
	if *p.auto {
		return "auto"
	}
	return p.list.get()
}

func (p patterns) set(v any) *Problem {
	if s, ok := v.(string); ok {
		if s != "auto" {
			return wrong(fmt.Sprintf("must be a list of texts in quotes, or \"auto\", not %q", s), fmt.Sprintf("put it in brackets: [%q]", s))
		}
		*p.into, *p.auto = nil, true
		return nil
	}
	problem := p.list.set(v)
	if problem == nil {
		*p.auto = false
	}
	return problem
}

// mistyped says that v is of the wrong TOML type.
func mistyped(want string, v any) *Problem {
	have := "a table"
	switch v.(type) {
	case string:
		have = "a text"
	case int64:
		have = "a whole number"
	case float64:
		have = "a decimal number"
	case bool:
		have = "true or false"
	case time.Time:
		have = "a date"
	case []any:
		have = "a list"
	}
	return wrong(fmt.Sprintf("must be %s, not %s", want, have), "")
}
