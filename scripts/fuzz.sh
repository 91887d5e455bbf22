#!/bin/sh
# Runs each fuzz target of the project for FUZZTIME: a duration, or a number of executions (5000x). Two packages are
# fuzzed at the same time; with a package's directory as its argument, only that one is.
set -e
if [ $# -eq 0 ]; then
	grep -rlE '^func Fuzz' --include='*_test.go' internal | xargs -n1 dirname | sort -u | xargs -n1 -P2 "$0"
	exit
fi
dir=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go test -c -fuzz . -o "$work/test" "./$dir"
cache=$(go env GOCACHE)/fuzz/$(go list "./$dir")
cd "$dir"
for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' ./*_test.go | sed 's/^func //'); do
	out=$("$work/test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "${FUZZTIME:-10s}" \
		-test.fuzzcachedir "$cache" 2>&1) || { echo "fuzz $dir $target: failed"; echo "$out"; exit 255; }
	echo "fuzz $dir $target: $(echo "$out" | grep -oE 'execs: [0-9]+' | tail -1)"
done
