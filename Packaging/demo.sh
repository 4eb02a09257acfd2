#!/bin/sh
# demo.sh PROGRAMS: reports on the bundled traces; as root on a host where KVM's exits are traced, also records a guest
# that runs for it.
set -eu
programs=$1

for sample in Samples/*.dat; do
	echo
	echo "\$ kvmtax report $sample"
	"$programs/kvmtax" report "$sample"
done

echo
if [ "$(id -u)" -ne 0 ]; then
	echo 'Recording live needs root: sudo env PATH="$PATH" make demo'
	exit 0
fi
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
guest="$programs/kvmtax-tracer guest --vcpus 2 --cpuid 2000 --out 500 --in 500 --mmio-write 500 --rdmsr 500 --seconds 5"
echo "\$ sudo kvmtax record -o demo.kvmtax -- kvmtax-tracer guest …"
# shellcheck disable=SC2086 # a list of words
if "$programs/kvmtax" record -o "$place/demo.kvmtax" -- $guest >"$place/log" 2>&1; then
	grep -v '^{' "$place/log" || :
	echo
	echo "\$ kvmtax report demo.kvmtax"
	"$programs/kvmtax" report "$place/demo.kvmtax"
else
	why=$(grep -m 1 '^kvmtax: ' "$place/log" || tail -n 1 "$place/log")
	echo "Nothing is recorded live on this machine. ${why#kvmtax: }"
fi
