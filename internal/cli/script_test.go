package cli_test

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nfguard/nfguard/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"nfguard": func() {
			ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer cancel()
			os.Exit(cli.Main(ctx, os.Args[1:], cli.Streams{Out: os.Stdout, Err: os.Stderr}, make(chan os.Signal)))
		},
	})
}

// TestScripts runs the commands as a person does, by the scripts in testdata. None of
// them needs root or changes the host: they work on trees.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: os.Getenv("NFGUARD_UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("NO_COLOR", "1")
			env.Setenv("RUNTIME_DIRECTORY", env.WorkDir+"/run")
			return ways(env.WorkDir)
		},
	})
}

// ways copies the golden files of package trace into a script's directory.
func ways(dir string) error {
	for name, golden := range map[string]string{"before.json": "key0.golden.json", "after.json": "key1.golden.json", "before.txt": "key0.golden.txt"} {
		b, err := os.ReadFile(filepath.Join("../diag/trace/testdata", golden))
		if err == nil && name == "before.txt" {
			b = append(b, "exit 1\n"...)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
