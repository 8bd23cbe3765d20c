package boot_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/boot"
)

// TestCarrier tells what to install for a kernel without the module: by the
// kernel's kind, and never a package that there is not.
func TestCarrier(t *testing.T) {
	const (
		owner = "install the package that owns this kernel, or its modules package"
		again = "install it again: apt-get install --reinstall "
	)
	tests := []struct {
		release string
		files   []string // that are there, too
		pkg     string
		next    string // "": install pkg
	}{
		// Debian, and who builds as it does.
		{release: "6.1.0-18-amd64", pkg: "linux-image-6.1.0-18-amd64"},
		{release: "6.1.0-18-cloud-amd64", pkg: "linux-image-6.1.0-18-cloud-amd64"},
		{release: "6.12.43+deb13-cloud-arm64", pkg: "linux-image-6.12.43+deb13-cloud-arm64"},
		{release: "6.9.7+bpo-rt-amd64", pkg: "linux-image-6.9.7+bpo-rt-amd64"},
		{release: "6.9.7-1-liquorix-amd64", pkg: "linux-image-6.9.7-1-liquorix-amd64"},
		{release: "6.6.31+rpt-rpi-v8", pkg: "linux-image-6.6.31+rpt-rpi-v8"},
		{
			release: "6.1.0-18-amd64", files: []string{"/usr/share/doc/linux-image-6.1.0-18-amd64/copyright"},
			pkg: "linux-image-6.1.0-18-amd64", next: again + "linux-image-6.1.0-18-amd64",
		},
		// Ubuntu.
		{release: "6.8.0-60-generic", pkg: "linux-modules-6.8.0-60-generic (or linux-modules-extra-6.8.0-60-generic)"},
		{release: "6.8.0-1029-aws", pkg: "linux-modules-6.8.0-1029-aws (or linux-modules-extra-6.8.0-1029-aws)"},
		{release: "5.15.0-1064-kvm", pkg: "linux-modules-5.15.0-1064-kvm"},
		{
			release: "6.8.0-1021-azure", files: []string{"/usr/share/doc/linux-modules-6.8.0-1021-azure/copyright"},
			pkg: "linux-modules-extra-6.8.0-1021-azure",
		},
		{
			release: "5.15.0-1064-kvm", files: []string{"/usr/share/doc/linux-modules-5.15.0-1064-kvm/copyright"},
			pkg: "linux-modules-5.15.0-1064-kvm", next: again + "linux-modules-5.15.0-1064-kvm",
		},
		{
			release: "6.9.7-060907-generic", files: []string{
				"/usr/share/doc/linux-modules-6.9.7-060907-generic/copyright", "/usr/share/doc/linux-modules-extra-6.9.7-060907-generic/copyright",
			},
			pkg: "linux-modules-6.9.7-060907-generic", next: again + "linux-modules-6.9.7-060907-generic",
		},
		// Proxmox.
		{release: "6.8.12-4-pve", pkg: "proxmox-kernel-6.8.12-4-pve"},
		{release: "5.15.158-2-pve", pkg: "pve-kernel-5.15.158-2-pve"},
		{release: "6.2.16-20-pve", next: owner},
		{
			release: "6.2.16-20-pve", files: []string{"/usr/share/doc/proxmox-kernel-6.2.16-20-pve/copyright"},
			pkg: "proxmox-kernel-6.2.16-20-pve", next: again + "proxmox-kernel-6.2.16-20-pve",
		},
		{
			release: "6.8.12-4-pve", files: []string{"/usr/share/doc/proxmox-kernel-6.8.12-4-pve-signed/copyright"},
			pkg: "proxmox-kernel-6.8.12-4-pve-signed", next: again + "proxmox-kernel-6.8.12-4-pve-signed",
		},
		// Red Hat's.
		{release: "3.10.0-1160.118.1.el7.x86_64", pkg: "kernel-3.10.0-1160.118.1.el7.x86_64"},
		{release: "4.18.0-553.5.1.el8_10.x86_64", pkg: "kernel-modules-4.18.0-553.5.1.el8_10.x86_64"},
		{release: "5.14.0-427.13.1.el9_4.aarch64", pkg: "kernel-modules-5.14.0-427.13.1.el9_4.aarch64"},
		{release: "5.14.0-427.13.1.el9_4.aarch64+64k", pkg: "kernel-64k-modules-5.14.0-427.13.1.el9_4.aarch64"},
		{release: "6.12.0-55.40.1.0.1.el10_0.x86_64", pkg: "kernel-modules-extra-6.12.0-55.40.1.0.1.el10_0.x86_64"},
		{release: "6.12.0-124.8.1.el10_1.x86_64_v2", pkg: "kernel-modules-extra-6.12.0-124.8.1.el10_1.x86_64_v2"},
		{release: "6.9.7-200.fc40.x86_64", pkg: "kernel-modules-6.9.7-200.fc40.x86_64 (or kernel-modules-extra-6.9.7-200.fc40.x86_64)"},
		{release: "4.18.0-553.rt7.342.el8_10.x86_64", next: owner},
		// Others that Red Hat's systems run.
		{release: "5.4.17-2136.333.5.el8uek.x86_64", next: owner},
		{release: "5.15.0-209.161.7.2.el9uek.x86_64", next: owner},
		{release: "6.12.0-105.51.5.el10uek.x86_64", next: owner},
		{release: "5.4.278-1.el8.elrepo.x86_64", next: owner},
		{release: "3.10.0-1160.el7.centos.plus.x86_64", next: owner},
		{release: "6.1.141-155.222.amzn2023.x86_64", next: owner},
		{
			release: "5.10.220-209.869.amzn2.x86_64", files: []string{"/var/lib/rpm/Packages"},
			next: owner + ": rpm -qf /lib/modules/5.10.220-209.869.amzn2.x86_64 names what is installed of it",
		},
		{release: "6.1.56", files: []string{"/var/lib/rpm/Packages", "/etc/debian_version"}, next: owner}, // Debian has rpm, too
		// SUSE.
		{release: "5.14.21-150500.55.19-default", pkg: "kernel-default of version 5.14.21-150500.55.19 (not kernel-default-base)"},
		{release: "5.14.21-150500.33.20-azure", pkg: "kernel-azure of version 5.14.21-150500.33.20"},
		// No packages.
		{release: "6.6.35-flatcar", next: "boot an image of Flatcar that has it: modules come with the image there, not by a package"},
		{release: "6.6.33-talos", next: "boot an image of Talos that has it: modules come with the image there, not by a package"},
		// Somebody's own.
		{release: "6.1.55", next: owner},
		{release: "6.6.36-current-rockchip64", next: owner},
		{
			release: "6.6.36-current-rockchip64", files: []string{"/usr/share/doc/linux-image-6.6.36-current-rockchip64/copyright"},
			pkg: "linux-image-6.6.36-current-rockchip64", next: again + "linux-image-6.6.36-current-rockchip64",
		},
	}
	for _, tt := range tests {
		t.Run(tt.release, func(t *testing.T) {
			root := t.TempDir()
			write(t, root, "/lib/modules/"+tt.release+"/modules.dep", "")
			write(t, root, "/etc/os-release", "ID=ubuntu\nID_LIKE=debian\n") // says nothing about kernels
			for _, name := range tt.files {
				write(t, root, name, "")
			}
			want := tt.next
			if want == "" {
				want = "install " + tt.pkg
			}
			r := boot.Forecast(boot.Options{Root: root})
			if len(r.Kernels) != 1 || r.Kernels[0].Package != tt.pkg {
				t.Errorf("%s, %q: the package is %q, want %q", tt.release, tt.files, r.Kernels[0].Package, tt.pkg)
			}
			if f := r.Findings[len(r.Findings)-1]; f.Next != want || f.Subject != tt.release {
				t.Errorf("%s, %q: next is %q, want %q", tt.release, tt.files, f.Next, want)
			}
		})
	}
}

