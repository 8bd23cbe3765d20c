package release

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
	"github.com/nfguard/nfguard/test/vm"
)

// bootARM64 is the init of the arm64 machine. What it says is compared.
const bootARM64 = `#!/bin/busybox sh
/bin/busybox --install /bin # what is there stays
export PATH=/sbin:/bin NFGUARD_TEST_REQUIRE=root,netns
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
mount -t cgroup2 none /sys/fs/cgroup; mount -t bpf bpf /sys/fs/bpf; mount -t tracefs none /sys/kernel/tracing
ip link set lo up
modprobe nf_tables
key=/proc/sys/net/bridge/bridge-nf-call-iptables
say() { echo "story: $*"; }
start() {
	nfguard run 2>/run/$1 &
	tries=600; until nfguard status >/run/status; do tries=$((tries - 1)); [ $tries -gt 0 ] || break; sleep 0.1; done
	say "$1: $(head -n 1 /run/status)"
	grep -E '^(sysctl|exec) ' /run/status
}
stop() { kill $!; wait $!; say "ended with $?"; }
say "$(uname -m), $(nfguard version | cut -d ' ' -f 2)"
say "before: $(cat $key 2>/dev/null || echo no module)"
start enforce
echo 0 >$key; say "0 written: exit $?, now $(cat $key)"
tries=600; until grep -q rewritten /run/enforce; do tries=$((tries - 1)); [ $tries -gt 0 ] || break; sleep 0.1; done
say "recorded: $(sed -n 's/.*"MESSAGE":"\([^"]*rewritten\)".*/\1/p' /run/enforce | sed 's/\[[0-9]*\]//')"
nfguard check >/run/check; say "check: exit $?"
nfguard probe >/run/probe; say "probe: exit $?, $(grep -c answered /run/probe) lines of answers"
stop
mkdir -p /etc/nfguard; echo 'mode = "lock"' >/etc/nfguard/nfguard.toml
start lock
echo 0 >$key; say "0 written: exit $?, now $(cat $key)"
stop
for package in hook drops; do
	/$package.test -test.v -test.skip "$(cat /skip)"; say "tests of $package: exit $?"
done
poweroff -f
`

// notOnARM64 are the tests of the BPF programs that are not run there, and why.
var notOnARM64 = map[string]string{
	"TestLockHolds":                      "a million writes take minutes under emulation",
	"TestDescriptorsAreGivenBack":        "a hundred loads take more than a minute under emulation",
	"TestToolsGoOn/systemd-sysctl":       "the machine has no systemd",
	"TestWritersAreNamed/systemd-sysctl": "the machine has no systemd",
	"TestWritersAreNamed/short-lived":    "the machine has no compiler",
}

// TestVMARM64 boots Debian's arm64 kernel with the released arm64 program, which loads
// the module and its BPF programs there and guards, in each mode that these are for. Then
// the unit tests of the BPF programs run, compiled for arm64.
func TestVMARM64(t *testing.T) {
	lab.Need(t, lab.Root, lab.VM)
	lab.Tool(t, lab.VM, "depmod")
	cpio := lab.Tool(t, lab.VM, "cpio")
	r := made(t)
	dir := lab.Debian(t, "arm64.sh")
	tree := dir + "/root"
	for _, name := range []string{"dev", "etc", "proc", "run", "sys", "tmp"} {
		if err := os.MkdirAll(tree+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var skip []string
	for name, why := range notOnARM64 {
		t.Logf("not run: %s: %s", name, why)
		skip = append(skip, "^"+strings.ReplaceAll(name, "/", "$/^"))
	}
	write(t, tree+"/skip", strings.Join(skip, "|"))
	write(t, tree+"/init", bootARM64)
	if err := os.Chmod(tree+"/init", 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "install", r.first+"/nfguard-0.1.0-linux-arm64", tree+"/bin/nfguard")
	for _, name := range []string{"hook", "drops"} {
		build := exec.Command("go", "test", "-c", "-o", filepath.Join(tree, name+".test"), "./internal/kernel/"+name)
		build.Dir = root
		build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
		output(t, build)
	}
	run(t, "sh", "-euc", `cd "$0/root"; find . | "$1" --quiet -o -H newc -R 0:0 | gzip -1 >"$0/initrd"`, dir, cpio)

	console := vm.ARM64(t, dir+"/kernel", dir+"/initrd")
	var said []string
	passed := 0
	for lines := bufio.NewScanner(strings.NewReader(console)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if text, ok := strings.CutPrefix(line, "story: "); ok {
			said = append(said, text)
		}
		if strings.HasPrefix(line, "--- PASS: ") {
			passed++
		}
	}
	want := []string{
		"aarch64, v0.1.0",
		"before: no module",
		"enforce: healthy: br_netfilter loaded, 3 of 3 keys as wanted; 3 corrected so far",
		"0 written: exit 0, now 1",
		"recorded: net.bridge.bridge-nf-call-iptables stays 1: init wrote 0, which was rewritten",
		"check: exit 0",
		"probe: exit 0, 6 lines of answers",
		"ended with 0",
		"lock: healthy: br_netfilter loaded, 3 of 3 keys as wanted",
		"0 written: exit 1, now 1",
		"ended with 0",
		"tests of hook: exit 0",
		"tests of drops: exit 0",
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, console)
	}
	// By the BPF programs, not by what stands in for them.
	for _, source := range []string{`sysctl +up .*subscribed: BPF cgroup/sysctl`, `exec +up .*subscribed: BPF raw tracepoint`} {
		if !regexp.MustCompile(source).MatchString(console) {
			t.Errorf("want %q in\n%s", source, console)
		}
	}
	if strings.Contains(console, "--- SKIP") || passed < 25 {
		t.Errorf("%d tests of the BPF programs passed, and perhaps some were skipped:\n%s", passed, console)
	}
	t.Logf("%d tests of the BPF programs passed on arm64", passed)
}
