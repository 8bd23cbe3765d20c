#!/bin/sh
# Installs the Debian package behind each COMMAND:PACKAGE that is missing.
set -eu
missing=
for pair in "$@"; do
	PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "/lib/systemd/${pair%%:*}" ] || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "make deps: these packages are missing:$missing" >&2
	echo "make deps: hint: run 'make deps' as root, or apt-get install$missing" >&2
	exit 2
fi
# Word splitting is meant: a list of package names.
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing ||
	{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; }
