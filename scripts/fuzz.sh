#!/bin/sh
# Runs each fuzz target of the project for FUZZTIME: a duration, or a number of executions (5000x). Two packages are
# fuzzed at the same time; with a package's directory as its argument, only that one is. Inputs are hardly minimised,
# which takes most of a short time.
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

# fuzz fuzzes one target.
fuzz() {
	"$work/test" -test.run '^$' -test.fuzz "^$1\$" -test.fuzztime "${FUZZTIME:-10s}" -test.fuzzminimizetime 10x \
		-test.fuzzcachedir "$cache" 2>&1
}

# ended_late reports whether a target failed because its time was over, and for nothing else: before Go 1.27 the end of
# the time may count as an error (https://go.dev/issue/75804).
ended_late() {
	echo "$1" | grep -q 'context deadline exceeded' && ! echo "$1" | grep -qE 'Failing input|_test\.go:|panic'
}

for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' ./*_test.go | sed 's/^func //'); do
	if ! out=$(fuzz "$target"); then
		if ! ended_late "$out" || ! out=$(fuzz "$target"); then
			echo "fuzz $dir $target: failed"
			echo "$out"
			exit 255
		fi
	fi
	echo "fuzz $dir $target: $(echo "$out" | grep -oE 'execs: [0-9]+' | tail -1)"
done
