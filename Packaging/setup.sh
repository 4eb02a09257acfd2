#!/bin/sh
# setup.sh PACKAGE...: installs those Debian packages that are missing, and looks for Swift. Does nothing, and needs no
# network, when all is there.
set -eu

if ! command -v swift >/dev/null; then
	echo "Swift is missing: install Swift 6.2 or later (https://www.swift.org/install/linux/) so that 'swift' is in PATH." >&2
	echo "PATH is $PATH" >&2
	exit 3
fi

missing=
for package in "$@"; do
	case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
	installed) ;;
	*) missing="$missing $package" ;;
	esac
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "As root, run: apt-get install --no-install-recommends$missing" >&2
		exit 3
	fi
	as_root=sudo
fi
echo "installing with apt:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # a list of words
if ! { $as_root apt-get -q update && $as_root env DEBIAN_FRONTEND=noninteractive \
	apt-get -q -y install --no-install-recommends $missing; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "apt could not install:$missing" >&2
	exit 3
fi
