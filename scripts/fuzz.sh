#!/bin/sh
# Runs each fuzz target of the project for FUZZTIME: a duration, or a number of executions (5000x).
set -e
grep -rlE '^func Fuzz' --include='*_test.go' internal | xargs -n1 dirname | sort -u | while read -r dir; do
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | sed 's/^func //'); do
		printf 'fuzz %s %s: ' "$dir" "$target"
		out=$(go test "./$dir" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" 2>&1) || { echo failed; echo "$out"; exit 1; }
		echo "$out" | grep -oE 'execs: [0-9]+' | tail -1
	done
done
