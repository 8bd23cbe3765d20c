#!/bin/sh
# Usage: arm64.sh DIR
#
# Makes DIR what an arm64 machine boots from: kernel, Debian 12's for clouds, and root, a
# tree with busybox, kmod, sysctl, setpriv, true and the modules of the network. No program of
# arm64 runs for that. The archive is the one that this machine uses, if it uses Debian
# 12's at all; otherwise mmdebstrap uses its default.
set -eu
out=$1 all=$1.all
trap 'rm -rf "$all"' EXIT
# shellcheck disable=SC2016  # for apt-get to expand
sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	grep -E ' bookworm(-updates|-security)? main$' | sort -u) || true
# Machines without a battery-backed clock fail the archive's date check.
mmdebstrap --mode=root --variant=extract --architectures=arm64 \
	--include=linux-image-cloud-arm64,busybox-static,coreutils,kmod,procps,util-linux \
	--aptopt='Acquire::Check-Date "false"' --aptopt='APT::Install-Recommends "false"' \
	bookworm "$all" ${sources:+"$sources"}

root=$out/root
version=$(ls "$all/lib/modules")
modules=lib/modules/$version
mkdir -p "$root/bin" "$root/sbin" "$root/lib/aarch64-linux-gnu" "$root/$modules"
cp "$all/boot/vmlinuz-$version" "$out/kernel"
cp "$all/bin/busybox" "$all/bin/kmod" "$all/bin/true" "$all/usr/bin/setpriv" "$root/bin/"
cp "$all/sbin/sysctl" "$root/sbin/"
ln -s ../bin/kmod "$root/sbin/modprobe"
ln -s aarch64-linux-gnu/ld-linux-aarch64.so.1 "$root/lib/ld-linux-aarch64.so.1"
for library in ld-linux-aarch64.so.1 libc.so.6 libcap-ng.so.0 libcrypto.so.3 liblzma.so.5 libproc2.so.0 libzstd.so.1; do
	found=$(find "$all/lib/aarch64-linux-gnu" "$all/usr/lib/aarch64-linux-gnu" -maxdepth 1 -name "$library")
	cp -L "$found" "$root/lib/aarch64-linux-gnu/"
done
for part in modules.order modules.builtin modules.builtin.modinfo kernel/drivers/net/veth.ko kernel/lib/libcrc32c.ko \
	kernel/net/802 kernel/net/bridge kernel/net/ipv4/netfilter kernel/net/ipv6/netfilter kernel/net/llc kernel/net/netfilter; do
	mkdir -p "$(dirname "$root/$modules/$part")"
	cp -R "$all/$modules/$part" "$root/$modules/$part"
done
depmod -b "$root" "$version"
