package journal

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestHandler(t *testing.T) {
	j := listen(t, socketPath(t))
	w := Open(Options{Socket: j.path, Fallback: new(buffer)})
	start(t, w)
	log := slog.New(w.Handler(slog.LevelInfo)).With("source", "link").WithGroup("bridge")
	log.Debug("not this one")
	log.Warn("source lost", "name", "cni0", slog.Group("port", "id", 3), "error", errors.New("no buffer space available"), "größe", "")

	got := j.next(t)
	if _, err := time.Parse(time.RFC3339Nano, value(got, FieldTime)); err != nil {
		t.Error(err)
	}
	want := []Field{
		{"MESSAGE", `source lost source=link bridge.name=cni0 bridge.port.id=3 bridge.error="no buffer space available" bridge.größe=""`},
		{"PRIORITY", "4"},
		{"SYSLOG_IDENTIFIER", "nfguard"},
		{"NFGUARD_TIME", value(got, FieldTime)},
		{"NFGUARD_LOG_SOURCE", "link"},
		{"NFGUARD_LOG_BRIDGE_NAME", "cni0"},
		{"NFGUARD_LOG_BRIDGE_PORT_ID", "3"},
		{"NFGUARD_LOG_BRIDGE_ERROR", "no buffer space available"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestHandlerLevels(t *testing.T) {
	j := listen(t, socketPath(t))
	w := Open(Options{Socket: j.path, Fallback: new(buffer)})
	start(t, w)
	log := slog.New(w.Handler(slog.LevelDebug))
	for level, want := range map[slog.Level]string{slog.LevelDebug: "7", slog.LevelInfo: "6", slog.LevelWarn: "4", slog.LevelError: "3"} {
		log.Log(t.Context(), level, "x")
		if got := value(j.next(t), FieldPriority); got != want {
			t.Errorf("%v: want %s, got %s", level, want, got)
		}
	}
}

func TestAttrField(t *testing.T) {
	tests := map[string]string{
		"exit_code":             "NFGUARD_LOG_EXIT_CODE",
		"a.B-9":                 "NFGUARD_LOG_A_B_9",
		strings.Repeat("k", 99): "NFGUARD_LOG_" + strings.Repeat("K", 52),
	}
	for key, want := range tests {
		if got := attrField(key); got != want {
			t.Errorf("%s: want %s, got %s", key, want, got)
		}
	}
}

// TestHandlerContract holds the handler to what slog promises its users.
func TestHandlerContract(t *testing.T) {
	var w *Writer
	slogtest.Run(t,
		func(*testing.T) slog.Handler {
			w = Open(Options{Plain: true})
			w.journal = &socket{}
			return w.Handler(nil)
		},
		func(t *testing.T) map[string]any {
			fs, err := parse((<-w.queue).line)
			if err != nil {
				t.Fatal(err)
			}
			words := strings.Split(value(fs, FieldMessage), " ")
			result := map[string]any{slog.LevelKey: value(fs, FieldPriority), slog.MessageKey: words[0]}
			if v := value(fs, FieldTime); v != "" {
				result[slog.TimeKey] = v
			}
			for _, word := range words[1:] {
				key, v, _ := strings.Cut(word, "=")
				group := result
				path := strings.Split(key, ".")
				for _, name := range path[:len(path)-1] {
					if group[name] == nil {
						group[name] = map[string]any{}
					}
					group = group[name].(map[string]any)
				}
				group[path[len(path)-1]] = v
			}
			return result
		})
}

// TestHandlerUnderJournald: journald knows the time of what it reads from
// our stderr.
func TestHandlerUnderJournald(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Fstat(int(os.Stderr.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", strconv.FormatUint(st.Dev, 10)+":"+strconv.FormatUint(st.Ino, 10))
	out := new(buffer)
	w := Open(Options{Socket: filepath.Join(t.TempDir(), "none"), Fallback: out})
	slog.New(w.Handler(nil)).Info("ready", "time", "is kept in a group", slog.Group("g", "time", 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Error(err)
	}
	if want, got := "level=INFO msg=ready g.time=1\n", out.String(); got != want {
		t.Errorf("want %q, got %q", want, got)
	}
}
