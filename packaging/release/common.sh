# What the scripts of a release have in common; to be sourced.
# shellcheck shell=bash
here=${here:?}
umask 022
export LC_ALL=C TZ=UTC
repo=$(realpath "$here/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go=${GO:-go}
unchecked=

# fail SENTENCE [HINT]
fail() {
	echo "release: error: $1" >&2
	[ $# -lt 2 ] || echo "release: hint: $2" >&2
	exit 2
}

# need_programs NAME...: those, and what every build of a release takes.
# shellcheck disable=SC2120 # some need no others
need_programs() {
	local name
	for name in apt-ftparchive createrepo_c dpkg-deb gpg gpgv mksquashfs "$@"; do
		command -v "$name" >/dev/null || fail "$name is not installed" "make releasedeps, as root"
	done
}

# version_of VERSION: the package's, of a tag.
version_of() { "$repo/packaging/version.sh" "$1" 0; }

# checkout DIR COMMIT VERSION: a clone with this tag and no other, whatever the
# repository has by now, because the go tool writes into the binary what it finds.
checkout() {
	git clone -q --no-tags --no-checkout "$repo" "$1"
	git -C "$1" checkout -q --detach "$2"
	git -C "$1" tag "$3"
}

# check_repositories DIST KEYRING: the metadata is signed, and names the packages as they are.
check_repositories() {
	local file
	gpgv -q --keyring "$2" --output "$work/Release" "$1/apt/dists/stable/InRelease" 2>"$work/gpg" ||
		fail "$1/apt is not signed: $(tail -n 1 "$work/gpg")"
	cmp -s "$work/Release" "$1/apt/dists/stable/Release" || fail "$1/apt: Release and InRelease differ"
	gpgv -q --keyring "$2" "$1/apt/dists/stable/Release.gpg" "$1/apt/dists/stable/Release" 2>"$work/gpg" ||
		fail "$1/apt: Release is not signed: $(tail -n 1 "$work/gpg")"
	(cd "$1/apt/dists/stable" && awk '/^[A-Z]/ { on = $1 == "SHA256:" } on && NF == 3 { print $1 "  " $3 }' Release | sha256sum --quiet -c) >&2 ||
		fail "$1/apt: an index is not as Release names it"
	(cd "$1/apt" && awk '$1 == "Filename:" { f = $2 } $1 == "SHA256:" { s = $2 } /^$/ && f { print s "  " f; f = "" } END { if (f) print s "  " f }' \
		dists/stable/main/binary-*/Packages | sha256sum --quiet -c) >&2 || fail "$1/apt: a package is not as Packages names it"
	gpgv -q --keyring "$2" "$1/yum/repodata/repomd.xml.asc" "$1/yum/repodata/repomd.xml" 2>"$work/gpg" ||
		fail "$1/yum is not signed: $(tail -n 1 "$work/gpg")"
	rm -rf "$work/rpmdb"
	mkdir "$work/rpmdb"
	gpg --batch --enarmor <"$2" 2>/dev/null | sed 's/ARMORED FILE/PUBLIC KEY BLOCK/' >"$work/key.asc"
	rpmkeys --dbpath "$work/rpmdb" --import "$work/key.asc"
	for file in "$1"/yum/*.rpm; do
		rpmkeys --dbpath "$work/rpmdb" --define '_pkgverify_level all' --checksig "$file" >"$work/rpm" ||
			fail "$(cat "$work/rpm")"
	done
}

# vulnerabilities DIR COMMIT: fails if govulncheck knows one that nfguard calls. Where
# its database can't be had, unchecked says so.
# shellcheck disable=SC2034 # for release.sh
vulnerabilities() {
	local code=0
	if [ "${VULNDB:-}" = off ]; then
		unchecked="VULNDB is off"
		return
	fi
	checkout "$1" "$2" "$VERSION"
	"$go" build -C "$repo/packaging/tools" -o "$work/" golang.org/x/vuln/cmd/govulncheck
	"$work/govulncheck" ${VULNDB:+-db "$VULNDB"} -C "$1" ./cmd/nfguard >"$work/vuln" 2>&1 || code=$?
	case $code in
	0) echo "release: govulncheck knows of nothing that nfguard calls" ;;
	3)
		cat "$work/vuln" >&2
		fail "nfguard calls what is known to be vulnerable" "update the module, or Go"
		;;
	*)
		[ -z "${VULNDB:-}" ] || fail "govulncheck: $(tail -n 1 "$work/vuln")" "VULNDB is the URL of a copy of its database, file:///… as well"
		unchecked="the database can't be had; VULNDB names a copy"
		;;
	esac
}
