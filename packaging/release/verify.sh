#!/bin/bash
# Usage: verify.sh DIR
#
# Whether the release in DIR is what its commit gives: all is signed by one key, the
# checksums are right, and a build here gives the same bytes, but for signatures. It
# ends with 1 when something differs, and names it. This repository must have the commit.
#
# KEY  the file with the public key that one trusts; by default DIR's own nfguard.asc,
#      whose fingerprint is then yours to compare
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh source-path=SCRIPTDIR
. "$here/common.sh"
[ -n "${1:-}" ] || fail "which release? Usage: make verify DIST=DIR"
dist=$(realpath -e "$1" 2>/dev/null) || fail "there is no $1"
need_programs jq rpmkeys
export GNUPGHOME=$work/gnupg # nobody's own
mkdir -m 700 "$GNUPGHOME"
failed() {
	echo "verify: $1" >&2
	exit 1
}

key=${KEY:-$dist/nfguard.asc}
gpg --batch --dearmor <"$key" >"$work/key.gpg" 2>/dev/null || fail "$key is no public key"
fingerprint=$(gpg --batch --with-colons --show-keys "$key" 2>/dev/null | awk -F: '$1 == "fpr" { print $10; exit }')
for file in SHA256SUMS "$dist"/nfguard-*.provenance.json; do
	file=${file##*/}
	gpgv -q --keyring "$work/key.gpg" "$dist/$file.asc" "$dist/$file" 2>"$work/gpg" || failed "$file: $(tail -n 1 "$work/gpg")"
done
(cd "$dist" && sha256sum --quiet --strict -c SHA256SUMS) >&2 || failed "a file is not as SHA256SUMS names it"
(cd "$dist" && find . -maxdepth 1 -type f -printf '%f\n' | sort) >"$work/there"
(cd "$dist" && sed 's/^[0-9a-f]*  //' SHA256SUMS && printf '%s\n' SHA256SUMS SHA256SUMS.asc nfguard-*.provenance.json.asc) | sort -u >"$work/named"
[ -z "$(comm -23 "$work/there" "$work/named")" ] || failed "SHA256SUMS does not name $(comm -23 "$work/there" "$work/named" | xargs)"
(check_repositories "$dist" "$work/key.gpg") || failed "the repositories are not as they were signed"
echo "verify: signed by $fingerprint, checksums right"

statement=$(echo "$dist"/nfguard-*.provenance.json)
read -r commit tag toolchain < <(jq -r '.predicate.buildDefinition | [.externalParameters.commit, .externalParameters.version, .internalParameters.go] | join(" ")' "$statement")
git -C "$repo" cat-file -e "$commit^{commit}" 2>/dev/null || fail "this repository has no commit $commit" "git fetch"
PROGRAMS=$(jq -r '.predicate.buildDefinition.internalParameters.programs | to_entries | map("\(.key)=\(.value)") | join(" ")' "$statement")
export PROGRAMS GOTOOLCHAIN=$toolchain

new=$work/new
mkdir "$new"
"$here/build.sh" "$new" "$commit" "$tag"
differ=0
different() {
	echo "verify: $1 differs" >&2
	differ=1
}
# An rpm has its signature in a header before the one that says what it is.
"$go" build -C "$repo/packaging/tools" -o "$work/" ./rpmbody
for file in "$new"/nfguard*; do
	name=${file##*/}
	if [ ! -e "$dist/$name" ]; then
		different "$name is missing: the release"
	elif [[ $name == *.rpm ]]; then
		cmp -s <("$work/rpmbody" "$file") <("$work/rpmbody" "$dist/$name") || different "$name"
		cp "$dist/$name" "$file" # for its checksum
	else
		cmp -s "$file" "$dist/$name" || different "$name"
	fi
done
[ $differ -eq 0 ] || exit 1
cp "$dist/nfguard.asc" "$new/"
epoch() { date -d "$(sed -n "s/^$1: //p" "$dist/apt/dists/stable/Release")" +%s; }
VALID_DAYS=$((($(epoch Valid-Until) - $(epoch Date)) / 86400))
export VALID_DAYS
mkdir -p "$work/older/apt/pool/main/n" "$work/older/yum"
cp -r "$dist/apt/pool/main/n/nfguard" "$work/older/apt/pool/main/n/"
cp "$dist"/yum/*.rpm "$work/older/yum/"
"$here/seal.sh" "$new" "$commit" "$tag" "$(epoch Date)" "$work/older"
(cd "$dist" && find . -type f -printf '%P\n' | sort) >"$work/there"
(cd "$new" && find . -type f -printf '%P\n' | sort) >"$work/made"
while read -r name; do
	case $name in *.asc | */InRelease | */Release.gpg) continue ;; esac
	cmp -s "$dist/$name" "$new/$name" || different "$name"
done < <(sort -u "$work/there" "$work/made")
[ $differ -eq 0 ] || exit 1
echo "verify: $tag, commit ${commit:0:12}, by $toolchain: $(wc -l <"$work/made") files are the same"
version=$(version_of "$tag")
for package in "$dist"/apt/pool/main/n/nfguard/*.deb "$dist"/yum/*.rpm; do
	case ${package##*/} in
	nfguard[_-]"$version"-1[_.]*) ;;
	*) echo "verify: signed, and of an earlier release, which was not built: ${package##*/}" ;;
	esac
done