// TestCarrierOfATree: the commands are for the tree, not for the host.
func TestCarrierOfATree(t *testing.T) {
	root := t.TempDir()
	write(t, root, "/lib/modules/6.1.0-18-amd64/modules.dep", "")
	write(t, root, "/usr/share/doc/linux-image-6.1.0-18-amd64/copyright", "")
	write(t, root, "/lib/modules/6.1.55/modules.dep", "")
	write(t, root, "/usr/lib/sysimage/rpm/x", "")
	want := []string{
		"install it again: chroot " + root + " apt-get install --reinstall linux-image-6.1.0-18-amd64",
		"install the package that owns this kernel, or its modules package: rpm --root " + root + " -qf /lib/modules/6.1.55 names what is installed of it",
	}
	var got []string
	for _, f := range boot.Forecast(boot.Options{Root: root, Image: true}).Findings[1:] {
		got = append(got, f.Next)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestModulesPackages reads the list that a kernel brings of its own modules.
func TestModulesPackages(t *testing.T) {
	const release = "6.12.0-105.51.5.el10uek.x86_64"
	for text, want := range map[string]string{
		"kernel/net/bridge/br_netfilter.ko kernel-uek-modules-extra-netfilter\n":                "install kernel-uek-modules-extra-netfilter-" + release,
		"# x\nkernel/net/bridge/br_netfilter.ko.xz: kernel-uek-modules\n":                       "install kernel-uek-modules-" + release,
		"kernel/net/bridge/br-netfilter.ko kernel-uek-modules-" + release + "\n":                "install kernel-uek-modules-" + release,
		"kernel/net/bridge/bridge.ko kernel-uek-modules\nkernel/x/br_netfilter.ko.xz.old y\n\n": "install the package that owns this kernel, or its modules package",
	} {
		root := t.TempDir()
		write(t, root, "/lib/modules/"+release+"/modules.dep", "")
		write(t, root, "/lib/modules/"+release+"/modules.packages", text)
		r := boot.Forecast(boot.Options{Root: root, Image: true})
		if f := r.Findings[len(r.Findings)-1]; f.Next != want {
			t.Errorf("%q: next is %q, want %q", text, f.Next, want)
		}
	}
}
