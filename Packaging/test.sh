#!/bin/sh
# test.sh: what `make test` does. All of it runs; the end shows what passed, and the exit status is 0 if all did.
set -u
log=$(mktemp)
lab=$(mktemp)
trap 'rm -f "$log" "$lab" "$lab.status"' EXIT
failed=

# Says each step and its time; a step's own output is shown where it fails.
begin() {
	step=$1
	start=$(date +%s)
	echo "$step"
}
end() { # STATUS [LOG]
	took=$(($(date +%s) - start))
	if [ "$1" -eq 0 ]; then
		echo "  done in $took s"
	else
		[ -z "${2-}" ] || tail -n 60 "$2"
		echo "  FAILED after $took s"
		failed="$failed, $step"
	fi
}

begin "checking the format of the sources"
swift format lint --strict --recursive Sources Plugins Tests Package.swift >"$log" 2>&1
end $? "$log"

begin "building (debug)"
swift build --build-tests >"$log" 2>&1
built=$?
end $built "$log"

# The live tests need it, and where no systemd runs nobody has mounted it.
tracefs=/sys/kernel/tracing
if [ "$(id -u)" -eq 0 ] && [ -d "$tracefs" ] && [ ! -e "$tracefs/events" ]; then
	echo "mounting tracefs on $tracefs"
	mount -t tracefs tracefs "$tracefs" || :
fi

tests="not run"
if [ $built -eq 0 ]; then
	begin "running the tests"
	swift test --skip-build >"$log" 2>&1
	status=$?
	tests=$(grep -E 'Test run with' "$log" | tail -n 1 | sed 's/^[^A-Za-z]*//')
	# Of a failed run only what failed, not the thousand lines of what did not.
	if [ $status -ne 0 ]; then
		grep -aE '^✘|error:|Fatal' "$log" | head -n 100
	fi
	grep -aE '^➜.* skipped' "$log" | sed 's/^➜ /  /'
	end $status
fi

begin "packing (release)"
make --no-print-directory dist
end $?

begin "testing the lab's own parts"
python3 -B Tests/Lab/test_lab.py >"$log" 2>&1
end $? "$log"

# The lab takes minutes: its lines are shown as they come.
begin "running the lab"
{
	make --no-print-directory lab 2>&1
	echo "$?" >"$lab.status"
} | tee "$lab"
end "$(cat "$lab.status")"

echo
echo "Tests: ${tests:-no summary}"
echo "Lab: $(grep -E '^lab: [0-9]+ passed, ' "$lab" || echo 'no result')"
if [ -n "$failed" ]; then
	echo "make test: FAILED: ${failed#, }"
	exit 1
fi
echo "make test: all passed"
