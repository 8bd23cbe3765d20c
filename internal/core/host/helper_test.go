package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// helperFunc is a [Helper].
type helperFunc func(guard.Op) error

func (f helperFunc) Do(_ context.Context, a guard.Action) error { return f(a.Op) }

// TestHelperMakesTheChanges: what a helper does is not done in this process.
func TestHelperMakesTheChanges(t *testing.T) {
	root := t.TempDir()
	var ops []guard.Op
	l := NewAt(root, Options{Modprobe: filepath.Join(root, "none"), Helper: helperFunc(func(op guard.Op) error {
		ops = append(ops, op)
		return nil
	})})
	defer l.Close()
	for _, a := range []guard.Action{
		{Op: guard.LoadModule, Subject: "br_netfilter"},
		{Op: guard.WriteFile, Subject: "/etc/sysctl.d/99-zz-nfguard.conf", Value: "x\n"},
	} {
		if err := l.Do(t.Context(), a); err != nil {
			t.Error(err)
		}
	}
	if want := []guard.Op{guard.LoadModule, guard.WriteFile}; !slices.Equal(want, ops) {
		t.Errorf("want %v, got %v", want, ops)
	}
	if list, err := os.ReadDir(root); err != nil || len(list) > 0 {
		t.Errorf("something was written: %v, %v", list, err)
	}
}

// TestWithoutHelper: without a helper, the process does what it can, and says what is
// missing.
func TestWithoutHelper(t *testing.T) {
	root := t.TempDir()
	l := NewAt(root, Options{Modprobe: filepath.Join(root, "none"), Helper: helperFunc(func(guard.Op) error {
		return fmt.Errorf("nfguard-helper.socket is not there: %w", ErrNoHelper)
	})})
	defer l.Close()
	const path = "/etc/sysctl.d/99-zz-nfguard.conf"
	if err := l.Do(t.Context(), guard.Action{Op: guard.WriteFile, Subject: path, Value: "x\n"}); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(root, path)); string(text) != "x\n" {
		t.Errorf("got %q, %v", text, err)
	}
	err := l.Do(t.Context(), guard.Action{Op: guard.LoadModule, Subject: "br_netfilter"})
	const want = "without nfguard-helper.socket: load br_netfilter: there is no modprobe on this host"
	if err == nil || err.Error() != want {
		t.Errorf("want %s, got %v", want, err)
	}
	var known interface{ Next() string }
	if !errors.As(err, &known) || known.Next() != noHelperNext {
		t.Errorf("want the next step, got %v", err)
	}
	if err := l.Do(t.Context(), guard.Action{Op: guard.SetFlags}); errors.Is(err, ErrNoHelper) {
		t.Error("the helper was asked for flags")
	}
}
