package hook

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestCgroupMounts(t *testing.T) {
	const text = `22 1 0:5 / /proc rw,relatime - proc proc rw
25 23 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw
27 25 0:24 / /sys/fs/cgroup/systemd rw shared:6 master:1 - cgroup cgroup rw,name=systemd
28 1 0:23 /system.slice /mnt/a\040b\134c rw - cgroup2 none rw
garbage
`
	got, err := cgroupMounts(strings.NewReader(text))
	want := []string{"/sys/fs/cgroup/unified", `/mnt/a b\c`}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v; mounts (-want +got):\n%s", err, diff)
	}
}

func TestRehearsalIsJudged(t *testing.T) {
	read := facts{reads: true}
	for _, c := range []struct {
		name     string
		kernel   facts
		found    sysctlFound
		n        int
		err      error
		reads    bool
		rewrites bool
		without  string
	}{
		{"all works", read, sysctlFound{Ran: 1, Tgid: 42, Netns: 7, Device: 21}, 2, nil, true, true, ""},
		{"another position", read, sysctlFound{Ran: 1, Tgid: 42, Netns: 7, Device: 0}, 2, nil, true, true, ""},
		{"a rewrite is dropped", read, sysctlFound{Ran: 1, Tgid: 42, Netns: 7, Device: 21}, 1, nil, true, false, "rewrites nothing: this kernel drops what a program puts in place of a value"},
		{"not strict", read, sysctlFound{Ran: 1, Tgid: 42, Netns: 7, Device: 21}, 0, unix.EINVAL, true, false, "rewrites nothing: the rehearsal failed: invalid argument"},
		{"the kernel's memory leads elsewhere", read, sysctlFound{Ran: 1, Tgid: 42, Netns: 0, Device: 21}, 2, nil, false, false, "observes only: the rehearsal found network namespace 0, not 7"},
		{"not run", read, sysctlFound{}, 1, nil, false, false, "observes only: the program did not see our own write: it is attached elsewhere in the cgroup hierarchy"},
		{"no file", read, sysctlFound{}, 0, errors.New("open F: read-only file system"), false, false, "observes only: no rehearsal: open F: read-only file system"},
		{"nothing to read", facts{}, sysctlFound{Ran: 1, Tgid: 42, Netns: 0, Device: 21}, 2, nil, false, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := c.kernel
			k.judge(c.found, 7, 21, c.n, c.err)
			without := ""
			if len(k.without) > 0 {
				without = k.without[0] // another test covers the names of writers
			}
			got := fmt.Sprint(k.reads, k.rewrites, k.self, k.mount, without)
			mount := uint32(0)
			if c.reads && c.found.Device == 21 {
				mount = 21
			}
			want := fmt.Sprint(c.reads, c.rewrites, c.found.Tgid, mount, c.without)
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}
