package vm_test

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/vm"
)

// TestMachine checks that virtual machines work as package vm says.
func TestMachine(t *testing.T) {
	t.Parallel()
	m := vm.Boot(t, vm.Options{Append: "nfguard.test=1"})

	t.Run("Debian 12's kernel", func(t *testing.T) {
		if got := m.Sh(t, "uname -r"); !strings.HasPrefix(got, "6.1.") {
			t.Errorf("uname -r: got %s, want 6.1.*", got)
		}
		if got := string(m.Read(t, "/proc/cmdline")); !strings.HasSuffix(got, " nfguard.test=1\n") {
			t.Errorf("Options.Append did not arrive: %s", got)
		}
	})
	t.Run("nothing failed", func(t *testing.T) {
		if got := m.Run(t, "systemctl", "is-system-running"); got.Stdout != "running\n" {
			t.Errorf("systemd is %s%s", got.Stdout, m.Sh(t, "systemctl --failed"))
		}
	})
	t.Run("the modules are for the test to load", func(t *testing.T) {
		if got := m.Sh(t, "cut -d ' ' -f 1 /proc/modules | grep -E '^(br_netfilter|bridge)$' || true"); got != "" {
			t.Errorf("loaded at boot: %s", got)
		}
	})
	t.Run("a program's end", func(t *testing.T) {
		want := []vm.Result{{Code: 3, Stdout: "out\n", Stderr: "err"}, {Code: 128 + 9}}
		got := []vm.Result{
			m.Run(t, "sh", "-c", "echo out; echo err >&2; exit 3"),
			m.Run(t, "sh", "-c", "kill -9 $$"),
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
	t.Run("a file there and back", func(t *testing.T) {
		want := make([]byte, 1<<20)
		_, _ = rand.Read(want)
		local := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(local, want, 0o600); err != nil {
			t.Fatal(err)
		}
		m.Push(t, local, "/srv/new/file", 0o751)
		if !bytes.Equal(want, m.Read(t, "/srv/new/file")) {
			t.Error("the bytes differ")
		}
		if got := m.Sh(t, "stat -c '%a %U' /srv/new/file"); got != "751 root" {
			t.Errorf("mode and owner: %s", got)
		}
	})
	t.Run("journal entries", func(t *testing.T) {
		m.Sh(t, "printf 'MESSAGE=hello\nNFGUARD_EVENT=drift\n' | logger --journald")
		m.Until(t, "journalctl -q NFGUARD_EVENT=drift | grep hello")
		entries := m.Journal(t, "NFGUARD_EVENT=drift")
		if len(entries) != 1 || entries[0]["MESSAGE"] != "hello" || entries[0]["NFGUARD_EVENT"] != "drift" {
			t.Errorf("got %v", entries)
		}
		if entries := m.Journal(t, "NFGUARD_EVENT=none"); entries != nil {
			t.Errorf("of an event that was not: %v", entries)
		}
	})
	t.Run("a reboot", func(t *testing.T) {
		before := m.Sh(t, "echo kept >/srv/rebooted; "+bootID)
		m.Reboot(t)
		if got := m.Sh(t, "cat /srv/rebooted"); got != "kept" {
			t.Errorf("the file after a reboot: %q", got)
		}
		if m.Sh(t, bootID) == before {
			t.Error("the same boot as before")
		}
	})
	t.Run("a shutdown", func(t *testing.T) {
		m.Sh(t, "echo kept >/srv/shut")
		m.Shutdown(t)
		m.Start(t)
		if got := m.Sh(t, "cat /srv/shut"); got != "kept" {
			t.Errorf("the file after a shutdown: %q", got)
		}
	})
	t.Run("a power cut", func(t *testing.T) {
		m.Sh(t, "echo kept >/srv/synced; sync; echo lost >/srv/unsynced")
		m.PowerCut(t)
		if got := m.Sh(t, "cat /srv/synced"); got != "kept" {
			t.Errorf("what was synced: %q", got)
		}
		if got := m.Run(t, "cat", "/srv/unsynced").Stdout; got != "" {
			t.Errorf("what was not synced survived, so this was no power cut: %q", got)
		}
	})
}

const bootID = "cat /proc/sys/kernel/random/boot_id"
