#!/bin/sh
# Usage: suite.sh SUITE DIR
#
# Makes DIR what Debian's SUITE has of procps, kmod, systemd and udev, with their libraries,
# unpacked and not configured, from the archive that this machine uses, if it uses
# Debian's at all; otherwise mmdebstrap uses its default. var/lib/dpkg/status has the
# versions of the three.
set -eu
suite=$1 dir=$2
# shellcheck disable=SC2016  # for apt-get to expand
archive=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	sed -n '/-security/d; s/ bookworm main$//p; s/ trixie main$//p' | head -n 1) || true
merge=
case $suite in
bullseye) ;; # its directories are two, as on hosts that were upgraded since before 2019
*) merge='cd "$1" && for d in bin sbin lib lib64; do mkdir -p usr/$d && ln -sfn usr/$d $d; done' ;;
esac
# Machines without a battery-backed clock fail the archive's date check.
mmdebstrap --mode=root --variant=extract --include=procps,kmod,systemd,udev \
	--aptopt='Acquire::Check-Date "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
	--aptopt='APT::Install-Recommends "false"' --skip=cleanup/apt/lists \
	${merge:+--setup-hook="$merge"} \
	"$suite" "$dir" ${archive:+"deb $archive $suite main"}
for package in procps kmod systemd; do
	gzip -dc "$dir/usr/share/doc/$package/changelog.Debian.gz" |
		sed -n '1s/^\([^ ]*\) (\(.*\)) .*/Package: \1\nStatus: install ok installed\nArchitecture: all\nVersion: \2\n/p'
done >"$dir/var/lib/dpkg/status"
mkdir -p "$dir/proc" "$dir/run" "$dir/usr/local/lib" "$dir/lib/modules" "$dir/lib/modprobe.d" \
	"$dir/usr/lib/modprobe.d" "$dir/usr/lib/sysctl.d" "$dir/usr/lib/modules-load.d"
rm -rf "$dir/var/cache/apt" "$dir/var/lib/apt" "$dir/usr/share/doc" "$dir/usr/share/man" "$dir/usr/share/locale" "$dir/usr/share/zoneinfo"
