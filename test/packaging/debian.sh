#!/bin/sh
# Usage: debian.sh DIR
#
# Makes DIR a small Debian 12 with systemd, from the archive that this machine uses, if it
# uses Debian 12's at all; otherwise mmdebstrap uses its default.
set -eu
# shellcheck disable=SC2016  # for apt-get to expand
sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	grep -E ' bookworm(-updates|-security)? main$' | sort -u) || true
# Machines without a battery-backed clock fail the archive's date check.
mmdebstrap --mode=root --variant=minbase --include=systemd-sysv,kmod,procps \
	--aptopt='Acquire::Check-Date "false"' --aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	bookworm "$1" ${sources:+"$sources"}
# A fixed machine id: without one, systemd takes a boot for the first and applies presets.
echo 6e6667756172640000000000000000ac >"$1/etc/machine-id"
