#!/bin/bash
# Usage: seal.sh DIR COMMIT VERSION DATE [OLDER]
#
# Writes into DIR, of the files that are there, the repositories with the date DATE,
# the provenance and the checksums. The packages of the earlier release OLDER stay in
# the repositories. The same files give the same bytes.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh source-path=SCRIPTDIR
. "$here/common.sh"
dist=$(realpath "$1") commit=$2 tag=$3 date=$4 older=${5:-}

# The times of files are in the yum repository's metadata.
stamp() {
	local rpm
	for rpm in "$1"/*.rpm; do
		touch -d "@$(rpm -qp --nosignature --qf '%{BUILDTIME}' "$rpm")" "$rpm"
	done
}

pool=$dist/apt/pool/main/n/nfguard
mkdir -p "$pool" "$dist/yum"
if [ -n "$older" ]; then
	cp "$older"/apt/pool/main/n/nfguard/*.deb "$pool"
	cp "$older"/yum/*.rpm "$dist/yum"
fi
for package in "$dist"/*.deb "$dist"/*.rpm; do
	target=$dist/yum
	[[ $package != *.deb ]] || target=$pool
	target=$target/${package##*/}
	# dpkg and rpm take the same version for the same package, whatever is in it.
	if [ -n "$older" ] && [[ $package == *.deb && -e $target ]] && ! cmp -s "$package" "$target"; then
		fail "$older has another ${package##*/}" "a version is released once"
	fi
	cp "$package" "$target"
done

cd "$dist/apt"
rfc() { date -u -d "@$1" '+%a, %d %b %Y %H:%M:%S UTC'; }
for arch in amd64 arm64; do
	index=dists/stable/main/binary-$arch
	mkdir -p "$index"
	apt-ftparchive --arch "$arch" packages pool/main >"$index/Packages"
	gzip -9nk "$index/Packages"
	xz -9k "$index/Packages"
done
release() { echo "APT::FTPArchive::Release::$1 \"$2\";"; }
{
	release Origin nfguard
	release Label nfguard
	release Suite stable
	release Codename stable
	release Components main
	release Architectures "amd64 arm64"
	release Description "nfguard for Kubernetes workers"
	release Date "$(rfc "$date")"
	echo 'APT::FTPArchive::MD5 "false"; APT::FTPArchive::SHA1 "false";'
} >"$work/apt.conf"
# apt-ftparchive counts Valid-Until from now, whatever Date is.
until=$(rfc $((date + ${VALID_DAYS:-365} * 86400)))
apt-ftparchive -c "$work/apt.conf" release dists/stable | sed "/^Date:/a Valid-Until: $until" >"$work/Release"
mv "$work/Release" dists/stable/Release

cd "$dist/yum"
stamp .
createrepo_c --quiet --revision "$date" --set-timestamp-to-revision --no-database --checksum sha256 --workers 1 .

cd "$dist"
PROGRAMS=${PROGRAMS:-$(dpkg-query -W -f '${Package}=${Version} ' apt-utils createrepo-c gnupg gzip rpm squashfs-tools xz-utils)}
toolchain=$("$go" env GOVERSION)
"$go" build -C "$repo/packaging/tools" -o "$work/" ./provenance
git -C "$repo" show "$commit:packaging/tools/go.sum" >"$work/go.sum"
provenance=nfguard-$(version_of "$tag").provenance.json
shopt -s extglob
"$work/provenance" -commit "$commit" -version "$tag" -go "$toolchain" -gosum "$work/go.sum" -programs "$PROGRAMS" \
	-out "$provenance" nfguard[-_]!(*.provenance.json)
sha256sum nfguard* >SHA256SUMS
