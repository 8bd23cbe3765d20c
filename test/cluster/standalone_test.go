package cluster

import (
	"testing"
)

func TestNode(t *testing.T) {
	n := newNode(t, "worker", 1)
	t.Log(n.Run("sh", "-c", "hostname; ip -o addr; cat /proc/self/cgroup; ls /sys/fs/cgroup /sys/fs/cgroup/memory; mount | tail -30; ls /var/lib /run"))
	w := &Worker{Node: n}
	w.containerd(t, images(t))
	t.Log(n.Run("ctr", "-a", socket, "-n", "k8s.io", "images", "ls"))
}
