#!/bin/sh
# Usage: version.sh DESCRIBE COUNT
#
# Prints the package version for the output of "git describe --tags --always --dirty"
# and a history of COUNT commits. dpkg and rpm sort them in the order of the commits:
#
#   v1.2.0-rc.1 < v1.2.0-rc.1-2-gabc < v1.2.0 < v1.2.0-2-gabc < v1.2.0-11-gdef
#   1.2.0~rc.1  < 1.2.0~rc.1+2.gabc  < 1.2.0  < 1.2.0+2.gabc  < 1.2.0+11.gdef
set -eu
case $1 in
v[0-9]*) described=${1#v} ;;
*) described=0.0.0-$2-g$1 ;; # no tag yet: the bare hash
esac
# In this order: commits after the tag, a changed tree, a pre-release.
echo "$described" | sed -E \
	-e 's/-([0-9]+)-g([0-9a-f]+)(-dirty)?$/+\1.g\2\3/' \
	-e 's/\+(.*)-dirty$/+\1.dirty/' -e 's/-dirty$/+0.dirty/' \
	-e 's/^([0-9.]+)-/\1~/' \
	-e 's/-/./g'
