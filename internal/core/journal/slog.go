package journal

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"unicode"

	sd "github.com/coreos/go-systemd/v22/journal"

	"github.com/nfguard/nfguard/internal/printable"
)

// FieldLog begins the name of the field that holds an attribute of a log
// line: "bridge.name" is in NFGUARD_LOG_BRIDGE_NAME. The prefix keeps
// attributes apart from the record's own fields, so that NFGUARD_EVENT
// selects events and nothing else.
const FieldLog = "NFGUARD_LOG_"

// Handler returns a handler for the log that never makes the caller wait:
// lines take the way of records, in order with them. In the journal the
// message is "msg key=value …", its priority follows from the level, and
// each attribute also has a field of its own, see [FieldLog]. Without a
// journal it is [slog.TextHandler]'s text. Lines below level are left out;
// nil is [slog.LevelInfo].
func (w *Writer) Handler(level slog.Leveler) slog.Handler {
	if level == nil {
		level = slog.LevelInfo
	}
	if w.journal == nil {
		return slog.NewTextHandler(lines{w}, &slog.HandlerOptions{Level: level, ReplaceAttr: dropTime()})
	}
	return &handler{w: w, level: level}
}

// dropTime returns what drops the time of a line where stderr is taken by
// journald, which adds it.
func dropTime() func([]string, slog.Attr) slog.Attr {
	if stream, err := sd.StderrIsJournalStream(); err != nil || !stream {
		return nil
	}
	return func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
}

// lines queues each line of text that is written to it.
type lines struct{ w *Writer }

func (l lines) Write(line []byte) (int, error) {
	l.w.push(entry{line: bytes.Clone(line)})
	return len(line), nil
}

// handler writes log lines to the journal.
type handler struct {
	w      *Writer
	level  slog.Leveler
	prefix string      // the open groups: "bridge.port."
	attrs  []slog.Attr // flat, keys dotted
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	g := *h
	g.prefix += name + "."
	return &g
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	g := *h
	g.attrs = flatten(slices.Clip(h.attrs), h.prefix, attrs)
	return &g
}

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	attrs := slices.Clip(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = flatten(attrs, h.prefix, []slog.Attr{a})
		return true
	})
	text := []byte(r.Message)
	for _, a := range attrs {
		text = append(text, ' ')
		text = append(text, a.Key...)
		text = append(text, '=')
		text = appendValue(text, a.Value.String())
	}
	var fs fields
	fs.add(FieldMessage, printable.Text(string(text)))
	fs.common(levelPriority(r.Level), r.Time)
	for _, a := range attrs {
		fs.add(attrField(a.Key), a.Value.String())
	}
	h.w.push(entry{line: h.w.encode(fs)})
	return nil
}

// flatten appends attrs to dst with groups dissolved into dotted keys.
func flatten(dst []slog.Attr, prefix string, attrs []slog.Attr) []slog.Attr {
	for _, a := range attrs {
		v := a.Value.Resolve()
		switch {
		case v.Kind() == slog.KindGroup && a.Key != "":
			dst = flatten(dst, prefix+a.Key+".", v.Group())
		case v.Kind() == slog.KindGroup:
			dst = flatten(dst, prefix, v.Group())
		case !a.Equal(slog.Attr{}):
			dst = append(dst, slog.Attr{Key: prefix + a.Key, Value: v})
		}
	}
	return dst
}

// appendValue quotes what a reader could not tell from the next key.
func appendValue(b []byte, v string) []byte {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune(` "=`, r) }
	if v == "" || strings.ContainsFunc(v, odd) {
		return strconv.AppendQuote(b, v)
	}
	return append(b, v...)
}

// attrField turns a key into a name that journald accepts: A to Z, digits
// and underscores, 64 bytes at most.
func attrField(key string) string {
	name := FieldLog + strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, key)
	return name[:min(len(name), 64)]
}

func levelPriority(l slog.Level) sd.Priority {
	switch {
	case l >= slog.LevelError:
		return sd.PriErr
	case l >= slog.LevelWarn:
		return sd.PriWarning
	case l >= slog.LevelInfo:
		return sd.PriInfo
	}
	return sd.PriDebug
}
