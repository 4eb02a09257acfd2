#!/bin/sh
# quietly.sh COMMAND…: shows what the command says only if it fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" >"$log" 2>&1
status=$?
[ $status -eq 0 ] || cat "$log" >&2
exit $status
