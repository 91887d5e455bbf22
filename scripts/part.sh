#!/bin/sh
# Prints what go test -run wants for the K-th of N parts of a package's tests: of all of them in
# their order, each N-th. Without K/N that is what stands for all.
#
#   scripts/part.sh PACKAGE [K/N]
set -e
part=$2
[ -n "$part" ] || { echo .; exit; }
k=${part%/*} n=${part#*/}
case $part in [1-9]/[1-9]) ;; *) k=2 n=1 ;; esac
if [ "$k" -gt "$n" ]; then
	echo "part: \"$part\": wanted K/N, such as 1/3" >&2
	exit 2
fi
tests=$(go test -vet=off -ldflags=-w -list . "$1" | grep '^Test' | awk "(NR - $k) % $n == 0")
echo "^($(echo "$tests" | paste -sd '|' -))\$"
