package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nfguard/nfguard/internal/core/config"
	"github.com/nfguard/nfguard/internal/core/run"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show what is in force, or check a file",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var form format
	show := &cobra.Command{
		Use:   "show",
		Short: "Print every value that is in force, and where it comes from",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, origins, err := a.config()
			if err != nil {
				return err
			}
			if form == jsonForm {
				return writeJSON(a.Out, struct {
					Schema  int            `json:"schema"`
					Entries []config.Entry `json:"entries"`
				}{1, c.Entries(origins)})
			}
			if err := config.Show(a.Out, c, origins); err != nil {
				return err
			}
			return a.offer(run.Settings(c).Policy)
		},
	}
	outputFlag(show, &form)
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a configuration file",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := config.Check(args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(a.Out, "%s is good\n", args[0])
			return err
		},
	}
	cmd.AddCommand(show, check)
	return cmd
}
