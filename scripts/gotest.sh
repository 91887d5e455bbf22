#!/bin/sh
# Runs go test with the arguments given, and shows failures, skips and one line for each package. With
# SKIPS=fail a skipped test is a failure.
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
go test -v "$@" >"$log" 2>&1
status=$?
if [ $status -ne 0 ]; then
	grep -vE '^=== (RUN|PAUSE|CONT|NAME)|^ *--- PASS|^PASS$' "$log"
else
	grep -E '^ *--- SKIP|^(ok|FAIL|\?)' "$log" | grep -v 'no test files'
fi
if [ $status -eq 0 ] && [ "$SKIPS" = fail ] && grep -qE '^ *--- SKIP' "$log"; then
	echo "gotest: skipped tests count as failures here:" >&2
	grep -A3 -E '^ *--- SKIP' "$log" >&2
	status=1
fi
exit $status
