#!/bin/sh
# Usage: build.sh DIR [ARCH...]
#
# Builds the deb and the rpm for each ARCH (amd64 arm64) into the directory DIR, and
# removes older ones there. The same commit and Go release always give the same bytes,
# whoever builds them, when and where. VERSION can be set instead of "git describe".
set -eu
mkdir -p "$1"
dist=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- amd64 arm64
cd "$(dirname "$0")/.."
go=${GO:-go}
describe=${VERSION:-$(git describe --tags --always --dirty)}
VERSION=$(packaging/version.sh "$describe" "$(git rev-list --count HEAD)")
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
BUILD=$dist/tmp
export VERSION SOURCE_DATE_EPOCH BUILD CGO_ENABLED=0 LC_ALL=C TZ=UTC
export GOFLAGS=-buildvcs=auto GOAMD64=v1 GOARM64=v8.0 GOEXPERIMENT= # whatever the user has set
umask 022

rm -rf "$BUILD" "$dist"/nfguard[_-]*.deb "$dist"/nfguard[_-]*.rpm
mkdir "$BUILD"
trap 'rm -rf "$BUILD"' EXIT

compile() { # GOARCH OUTPUT: as make build does
	GOARCH=$1 "$go" build -trimpath -o "$2" \
		-ldflags "-s -w -X github.com/nfguard/nfguard/internal/build.version=$describe" ./cmd/nfguard
}

# The tools, by packaging/tools/go.mod, with their checksums.
"$go" build -C packaging/tools -trimpath -o "$BUILD/" ./sbom github.com/goreleaser/nfpm/v2/cmd/nfpm

compile "$("$go" env GOHOSTARCH)" "$BUILD/host" # the completions are the same everywhere
for shell in bash zsh fish; do
	"$BUILD/host" completion $shell >"$BUILD/completion.$shell"
done
for page in packaging/man/*.[58]; do
	gzip -9n <"$page" >"$BUILD/${page##*/}.gz"
done
gzip -9n <CHANGELOG.md >"$BUILD/changelog.gz"
gzip -9n >"$BUILD/changelog.Debian.gz" <<-EOF
	nfguard ($VERSION-1) stable; urgency=medium

	  * Built from $describe; changelog.gz tells what is new.

	 -- nfguard maintainers <nfguard@users.noreply.github.com>  $(date -uR -d "@$SOURCE_DATE_EPOCH")
EOF

for ARCH; do
	export ARCH
	compile "$ARCH" "$BUILD/nfguard"
	"$BUILD/sbom" -binary "$BUILD/nfguard" -version "$VERSION" -copyright packaging/copyright -out "$BUILD/sbom-nfguard" \
		internal/kernel/*/*_bpfel.o
	for format in deb rpm; do
		"$BUILD/nfpm" package --config nfpm.yaml --packager $format --target "$dist/" >/dev/null
	done
done
(cd "$dist" && wc -c nfguard*)
