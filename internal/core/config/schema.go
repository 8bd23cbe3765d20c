package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// A schema is what a file can contain: the fields of a Config.
type schema []field

// sysctlField returns the key of the field of k.
func sysctlField(k guard.Key) string { return toml.Key{"sysctl", string(k)}.String() }

func (s schema) field(key string) (field, bool) {
	i := slices.IndexFunc(s, func(f field) bool { return f.key == key })
	if i < 0 {
		return field{}, false
	}
	return s[i], true
}

// tables returns the names of the tables in their order.
func (s schema) tables() []string {
	var names []string
	for _, f := range s {
		if table, _ := split(f.key); table != "" && !slices.Contains(names, table) {
			names = append(names, table)
		}
	}
	return names
}

func (s schema) isTable(name string) bool { return slices.Contains(s.tables(), name) }

// names returns the keys of a table, "" for the top of the file.
func (s schema) names(table string) []string {
	var names []string
	for _, f := range s {
		if t, name := split(f.key); t == table {
			names = append(names, name)
		}
	}
	return names
}

// byDefault returns the default value of a key as TOML.
func (s schema) byDefault(key string) string {
	c := Default()
	f, _ := c.schema().field(key)
	return literal(f.value.get())
}

// sysctlRoot matches how the name of a sysctl begins.
var sysctlRoot = regexp.MustCompile(`^(dev|fs|kernel|net|user|vm)[./]`)

// suggest says what to do about an unknown key: where it belongs, which key was
// probably meant, or which keys there are.
func (s schema) suggest(n node) string {
	name := n.name()
	table := ""
	if len(n.path) > 1 {
		table = n.path[0]
	}
	for _, f := range s {
		if t, known := split(f.key); known == name {
			if t == "" {
				return "write it at the top of the file, above the first [table]"
			}
			return fmt.Sprintf("write it below [%s]", t)
		}
	}
	if dotted := unquoted(n); sysctlRoot.MatchString(dotted) {
		return fmt.Sprintf("write a sysctl below [sysctl], in quotes: %q = …", dotted)
	}
	known := s.names(table)
	if table == "" {
		known = append(known, s.tables()...)
	}
	if near := nearest(name, known); near != "" {
		return "write " + near
	}
	if table == "" {
		return "remove it; nfguard config show lists all keys"
	}
	return fmt.Sprintf("remove it; [%s] has %s", table, strings.Join(known, ", "))
}

// unquoted returns the path of the first value in n as it was written: the user meant
// its parts to be one name.
func unquoted(n node) string {
	parts := []string{n.name()}
	for len(n.nodes) > 0 {
		n = n.nodes[0]
		parts = append(parts, n.name())
	}
	return strings.Join(parts, ".")
}
