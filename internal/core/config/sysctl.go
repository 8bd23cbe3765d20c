package config

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// ignore is the value of a sysctl that is left alone.
const ignore = "ignore"

// bridgeKeys are all the sysctls below net.bridge, which belong to br_netfilter alone
// (brnf_table in net/bridge/br_netfilter_hooks.c, Linux 6.12).
var bridgeKeys = []string{
	string(guard.IPTables), string(guard.IP6Tables), string(guard.ARPTables),
	"net.bridge.bridge-nf-filter-vlan-tagged",
	"net.bridge.bridge-nf-filter-pppoe-tagged",
	"net.bridge.bridge-nf-pass-vlan-input-dev",
}

// sysctlPattern excludes what has a special meaning in the sysctl.d file that the key
// will be written to: blanks, =, #, quotes, globs, a leading -.
var sysctlPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.:@+/-]*$`)

// sysctlKey returns the key that name means. As in sysctl.d(5), slashes and dots are
// swapped in a name whose first separator is a slash.
func sysctlKey(name string) (guard.Key, *Problem) {
	key := guard.Key(name)
	if i := strings.IndexAny(name, "./"); i > 0 && name[i] == '/' {
		key = guard.Key(key.Path())
	}
	switch {
	case !sysctlPattern.MatchString(name),
		!strings.Contains(string(key), "."),
		!fs.ValidPath(key.Path()): // no way out of /proc/sys
		return "", wrong("is no name of a sysctl", `write it as sysctl -a prints it, such as "net.ipv4.ip_forward"`)
	case strings.HasPrefix(string(key), "net.bridge.") && !slices.Contains(bridgeKeys, string(key)):
		hint := "sysctl net.bridge lists them while the module is loaded"
		if near := nearest(string(key), bridgeKeys); near != "" {
			hint = fmt.Sprintf("write %q", near)
		}
		return "", wrong("br_netfilter has no such sysctl", hint)
	}
	return key, nil
}

// find returns the entry of k, or nil.
func (c *Config) find(k guard.Key) *Sysctl {
	for i := range c.Sysctl {
		if c.Sysctl[i].Key == k {
			return &c.Sysctl[i]
		}
	}
	return nil
}

// get returns a number as a number, so that files and JSON show it without quotes.
func (s *Sysctl) get() any {
	if s.Ignore {
		return ignore
	}
	if n, err := strconv.ParseInt(s.Value, 10, 64); err == nil && strconv.FormatInt(n, 10) == s.Value {
		return n
	}
	return s.Value
}

func (s *Sysctl) set(v any) *Problem {
	var text string
	switch v := v.(type) {
	case int64:
		text = strconv.FormatInt(v, 10)
	case string:
		text = strings.TrimSpace(v)
	case bool:
		return wrong("must be a number or a text in quotes, not true or false", "write 1 for on, 0 for off")
	default:
		p := mistyped("a number or a text in quotes", v)
		p.Hint = fmt.Sprintf("write it as the kernel shows it: sysctl -n %s", s.Key)
		return p
	}
	switch {
	case text == ignore:
		s.Value, s.Ignore = "", true
		return nil
	case s.Key.BridgeNF() && text != "0" && text != "1":
		return wrong(fmt.Sprintf("must be 0, 1 or %q, not %q", ignore, text),
			"write 1; the kernel turns any other number into 1")
	case text == "":
		return wrong("is empty", fmt.Sprintf("write the value to guard, or %q", ignore))
	case strings.ContainsFunc(text, func(c rune) bool { return c != '\t' && !unicode.IsPrint(c) }):
		return wrong(fmt.Sprintf("%q holds characters that cannot be printed", text),
			fmt.Sprintf("write it on one line, as the kernel shows it: sysctl -n %s", s.Key))
	}
	s.Value, s.Ignore = text, false
	return nil
}
