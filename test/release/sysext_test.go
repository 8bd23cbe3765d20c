package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// story is what the host with the images does, in the order of docs/install.md. Each
// step says what it found.
const story = `
say() { echo "$1: $2"; }
until_active() { for i in $(seq 300); do [ "$(systemctl is-active nfguard)" = active ] && break; sleep 0.2; done; say "$1" "$(systemctl is-active nfguard), $(nfguard version | cut -d ' ' -f 2)"; }
mkdir -p /var/lib/extensions
cp /first.raw /var/lib/extensions/nfguard.raw
systemd-sysext merge && systemctl daemon-reload
until_active merged
say settings "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables) $(ls /etc/modules-load.d/nfguard.conf)"
say package "$(ls -d /usr/lib/systemd/system-preset/*nfguard* /usr/share/lintian/overrides/nfguard 2>/dev/null)"
cp /second.raw /var/lib/extensions/nfguard.raw
systemd-sysext refresh && systemctl daemon-reload && systemctl restart nfguard
until_active refreshed
rm /var/lib/extensions/nfguard.raw
systemd-sysext refresh && systemctl daemon-reload && systemctl stop nfguard
say unmerged "$(systemctl is-active nfguard), $(test -e /usr/bin/nfguard && echo there || echo gone)"
say settings "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables) $(ls /etc/modules-load.d/nfguard.conf)"
say failed "$(systemctl --failed --no-legend --plain)"
`

// TestSysext boots a Debian without the package in a container, merges the image of the
// first release, refreshes it by the second's, and takes it away.
func TestSysext(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	nspawn := lab.Tool(t, lab.Root, "systemd-nspawn")
	r := made(t)
	tree := lab.Debian(t, "../packaging/debian.sh")
	arch := map[string]string{"amd64": "x86-64", "arm64": "arm64"}[strings.TrimSpace(run(t, "go", "env", "GOARCH"))]
	run(t, "cp", r.first+"/nfguard-0.1.0-"+arch+".raw", tree+"/first.raw")
	run(t, "cp", r.second+"/nfguard-0.2.0-"+arch+".raw", tree+"/second.raw")
	// nspawn gives no loop devices, but the right to make them.
	write(t, tree+"/story.sh", "mknod /dev/loop-control c 10 237; for i in $(seq 0 7); do mknod /dev/loop$i b 7 $i; done\n"+story)
	write(t, tree+"/etc/nfguard/conf.d/00-here.toml", "namespace = \"own\"\n") // it is a container
	write(t, tree+"/etc/systemd/system/story.service", "[Service]\nType=oneshot\nStandardOutput=file:/story.out\nStandardError=file:/story.err\n"+
		"ExecStart=/bin/sh /story.sh\nExecStopPost=/bin/systemctl poweroff --force\n[Unit]\nAfter=multi-user.target\n")
	wants := tree + "/etc/systemd/system/default.target.wants"
	if err := os.MkdirAll(wants, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../story.service", wants+"/story.service"); err != nil {
		t.Fatal(err)
	}

	// A limit for what hangs; it takes half a minute.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	args := []string{
		"--quiet", "--boot", "--directory=" + tree, fmt.Sprint("--machine=nfguard-release-", os.Getpid()),
		"--private-network", "--register=no", "--keep-unit", "--link-journal=no", "--console=pipe", "--settings=no",
		"--capability=CAP_SYS_MODULE", "--system-call-filter=fanotify_init fanotify_mark init_module finit_module",
	}
	cmd := exec.CommandContext(ctx, nspawn, args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "SYSTEMD_NSPAWN_LOCK=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // and its pid 1 goes with it
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	lab.RemoveGroups(t)
	keepLoops(t)
	ended := cmd.Run() // what it says of the end is not what is tested
	if _, err := os.Stat(tree + "/story.out"); err != nil {
		t.Fatalf("nspawn: %v\n%s", ended, console.Bytes())
	}
	want := `merged: active, v0.1.0
settings: 1 /etc/modules-load.d/nfguard.conf
package: 
refreshed: active, v0.2.0
unmerged: inactive, gone
settings: 1 /etc/modules-load.d/nfguard.conf
failed: 
`
	if diff := cmp.Diff(want, read(t, tree+"/story.out")); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s\n%s", diff, read(t, tree+"/story.err"), console.Bytes())
	}
}

// keepLoops has the machine's loop devices there again at the end: systemd takes away
// those that it has used.
func keepLoops(t *testing.T) {
	t.Helper()
	const add = 0x4c80 // LOOP_CTL_ADD of include/uapi/linux/loop.h
	before, err := filepath.Glob("/dev/loop[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		control, err := os.Open("/dev/loop-control")
		if err != nil {
			t.Error(err)
			return
		}
		defer control.Close()
		for _, path := range before {
			number, err := strconv.Atoi(strings.TrimPrefix(path, "/dev/loop"))
			if err != nil {
				continue
			}
			if err := unix.IoctlSetInt(int(control.Fd()), add, number); err != nil && !errors.Is(err, unix.EEXIST) {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
}
