#!/bin/sh
# Starts the program of this name, or names the libraries that it lacks: the dynamic linker's own message names one, and
# not its package.
here=$(dirname "$(readlink -f "$0")")
case $0 in
*-tracer) program=$here/tracer/kvmtax-tracer ;;
*) program=$here/../libexec/kvmtax/kvmtax ;;
esac

# The dynamic linker lists what it would load, as ldd has it do.
listed=$(LD_TRACE_LOADED_OBJECTS=1 "$program" 2>/dev/null) || :
case $listed in
*"not found"*) ;;
*) exec "$program" "$@" ;;
esac

packages=
while read -r library _ status _; do
	[ "$status" = not ] || continue
	case $library in
	libbpf.so.1) package=libbpf1 ;;
	libelf.so.1) package=libelf1 ;;
	libtraceevent.so.1) package=libtraceevent1 ;;
	libzstd.so.1) package=libzstd1 ;;
	libz.so.1) package=zlib1g ;;
	libstdc++.so.6) package=libstdc++6 ;;
	*) package= ;;
	esac
	echo "kvmtax: the library $library is missing${package:+ (package $package)}" >&2
	packages="$packages${package:+ $package}"
done <<END
$listed
END
[ -z "$packages" ] || echo "kvmtax: install it with: apt-get install$packages" >&2
exit 3
