#!/bin/sh
# dist.sh PROGRAMS DIST: packs the release build in the folder PROGRAMS into DIST.tar.gz and tries it out.
set -eu
programs=$1 dist=$2
name=$(basename "$dist")

rm -rf "$dist" "$dist.tar.gz"
mkdir -p "$dist/bin" "$dist/libexec/kvmtax/tracer"
strip -o "$dist/libexec/kvmtax/kvmtax" "$programs/kvmtax"
strip -o "$dist/libexec/kvmtax/tracer/kvmtax-tracer" "$programs/kvmtax-tracer"
install -m 755 Packaging/launcher.sh "$dist/bin/kvmtax"
install -m 755 Packaging/launcher.sh "$dist/libexec/kvmtax/kvmtax-tracer"
cp README.md LICENSE CHANGELOG.md VERSION "$dist"
cp -R Samples docs "$dist"
chmod -R u=rwX,go=rX "$dist"

# What may be needed of a host: the analyzer runs without libbpf and libelf, nothing runs on Swift's shared libraries.
needed() { objdump -p "$1" | awk '$1 == "NEEDED" { print $2 }'; }
refuse() {
	if needed "$1" | grep -E "$2"; then
		echo "$(basename "$1") must not need this library" >&2
		exit 1
	fi
}
refuse "$dist/libexec/kvmtax/kvmtax" 'libbpf|libelf|libswift|libFoundation'
refuse "$dist/libexec/kvmtax/tracer/kvmtax-tracer" 'libswift|libFoundation'
glibc=$(objdump -T "$dist/libexec/kvmtax/kvmtax" "$dist/libexec/kvmtax/tracer/kvmtax-tracer" |
	grep -o 'GLIBC_2\.[0-9]*' | sort -t. -k2 -n -u | tail -n 1)
case ${glibc#GLIBC_2.} in
[0-9] | [12][0-9] | 3[0-6]) ;;
*) echo "this build needs $glibc: Debian 12 has 2.36; build there to run there" >&2 ;;
esac

# The same input gives the same tarball: names, owners and times do not depend on who packs where.
epoch=$(git log -1 --format=%ct 2>/dev/null || date +%s)
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -C "$(dirname "$dist")" -cf - "$name" |
	gzip -9n >"$dist.tar.gz"
rm -rf "$dist"
Packaging/dist-test.sh "$dist.tar.gz"
echo "packed $dist.tar.gz ($(du -k "$dist.tar.gz" | cut -f1) KiB, needs $glibc)"
