package lab

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/nfguard/nfguard/test/cluster/programs"
)

// CNI returns the directory of the CNI plugins bridge and host-local: those of the
// distribution, or of the cluster in the cache. Their absence is that of netns.
func CNI(t testing.TB) string {
	t.Helper()
	dirs := []string{"/usr/lib/cni", "/opt/cni/bin"}
	if own, err := programs.Cluster.Dir(); err == nil {
		dirs = append(dirs, own)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "host-local")); err == nil {
			return dir
		}
	}
	absent(t, Netns, errors.New("the CNI plugins are not installed: run make deps"))
	return ""
}
