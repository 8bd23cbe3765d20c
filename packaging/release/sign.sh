#!/bin/bash
# Usage: sign.sh DIR KEY
#
# Signs what seal.sh wrote into DIR: the repositories, the provenance, the checksums.
set -euo pipefail
cd "$1"
sign() { gpg --batch --yes --digest-algo SHA256 --local-user "$key" "$@"; }
key=$2
sign --clearsign --output apt/dists/stable/InRelease apt/dists/stable/Release
sign --armor --detach-sign --output apt/dists/stable/Release.gpg apt/dists/stable/Release
sign --armor --detach-sign --output yum/repodata/repomd.xml.asc yum/repodata/repomd.xml
for provenance in nfguard-*.provenance.json; do
	sign --armor --detach-sign --output "$provenance.asc" "$provenance"
done
sign --armor --detach-sign --output SHA256SUMS.asc SHA256SUMS
