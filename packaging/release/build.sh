#!/bin/bash
# Usage: build.sh DIR COMMIT VERSION
#
# Builds into DIR what a release has and nobody has signed: the packages for both
# architectures, and out of them the programs, the SBOMs and the images. One commit,
# version and release of Go give the same bytes.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh source-path=SCRIPTDIR
. "$here/common.sh"
need_programs gzip
dist=$1 commit=$2 tag=$3
version=$(version_of "$tag")

checkout "$work/src" "$commit" "$tag"
VERSION=$tag "$work/src/packaging/build.sh" "$dist" amd64 arm64 >/dev/null
SOURCE_DATE_EPOCH=$(git -C "$work/src" log -1 --format=%ct)
export SOURCE_DATE_EPOCH
for arch in amd64 arm64; do
	tree=$work/$arch
	dpkg-deb -x "$dist/nfguard_${version}-1_$arch.deb" "$tree"
	cp "$tree/usr/bin/nfguard" "$dist/nfguard-$version-linux-$arch"
	for format in cdx spdx; do
		cp "$tree/usr/share/nfguard/sbom/nfguard.$format.json" "$dist/nfguard-$version-linux-$arch.$format.json"
	done
	"$here/image.sh" "$tree" "$arch" "$version" "$dist"
done
