package cli

import "github.com/spf13/cobra"

// groups are the parts of the list of commands, in the order in which they are shown.
var groups = []struct {
	id, title string
	commands  []string
}{
	{"keep", "Keep the host right:", []string{"run", "apply", "pause", "resume", "config"}},
	{"look", "Look, and change nothing:", []string{"check", "status", "impact"}},
	{"prove", "Prove it with packets:", []string{"probe", "trace"}},
	{"tell", "Tell what happened:", []string{"events"}},
}

// group puts the commands below cmd into groups. One that is in none is shown with help,
// completion and version.
func group(cmd *cobra.Command) {
	for _, g := range groups {
		in := false
		for _, c := range cmd.Commands() {
			for _, name := range g.commands {
				if c.Name() == name {
					c.GroupID, in = g.id, true
				}
			}
		}
		if in {
			cmd.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		}
	}
}
