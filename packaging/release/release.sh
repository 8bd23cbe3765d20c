#!/bin/bash
# Usage: release.sh DIR
#
# Makes a release of the last commit in the directory DIR, which it replaces: programs,
# packages, images, SBOMs, provenance, checksums, signatures, an apt and a yum
# repository. docs/releasing.md tells how, and what each file is for.
#
# RELEASE_KEY  the key that signs, by its fingerprint, in GnuPG's keyring
# VERSION      as v0.1.0; by default the commit's tag, else CHANGELOG's newest heading
# OLDER        the directory of an earlier release, whose packages stay in the repositories
# VULNDB       where govulncheck's database is, as a URL; "off" goes without
# RELEASE_DATE the date of the repositories, in seconds since 1970; by default now
# VALID_DAYS   for how long apt accepts the repository, 365
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh source-path=SCRIPTDIR
. "$here/common.sh"
[ $# -eq 1 ] || fail "which directory? Usage: release.sh DIR"

# Everything that can be known before the work begins.
[ -n "${RELEASE_KEY:-}" ] || fail "there is no key to sign with: RELEASE_KEY is not set" \
	"set RELEASE_KEY to the fingerprint of a key that \"gpg --list-secret-keys\" shows"
key=$(gpg --batch --with-colons --list-secret-keys "$RELEASE_KEY" 2>/dev/null | awk -F: '$1 == "fpr" { print $10; exit }') || true
[ -n "$key" ] || fail "GnuPG has no secret key $RELEASE_KEY" "import it, or set GNUPGHOME to the directory that has it"
gpg --batch --yes --local-user "$key" --detach-sign --output /dev/null </dev/null 2>"$work/gpg" ||
	fail "the key $key does not sign: $(tail -n 1 "$work/gpg")"
need_programs rpmsign
cd "$repo"
[ -z "$(git status --porcelain --untracked-files=no)" ] || fail "the tree has changes that no commit has" "commit them, or stash them"
commit=$(git rev-parse HEAD)
if [ -z "${VERSION:-}" ]; then
	VERSION=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null) ||
		VERSION=v$(sed -n '/^## /{s/^## \[\{0,1\}\([0-9][^], ]*\).*/\1/p;q}' CHANGELOG.md)
fi
[[ $VERSION =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] ||
	fail "the commit has no tag, and CHANGELOG.md's newest heading begins with no version" "git tag v0.1.0, or \"## 0.1.0\""
dist=$(realpath -m "$1")
for found in "$dist"/* "$dist"/.[!.]*; do
	case ${found##*/} in
	nfguard* | SHA256SUMS* | apt | yum | tmp | '*' | '.[!.]*') ;;
	*) fail "$dist has in it what no release has: ${found##*/}" "name a directory that can be replaced" ;;
	esac
done
older=
if [ -n "${OLDER:-}" ]; then
	older=$(realpath -e "$OLDER") || fail "OLDER is no directory: $OLDER"
	gpg --batch --export "$key" >"$work/key.gpg"
	gpgv -q --keyring "$work/key.gpg" "$older/SHA256SUMS.asc" "$older/SHA256SUMS" 2>"$work/gpg" ||
		fail "$older is not signed by the key $key: $(tail -n 1 "$work/gpg")"
	(cd "$older" && sha256sum --quiet -c SHA256SUMS) >&2 || fail "$older is not as it was signed"
	check_repositories "$older" "$work/key.gpg"
fi
export VERSION
date=${RELEASE_DATE:-$(date +%s)}

# Beside DIR, so that it takes its place in one step.
mkdir -p "$(dirname "$dist")"
new=$(mktemp -d "$dist.new-XXXXXX")
trap 'rm -rf "$work" "$new"' EXIT
chmod 755 "$new"

begin=$SECONDS
vulnerabilities "$work/src" "$commit"
"$here/build.sh" "$new" "$commit" "$VERSION"
for rpm in "$new"/*.rpm; do
	rpmsign --addsign --define "_gpg_name $key" --define "_gpg_path ${GNUPGHOME:-$HOME/.gnupg}" \
		--define "__gpg $(command -v gpg)" "$rpm" >"$work/rpmsign" 2>&1 || fail "rpmsign: $(cat "$work/rpmsign")"
done
gpg --batch --armor --export "$key" >"$new/nfguard.asc"
"$here/seal.sh" "$new" "$commit" "$VERSION" "$date" "${older:+$older}"
"$here/sign.sh" "$new" "$key"

rm -rf "$dist"
mv "$new" "$dist"
(cd "$dist" && find . -maxdepth 1 -type f -printf '%9s %f\n' | sort -k 2)
echo "release: nfguard $VERSION, commit ${commit:0:12}, signed by $key, in $((SECONDS - begin)) s"
[ -z "$unchecked" ] || echo "release: NOT CHECKED for known vulnerabilities: $unchecked"
