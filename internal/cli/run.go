package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/nfguard/nfguard/internal/core/run"
)

func (a *app) runCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "The daemon: keep the host right until it is stopped",
		Long: `Keeps the host right until SIGTERM or SIGINT, and then leaves it as it is. SIGHUP
makes it read the configuration again; if that is wrong, nothing changes.

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
	// A configuration that is wrong is the daemon's to report.
	if c, _, err := a.config(); err == nil {
		if err := a.onTheHost(&c); err != nil {
			return err
		}
	}
	return run.Daemon(a.ctx, run.Options{Config: a.configPath, Verbose: verbose, Err: a.Err, Reload: a.reload})
}

func (a *app) helperCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "helper",
		Hidden: true,
		Short:  "Make the changes that the daemon has no rights for; started by nfguard-helper.socket",
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.patience.Store(int64(patienceRun))
			if a.root != "" {
				return &hintError{errors.New("a tree has no helper"), "use " + a.treeApply()}
			}
			return run.Helper(a.ctx, run.Options{Config: a.configPath, Err: a.Err})
		},
	}
}
