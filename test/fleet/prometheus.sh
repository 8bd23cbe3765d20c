#!/bin/sh
# Usage: prometheus.sh DIR
#
# Unpacks Debian's Prometheus and node_exporter below DIR, if they are not there.
# They are not installed, for that would start them, on every address of the host.
set -eu
[ ! -x "$1/usr/bin/prometheus" ] || exit 0
mkdir -p "$1"
cd "$1"
set -- prometheus prometheus-node-exporter
apt-get download -q "$@" || { apt-get update && apt-get download -q "$@"; }
for deb in ./*.deb; do
	dpkg-deb -x "$deb" .
	rm "$deb"
done
