#!/bin/sh
# Usage: image.sh OUT DEBS PACKAGE...
#
# Builds what a test machine boots from in the empty directory OUT: vmlinux, initrd and
# disk.qcow2 of a Debian 12 with its cloud kernel. DEBS keeps the downloads.
# It runs as pid 1 of its own pid and mount namespaces (see image.go): when it ends
# or is killed, every process and every mount of the build ends with it.
# shellcheck disable=SC2016  # what is in single quotes is for apt-get and mmdebstrap to expand
set -eu
out=$1 debs=$2
shift 2
tree=$out/tree

mount --make-rprivate /
mount -t proc proc /proc

# The archive is the one that this machine uses, if it uses Debian 12's at all; otherwise
# mmdebstrap uses its default.
sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	grep -E ' bookworm(-updates|-security)? main$' | sort -u) || true

# update-initramfs is the slowest step of an installation, and its result is not used.
# Machines without a battery-backed clock fail the archive's date check.
export INITRD=No debs
mmdebstrap --mode=root --variant=minbase \
	--include="$(echo "$@" | tr ' ' ,)" \
	--aptopt='Acquire::Check-Date "false"' \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt=force-confold \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--skip=download/empty --skip=essential/unlink \
	--setup-hook='mkdir -p "$1/var/cache/apt/archives" && find "$debs" -name "*.deb" -exec cp -pt "$1/var/cache/apt/archives" {} +' \
	--essential-hook='mkdir -p "$1/etc/initramfs-tools" && echo update_initramfs=no >"$1/etc/initramfs-tools/update-initramfs.conf"' \
	--essential-hook='echo do_initrd = no >"$1/etc/kernel-img.conf"' \
	--customize-hook='cp -pu "$1"/var/cache/apt/archives/*.deb "$debs"' \
	bookworm "$tree" ${sources:+"$sources"}

# A fixed machine id, written after mmdebstrap's own reset: without one, systemd takes
# each boot for the first and spends seconds on presets.
echo 6e6667756172640000000000000000ab >"$tree/etc/machine-id"
echo guard >"$tree/etc/hostname"
ln -sf /dev/null "$tree/etc/systemd/system/serial-getty@.service"
# Debian enables tuned on installation; a test that needs it starts it.
systemctl --quiet --root="$tree" disable tuned.service apt-daily.timer apt-daily-upgrade.timer \
	dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer getty@tty1.service

# Extracts the kernel from its bzImage, so that qemu enters it directly (PVH) and the guest
# does not decompress: Documentation/arch/x86/boot.rst, payload_offset and payload_length.
kernel=$(echo "$tree"/boot/vmlinuz-*)
number() { od -An "-tu$2" "-j$1" "-N$2" "$kernel" | tr -d ' '; }
payload=$((($(number 497 1) + 1) * 512 + $(number 584 4)))
case $(number $payload 4) in
407642370) unpack=lz4 ;;   # 0x184c2102, Linux 6.1
4247762216) unpack=zstd ;; # 0xfd2fb528, Linux 6.12
*) echo "image.sh: $kernel is compressed in a way unknown to it" >&2 && exit 1 ;;
esac
# The payload's last four bytes are its unpacked size, not a part of the stream.
tail -c "+$((payload + 1))" "$kernel" | head -c "$(($(number 588 4) - 4))" |
	chroot "$tree" "$unpack" -dc >"$out/vmlinux"

# An initrd for virtio disks: busybox, and the modules in the order that modprobe names.
boot=$out/initrd.d
mkdir -p "$boot/bin" "$boot/dev" "$boot/root"
cp "$tree/bin/busybox" "$boot/bin/"
version=${kernel##*/vmlinuz-}
chroot "$tree" modprobe -S "$version" --show-depends -a virtio_pci virtio_blk |
	awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$out/modules"
while read -r module; do
	name=${module##*/}
	case $name in
	*.xz) chroot "$tree" busybox xzcat "$module" >"$boot/${name%.xz}" ;;
	*) cp "$tree$module" "$boot/" ;;
	esac
	echo "/bin/busybox insmod /${name%.xz}"
done <"$out/modules" >"$out/insmod"
{
	echo '#!/bin/busybox sh'
	echo '/bin/busybox mount -t devtmpfs dev /dev'
	echo 'exec </dev/console >/dev/console 2>&1'
	cat "$out/insmod"
	echo '/bin/busybox mount -t ext4 /dev/vda /root'
	echo '/bin/busybox mount --move /dev /root/dev'
	echo 'exec /bin/busybox switch_root /root /sbin/init'
} >"$boot/init"
chmod 755 "$boot/init"
(cd "$boot" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$out/initrd"

# The inode tables are written now; otherwise the guest's kernel would do so in each test.
mke2fs -q -t ext4 -E lazy_itable_init=0 -d "$tree" "$out/disk.raw" 3G
qemu-img convert -O qcow2 "$out/disk.raw" "$out/disk.qcow2"
rm -rf "$tree" "$boot" "$out/modules" "$out/insmod" "$out/disk.raw"
