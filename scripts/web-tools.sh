#!/bin/sh
# Prints the directory that holds what checks the page in a browser: TypeScript, for the types of its scripts, and
# axe-core, for what readers of screens need. scripts/web-tools.txt names their versions and hashes. They are fetched
# from npm once; the program has nothing of them.
set -e
cd "$(dirname "$0")"
dir=${TCPCOPY_WEB_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tcpcopy-web}/$(sha256sum web-tools.txt | cut -c 1-16)
if [ ! -e "$dir/done" ]; then
	command -v npm >/dev/null 2>&1 || { echo "web-tools: there is no npm (Debian: nodejs, npm)" >&2; exit 1; }
	mkdir -p "$dir"
	while read -r name version _ sum; do
		(cd "$dir" && npm pack --silent "$name@$version" >/dev/null)
		echo "$sum  $dir/$name-$version.tgz" | sha256sum -c --quiet
		mkdir -p "$dir/$name"
		tar xzf "$dir/$name-$version.tgz" -C "$dir/$name" --strip-components 1
	done <web-tools.txt
	touch "$dir/done"
fi
echo "$dir"
