package lab

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// RemoveGroups removes, at the end of the test, the control groups that systemd-nspawn
// --keep-unit creates below ours and leaves there. Groups that exist now stay.
func RemoveGroups(t testing.TB) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for line := range strings.Lines(string(text)) {
		path := strings.TrimSpace(line[strings.LastIndex(line, ":")+1:])
		for _, mount := range []string{"", "unified", "systemd"} {
			for _, group := range []string{"payload", "supervisor"} {
				dir := filepath.Join("/sys/fs/cgroup", mount, path, group)
				if _, err := os.Stat(dir); os.IsNotExist(err) {
					own = append(own, dir)
				}
			}
		}
	}
	t.Cleanup(func() {
		for _, dir := range own {
			var below []string
			_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					below = append(below, path)
				}
				return nil
			})
			for _, path := range slices.Backward(below) {
				_ = unix.Rmdir(path) // fails while a process is in it
			}
		}
	})
}
