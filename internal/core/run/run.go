// Package run puts the daemon together and runs it: it makes the host, the
// sources of news, the program in the kernel, the record, the metrics and the
// status file, and hands them to the loop. It also runs the helper, and
// gives the commands the same host and the same settings. It decides nothing
// about the host, and prints only what has no other place.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/nfguard/nfguard/internal/core/config"
	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/journal"
	"github.com/nfguard/nfguard/internal/core/keep"
	"github.com/nfguard/nfguard/internal/core/metrics"
	"github.com/nfguard/nfguard/internal/core/pause"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/kernel/pods"
)

// Options say how the daemon, or the helper, is run.
type Options struct {
	Config  string           // the path of the configuration file
	Verbose bool             // log each look
	Err     io.Writer        // for records where there is no journal, and for what the journal did not take
	Reload  <-chan os.Signal // each has the configuration read again; nil: none comes
}

// PodLogs is where the kubelet keeps the logs of pods, whose names have theirs.
const PodLogs = "/var/log"

// hintError is an error with a next step, as the commands print it.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }
func (e *hintError) Next() string  { return e.hint }

// Daemon keeps this host right until ctx is cancelled, and returns nil then. An
// error means that it could not start.
func Daemon(ctx context.Context, o Options) error {
	dir, err := MakeDir()
	if err != nil {
		return err
	}
	unlock, err := instance.Lock(dir)
	if err != nil {
		if held := (*instance.HeldError)(nil); errors.As(err, &held) {
			return &hintError{err, "see nfguard status"}
		}
		return err
	}
	defer unlock()
	self, err := instance.Self()
	if err != nil {
		return err
	}
	starting := daemon.Starting(self)
	status := startPublisher(dir, starting) // before all that is slow: what an earlier daemon left is out of date
	defer status.stop()
	n := startNotifier(status.first, notifySystemd)
	defer n.stop()
	n.notify("STATUS=" + starting.Sentence)

	c, err := load(o.Config)
	if err != nil {
		return err
	}
	if o.Config, err = filepath.Abs(o.Config); err != nil {
		return err
	}
	m := NewMachine(ctx)
	defer m.Close()
	records := journal.Open(journal.Options{Sync: c.Journal.Sync, Fallback: o.Err, Synchronize: m.synchronize(), Last: lastLink(dir), Linked: keepLink(dir)})
	defer write(records, o.Err)()

	hook := attach(Settings(c), m.loadHook())
	defer hook.close()
	level := slog.LevelInfo
	if o.Verbose {
		level = slog.LevelDebug
	}
	log := slog.New(records.Handler(level))
	meter := metrics.New(log)
	defer meter.Stop()
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read WATCHDOG_USEC: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	news := &news{config: o.Config, pause: filepath.Join(dir, pause.File), hook: hook, machine: m}
	d, err := daemon.New(daemon.Options{
		Process: self,
		Load: func(ctx context.Context) (daemon.Settings, error) {
			step.Begin(ctx, "reading "+o.Config+" and "+confD(o.Config))
			c, err := load(o.Config)
			if err != nil {
				return daemon.Settings{}, err
			}
			records.SetSync(c.Journal.Sync)
			return Settings(c), nil
		},
		Configures: news.configures,
		Sources:    news.sources,
		Stopped:    hook.retire,
		Yield:      hook.yield,
		Pause:      hook.pause,
		Asked:      func() pause.Asked { return asked(dir) },
		AskedAt:    filepath.Join(dir, pause.File),
		Weak:       func(s daemon.Settings) []guard.Finding { return append(hook.weak(s), m.weak()...) },
		Rights:     m.rights,
		PodName:    pods.NewBook(PodLogs).Of,
		Host:       m,
		Recorders:  []keep.Recorder{&completer{records, meter, host.BridgesWithAddresses}, meter},
		Log:        log,
		Publish: func(s daemon.Status) {
			status.publish(s)
			meter.Publish(measured(&s))
		},
		Notify:   n.notify,
		Watchdog: watchdog,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			select {
			case <-o.Reload:
				d.Reload()
			case <-ctx.Done():
				return
			}
		}
	}()
	return d.Run(ctx)
}

// load reads the configuration of this host.
func load(path string) (config.Config, error) {
	c, _, err := config.Load("", path)
	return c, err
}

// write has records written, by a goroutine of its own, until the function that
// it returns is called, which waits for those that are left.
func write(records *journal.Writer, complaints io.Writer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	writing.Go(func() {
		if err := records.Run(ctx); err != nil {
			fmt.Fprintf(complaints, "nfguard: error: %v\n", err)
		}
	})
	return func() {
		cancel()
		writing.Wait()
	}
}
