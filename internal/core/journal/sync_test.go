package journal

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nfguard/nfguard/internal/core/record"
)

func TestSyncIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var calls []time.Duration
		s := newSyncer(nil, complaint{log: slog.New(slog.DiscardHandler)})
		s.call = func(context.Context) error {
			calls = append(calls, time.Since(begin))
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.run(ctx, t.Context()); close(done) }()

		s.ask() // at once
		synctest.Wait()
		time.Sleep(300 * time.Millisecond)
		s.ask() // at the end of the pause,
		s.ask() // both together
		time.Sleep(5 * time.Second)
		s.ask() // at once
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		s.ask() // at the stop
		cancel()
		<-done

		const ms = time.Millisecond
		want := []time.Duration{
			0, 400 * ms, // and again after the last that was asked for:
			800 * ms, 1200 * ms, 1600 * ms, 2000 * ms,
			5300 * ms, 5400 * ms,
		}
		if diff := cmp.Diff(want, calls); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSyncComplainsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(buffer)
		s := newSyncer(nil, complaint{
			log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}})),
			begins: "bad",
			ends:   "good",
		})
		answers := []error{nil, errors.New("a"), errors.New("a"), errors.New("b"), nil, nil}
		s.call = func(context.Context) (err error) {
			err, answers = answers[0], answers[1:]
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.run(ctx, t.Context()); close(done) }()
		for len(answers) > 0 {
			s.ask()
			time.Sleep(syncPause)
			synctest.Wait()
		}
		cancel()
		<-done
		want := "level=WARN msg=bad error=a\nlevel=WARN msg=bad error=b\nlevel=INFO msg=good\n"
		if diff := cmp.Diff(want, log.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestSynchronize(t *testing.T) {
	tests := []struct {
		name  string
		reply string
		want  string
	}{
		{"done", "{\"parameters\":{}}\x00", ""},
		{"refused", "{\"error\":\"org.varlink.service.PermissionDenied\",\"parameters\":{}}\x00", "synchronize: org.varlink.service.PermissionDenied"},
		{"nonsense", "no\x00", "synchronize: invalid character 'o' in literal null (expecting 'u')"},
		{"journald ended", "{\"para", "synchronize: EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := socketPath(t)
			asked := varlink(t, path, tt.reply)
			err := synchronize(t.Context(), path)
			if got := <-asked; got != `{"method":"io.systemd.Journal.Synchronize","parameters":{}}`+"\x00" {
				t.Errorf("asked %q", got)
			}
			if text := errorText(err); text != tt.want {
				t.Errorf("want %q, got %q", tt.want, text)
			}
		})
	}
	t.Run("journald hangs", func(t *testing.T) {
		path := socketPath(t)
		l, err := net.Listen("unix", path) // accepts in the kernel, never answers
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if want, got := "synchronize: context deadline exceeded", errorText(synchronize(ctx, path)); got != want {
			t.Errorf("want %q, got %q", want, got)
		}
	})
	t.Run("no socket", func(t *testing.T) {
		if err := synchronize(t.Context(), socketPath(t)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("want a missing file, got %v", err)
		}
	})
}

// TestWriterAsksForSync: only what must survive a power cut is worth a sync,
// and only while it is wanted.
func TestWriterAsksForSync(t *testing.T) {
	j := listen(t, socketPath(t))
	w := Open(Options{Socket: j.path, Fallback: new(buffer)})
	asked := make(chan struct{}, 10)
	w.syncer.call = func(context.Context) error {
		asked <- struct{}{}
		return nil
	}
	start(t, w)
	silent := func() {
		t.Helper()
		j.next(t)
		select {
		case <-asked:
			t.Error("a sync that nobody wants")
		case <-time.After(50 * time.Millisecond):
		}
	}
	w.Record(record.Event{Kind: record.KindDrift})
	silent()
	w.SetSync(true)
	w.Record(record.Event{Kind: record.KindBridge})
	silent()
	for _, k := range []record.Kind{record.KindDrift, record.KindModule, record.KindContention} {
		w.Record(record.Event{Kind: k})
		j.next(t)
		select {
		case <-asked:
		case <-time.After(5 * time.Second):
			t.Errorf("no sync after %s", k)
		}
	}
}

// varlink answers one call at path with reply, and hangs up. What was asked
// comes on the channel.
func varlink(t *testing.T, path, reply string) <-chan string {
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	asked := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		call, _ := bufio.NewReader(conn).ReadString(0)
		io.WriteString(conn, reply)
		asked <- call
	}()
	return asked
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
