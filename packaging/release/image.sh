#!/bin/bash
# Usage: image.sh TREE ARCH VERSION DIR
#
# Makes of the files below usr of the unpacked package TREE an image for
# systemd-sysext in DIR, for hosts that take no packages.
set -euo pipefail
tree=$1 version=$3
case $2 in
amd64) arch=x86-64 ;;
*) arch=$2 ;;
esac
cd "$tree/usr"
rm -rf share/lintian lib/systemd/system-preset # of the package managers

# Any distribution, but this architecture. RELOAD_MANAGER is for systemd 255 and later;
# before, "systemctl daemon-reload" follows each merge.
mkdir -p lib/extension-release.d
cat >lib/extension-release.d/extension-release.nfguard <<-EOF
	ID=_any
	ARCHITECTURE=$arch
	EXTENSION_RELOAD_MANAGER=1
EOF
# Nothing is enabled in /usr, and what is merged comes after the boot has been planned:
# so the target pulls the service in whenever systemd looks again.
mkdir -p lib/systemd/system/multi-user.target.d
cat >lib/systemd/system/multi-user.target.d/10-nfguard.conf <<-EOF
	# nfguard.service starts by the image alone; "systemctl mask nfguard" keeps it from that.
	[Unit]
	Upholds=nfguard.service
EOF
# The package has it in /etc. All that is in it is a comment.
cp ../etc/nfguard/nfguard.toml share/nfguard/nfguard.toml
cd "$tree"
mkdir image
mv usr image/
rm -f "$4/nfguard-$version-$arch.raw"
# gzip: a kernel that reads squashfs at all reads it.
mksquashfs image "$4/nfguard-$version-$arch.raw" -all-root -noappend -no-xattrs -no-exports -comp gzip -processors 1 -no-progress -quiet >/dev/null
