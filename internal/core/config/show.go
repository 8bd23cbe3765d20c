package config

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Origin is where a value was set: a line of a file. The zero value stands
// for the default.
type Origin struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

// String returns "file:line", or "default".
func (o Origin) String() string {
	if o.File == "" {
		return "default"
	}
	quoted := strconv.Quote(o.File) // a newline in a name must not end a comment or an error
	name := quoted[1 : len(quoted)-1]
	if o.Line == 0 {
		return name
	}
	return fmt.Sprintf("%s:%d", name, o.Line)
}

// Origins says where the values of a Config were set, by key, as in a file, with its
// table: timing.resync, sysctl."net.ipv4.ip_forward". A key that is missing has its
// default.
type Origins map[string]Origin

// Entry is one key of a Config.
type Entry struct {
	Key    string `json:"key"`             // as in Origins
	Value  any    `json:"value"`           // a string, int64, bool or []string
	Origin Origin `json:"origin,omitzero"` // left out of JSON for a default
}

// Entries returns every key of c in the order of the packaged file.
func (c Config) Entries(o Origins) []Entry {
	fields := c.schema()
	entries := make([]Entry, len(fields))
	for i, f := range fields {
		entries[i] = Entry{Key: f.key, Value: f.value.get(), Origin: o[f.key]}
	}
	return entries
}

// Show writes c as TOML that Load reads back as the same Config, with the origin of
// each value in a comment. The error is w's.
func Show(w io.Writer, c Config, o Origins) error {
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	last := ""
	for _, e := range c.Entries(o) {
		table, name := split(e.Key)
		if table != last {
			fmt.Fprintf(tw, "\n[%s]\n", table)
			last = table
		}
		fmt.Fprintf(tw, "%s = %s\t# %v\n", name, literal(e.Value), e.Origin)
	}
	tw.Flush()
	_, err := b.WriteTo(w)
	return err
}

// literal returns v, the value of an Entry, as TOML. Texts are printable except for
// tabs, which Go and TOML quote alike.
func literal(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return fmt.Sprint(v)
}
