#!/bin/sh
# dist-test.sh TARBALL: unpacks it elsewhere and starts it as its users do, directly and through a symbolic
# link. What it says where a library is missing is tried in the lab, whose machine can do without.
set -eu
tarball=$1
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
tar -C "$place" -xzf "$tarball"
root=$(echo "$place"/kvmtax-*)
version=$(cat VERSION)

fail() {
	echo "dist: $*" >&2
	exit 1
}

said=$("$root/bin/kvmtax" --version) || fail "kvmtax --version does not start"
[ "$said" = "kvmtax $version" ] || fail "kvmtax --version says '$said', VERSION says '$version'"
ln -s "$root/bin/kvmtax" "$place/elsewhere"
said=$("$place/elsewhere" --version) || fail "kvmtax does not start through a symbolic link"
"$root/libexec/kvmtax/kvmtax-tracer" --version >/dev/null || fail "kvmtax-tracer does not start"
