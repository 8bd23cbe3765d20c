package kernel

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/pods"
	"github.com/nfguard/nfguard/internal/kernel/proc"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

// devices lists the network devices of the calling thread's namespace, with who
// is behind those whose other end is in another one.
func devices(ctx context.Context) ([]trace.Device, error) {
	list, err := rtnl.Devices(ctx)
	if err != nil {
		return nil, err
	}
	names, away := make(map[int]string, len(list)), false
	for _, d := range list {
		names[d.Index] = d.Name
		away = away || d.Away
	}
	var behind map[int]tenant
	if away {
		behind = tenants()
	}
	all := make([]trace.Device, 0, len(list))
	var called *pods.Names
	if away {
		called, _ = pods.ReadNames("/var/log") // without it, the uid has to do
	}
	for _, d := range list {
		one := trace.Device{Index: d.Index, Name: d.Name, Kind: d.Kind, MAC: d.MAC, Bridge: names[d.Master]}
		if d.Away {
			t := behind[d.NetnsID]
			one.Namespace, one.Pod, one.Process = t.name, t.pod, t.process
			one.PodName = called.Of(t.pod, "").String()
		}
		all = append(all, one)
	}
	return all, nil
}

// tenant is who is in a network namespace.
type tenant struct {
	name, pod, process string
	inode              uint64 // of the namespace
	path               string // a file that stands for it, to enter it by
	pid                int    // of a process in it; 0: none was seen
}

// place is the tenant's namespace in the words of the result.
func (t *tenant) place(called *pods.Names) trace.Place {
	return trace.Place{Namespace: t.name, Pod: t.pod, PodName: called.Of(t.pod, "").String(), Process: t.process}
}

// tenants finds the other network namespaces that a process is in or that have
// a name, by the id that this one has for them. What we may not look into is
// left out.
func tenants() map[int]tenant {
	found := make(map[int]tenant)
	seen := make(map[uint64]int) // by inode: the id
	named, _ := filepath.Glob("/run/netns/*")
	for _, path := range named {
		if id, inode, ok := namespaceID(path); ok {
			seen[inode] = id
			found[id] = tenant{name: filepath.Base(path), inode: inode, path: path}
		}
	}
	for _, pid := range processes() {
		path := fmt.Sprintf("/proc/%d/ns/net", pid)
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil {
			continue
		}
		id, known := seen[st.Ino]
		if !known {
			var ok bool
			if id, _, ok = namespaceID(path); !ok {
				id = -1
			}
			seen[st.Ino] = id
		}
		t := found[id]
		if id < 0 || t.pod != "" && t.process != "" {
			continue
		}
		if t.pid == 0 {
			t.pid, t.inode = pid, st.Ino
			if t.path == "" {
				t.path = path
			}
		}
		if t.name == "" {
			t.name = fmt.Sprintf("net:[%d]", st.Ino)
		}
		p := proc.Read(pid)
		if t.process == "" && p.Comm != sandbox {
			t.process = fmt.Sprintf("%s[%d]", p.Comm, pid)
		}
		if t.pod == "" {
			t.pod = proc.Locate(p.Cgroup).Pod
		}
		found[id] = t
	}
	return found
}

// sandbox holds a pod's namespaces, and says nothing of what the pod is.
const sandbox = "pause"

// processes lists the processes, in the order of their number.
func processes() []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func namespaceID(path string) (id int, inode uint64, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, false
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0, 0, false
	}
	id, ok = rtnl.NetnsID(int(f.Fd()))
	return id, st.Ino, ok
}

// ownInode is the inode of the calling thread's network namespace.
func ownInode() uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/thread-self/ns/net", &st) != nil {
		return 0
	}
	return st.Ino
}
