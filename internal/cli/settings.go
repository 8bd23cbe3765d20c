package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/nfguard/nfguard/internal/core/config"
	"github.com/nfguard/nfguard/internal/core/daemon"
	"github.com/nfguard/nfguard/internal/core/instance"
	"github.com/nfguard/nfguard/internal/core/run"
)

// settings reads the configuration and translates it.
func (a *app) settings() (daemon.Settings, config.Config, error) {
	c, _, err := a.config()
	if err != nil {
		return daemon.Settings{}, c, err
	}
	return run.Settings(c), c, nil
}

// config reads the configuration, of the tree where there is one. A tree that is
// mistyped would have none, and whatever is not there would seem to be so.
func (a *app) config() (config.Config, config.Origins, error) {
	if a.root != "" {
		if info, err := os.Stat(a.root); err != nil {
			return config.Config{}, nil, &hintError{fmt.Errorf("--root: %w", err), "is the name right? the tree has to be there"}
		} else if !info.IsDir() {
			return config.Config{}, nil, &hintError{fmt.Errorf("--root: %s is no directory", a.root), "name the directory that the tree is mounted or unpacked at"}
		}
	}
	return config.Load(a.root, a.configPath)
}

// elsewhere says where this is if it is not the host, and whether that is meant.
func elsewhere(c *config.Config) (where string, meant bool) {
	return instance.Container(), c.Namespace == config.NamespaceOwn
}

// onTheHost refuses to change anything where it is not meant: what would be set and
// written is not the host's.
func (a *app) onTheHost(c *config.Config) error {
	where, meant := elsewhere(c)
	if where == "" || meant || a.root != "" {
		return nil
	}
	return &hintError{errors.New(where), a.nextElsewhere()}
}

func (a *app) nextElsewhere() string {
	return fmt.Sprintf("run nfguard on the host; or, to guard what is here, set namespace = %q in %s", config.NamespaceOwn, a.configPath)
}
