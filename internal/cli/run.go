package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/journal"
	"github.com/nfguard/nfguard/internal/core/metrics"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/files"
	"github.com/nfguard/nfguard/internal/kernel/pods"
	"github.com/nfguard/nfguard/internal/printable"
)

func (a *app) runCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Keep the host right until stopped; the daemon",
		Long: `Keeps the host right until SIGTERM or SIGINT, and then leaves it as it is.
SIGHUP reads the configuration again; one that is wrong changes nothing.

Exit codes: 0 stopped as told, 2 could not start.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.run(verbose) },
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log each look")
	return cmd
}

func (a *app) run(verbose bool) error {
	a.patience.Store(int64(patienceRun))
	a.reloads.Store(true)
	if a.root != "" {
		return &hintError{errors.New("a tree has no kernel to guard"), "use " + a.treeApply()}
	}
	if uid := os.Geteuid(); uid != 0 {
		return &hintError{fmt.Errorf("it needs root to change sysctls, and runs as uid %d", uid), "start it by systemctl start nfguard, or with sudo"}
	}
	dir, err := runtimeDir()
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
	status := startPublisher(dir, starting) // before all that is slow: what an earlier daemon left does not hold
	defer status.stop()
	n := startNotifier(status.first)
	defer n.stop()
	n.notify("STATUS=" + starting.Sentence)

	s, c, err := a.settings()
	if err != nil {
		return err
	}
	if a.configPath, err = filepath.Abs(a.configPath); err != nil {
		return err
	}

	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	records := journal.Open(journal.Options{Sync: c.Journal.Sync, Fallback: a.Err, Synchronize: a.synchronize()})
	var writing sync.WaitGroup
	writes, stopWriting := context.WithCancel(context.Background())
	writing.Go(func() {
		if err := records.Run(writes); err != nil {
			fmt.Fprintf(a.Err, "nfguard: error: %v\n", err)
		}
	})
	defer writing.Wait()
	defer stopWriting()

	a.hook = attach(s, a.loadHook())
	defer a.hook.close()
	machine := a.machine()
	defer machine.Close()
	log := slog.New(records.Handler(level))
	meter := metrics.New(log)
	defer meter.Stop()
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read WATCHDOG_USEC: %w", err)
	}
	d, err := daemon.New(daemon.Options{
		Process: self,
		Load: func(ctx context.Context) (daemon.Settings, error) {
			step.Begin(ctx, "reading "+a.configPath+" and "+confD(a.configPath))
			s, c, err := a.settings()
			if err == nil {
				records.SetSync(c.Journal.Sync)
			}
			return s, err
		},
		Configures: a.configures,
		Sources:    a.sources,
		Stopped:    a.hook.retire,
		Yield:      a.hook.yield,
		Weak:       a.weak,
		Rights:     a.rights,
		PodName:    pods.NewBook(podLogs).Of,
		Host:       machine,
		Recorder:   both{records, meter},
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
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	go func() {
		for {
			select {
			case <-a.reload:
				d.Reload()
			case <-ctx.Done():
				return
			}
		}
	}()
	return d.Run(ctx)
}

// runtimeDir is where the daemon leaves its status: systemd's RuntimeDirectory
// or /run/nfguard.
func runtimeDir() (string, error) {
	dir := runtimePath()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return dir, err
	}
	return dir, checkDir(dir)
}

// checkDir says what to do about a runtime directory that is not root's alone.
func checkDir(dir string) error {
	err := instance.CheckDir(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return &hintError{err, "it has to be root's alone: chown root " + dir + ", chmod 755 " + dir + ", and look who made it"}
}

func runtimePath() string {
	if dir := os.Getenv("RUNTIME_DIRECTORY"); dir != "" {
		return dir
	}
	return "/run/nfguard"
}

// publisher writes the status file, in a goroutine of its own: the loop waits
// for no file system.
type publisher struct {
	latest chan daemon.Status // one slot, for the newest
	first  chan struct{}      // closed when that of the first look was written, or could not be
	done   chan struct{}
}

// startPublisher puts s in the place of what an earlier daemon left.
func startPublisher(dir string, s daemon.Status) *publisher {
	if writeStatusFile(dir, s) != nil {
		_ = os.Remove(filepath.Join(dir, statusFile)) // it names a process that has ended, too
	}
	p := &publisher{latest: make(chan daemon.Status, 1), first: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		first := sync.OnceFunc(func() { close(p.first) })
		defer first()
		for s := range p.latest {
			_ = writeStatusFile(dir, s) // that it can't be written is no reason to stop guarding
			if s.Pass > 0 {
				first()
			}
		}
	}()
	return p
}

// publish is called by the loop only.
func (p *publisher) publish(s daemon.Status) {
	select {
	case <-p.latest: // nobody needs the older one any more
	default:
	}
	p.latest <- s
}

func (p *publisher) stop() {
	close(p.latest)
	<-p.done
}

const statusFile = "status.json"

// writeStatusFile puts the file in place as a whole, and does not sync it: it
// is of this run of the daemon only.
func writeStatusFile(dir string, s daemon.Status) error {
	text, err := printable.Marshal(s, "  ")
	if err != nil {
		return err
	}
	return files.Replace(filepath.Join(dir, statusFile), append(text, '\n'), nil)
}

// notifier tells systemd, in a goroutine of its own: a manager that does not
// read must not hold the loop. It says that nfguard is ready when there is a
// status to ask for, and does not wait for a disk that hangs.
type notifier struct {
	states chan string
	done   chan struct{}
}

func startNotifier(status <-chan struct{}) *notifier {
	n := &notifier{states: make(chan string, 16), done: make(chan struct{})}
	go func() {
		defer close(n.done)
		for s := range n.states {
			if s == "READY=1" {
				select {
				case <-status:
				case <-time.After(time.Second):
				}
			}
			notify(s)
			if s == "READY=1" {
				debug.FreeOSMemory() // what the start took and nothing needs any more
			}
		}
	}()
	return n
}

// notify sends one message to systemd; without NOTIFY_SOCKET nobody listens.
// go-systemd's SdNotify connects, which the sandbox forbids.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.Sendto(fd, []byte(state), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: path}) // the next one may come through
}

func (n *notifier) notify(state string) {
	select {
	case n.states <- state:
	default:
	}
}

func (n *notifier) stop() {
	close(n.states)
	<-n.done
}
