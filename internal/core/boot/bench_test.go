package boot_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/boot"
)

// BenchmarkForecast is a host with 500 drop-ins in sysctl.d, 50 in modprobe.d,
// 60 files of udev's rules, 80 enabled units and five kernels of a distribution,
// each with half a megabyte of modules.dep. It is to take less than 50 ms.
func BenchmarkForecast(b *testing.B) {
	root := b.TempDir()
	link(b, root, "lib", "usr/lib")
	for i := range 500 {
		var text strings.Builder
		for j := range 5 {
			fmt.Fprintf(&text, "# why\nnet.ipv4.conf.eth%d.rp_filter = %d\nvm.swappiness=10\nnet.bridge.bridge-nf-call-iptables = 1\n", j, i%2)
		}
		write(b, root, fmt.Sprintf("%s/sysctl.d/%03d-role.conf", []string{"etc", "usr/lib", "run"}[i%3], i), text.String())
	}
	for i := range 50 {
		write(b, root, fmt.Sprintf("etc/modprobe.d/%02d.conf", i), strings.Repeat("install dccp /bin/false\nblacklist dccp\n", 20))
	}
	for i := range 60 {
		write(b, root, fmt.Sprintf("usr/lib/udev/rules.d/%02d.rules", i), strings.Repeat(
			"SUBSYSTEM!=\"block\", GOTO=\"end\"\nKERNEL==\"sd*\", ENV{X}==\"?*\", IMPORT{builtin}=\"path_id\", SYMLINK+=\"disk/by-x/$env{X}\"\n", 20)+
			"ACTION==\"add\", RUN+=\"/bin/true $name\"\nLABEL=\"end\"\n")
	}
	for i := range 10 {
		write(b, root, fmt.Sprintf("usr/local/bin/up%d", i), "#!/bin/sh\n"+strings.Repeat("[ -e /etc/x ] || mkdir -p /run/x && echo started\n", 40))
	}
	for i := range 80 {
		name := fmt.Sprintf("x%02d.service", i)
		write(b, root, "usr/lib/systemd/system/"+name, "[Unit]\nDescription=x\n\n[Service]\nExecStartPre=-/sbin/modprobe overlay\nExecStart=/usr/local/bin/up"+strconv.Itoa(i)+" --now\n")
		link(b, root, "etc/systemd/system/multi-user.target.wants/"+name, "/usr/lib/systemd/system/"+name)
	}
	for k := range 5 {
		release := fmt.Sprintf("6.1.0-%d-amd64", k)
		var dep strings.Builder
		for i := range 4500 {
			fmt.Fprintf(&dep, "kernel/drivers/net/ethernet/vendor%d/module%d.ko: kernel/drivers/net/phy/libphy.ko kernel/net/core/pktgen%d.ko\n", i%50, i, i)
		}
		dep.WriteString("kernel/net/netfilter/xt_physdev.ko: kernel/net/bridge/br_netfilter.ko\nkernel/net/bridge/br_netfilter.ko: kernel/net/bridge/bridge.ko\n")
		dir := "usr/lib/modules/" + release
		write(b, root, dir+"/modules.dep", dep.String())
		write(b, root, dir+"/modules.builtin", strings.Repeat("kernel/arch/x86/events/intel/intel-uncore.ko\n", 500))
		write(b, root, dir+"/kernel/net/bridge/br_netfilter.ko", "")
		write(b, root, dir+"/kernel/net/bridge/bridge.ko", "")
		write(b, root, "boot/vmlinuz-"+release, "")
	}
	o := boot.Options{Root: root, Keys: guarded, Release: "6.1.0-4-amd64", SysctlD: "/etc/sysctl.d/99-zz-nfguard.conf", ModulesLoad: "/etc/modules-load.d/nfguard.conf"}
	b.ReportAllocs()
	before, n := cpu(b), 0
	for b.Loop() {
		r := boot.Forecast(o)
		if len(r.Kernels) != 5 || r.Unread != nil {
			b.Fatalf("%+v", r)
		}
		n++
	}
	took := (cpu(b) - before) / time.Duration(n)
	b.ReportMetric(float64(took.Microseconds())/1000, "cpu-ms/op")
	if took > 50*time.Millisecond {
		b.Errorf("a forecast takes %v of processor time", took)
	}
}

// cpu is what this process has used: unlike the time that passes, it does not
// depend on who else is at work on the machine.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
