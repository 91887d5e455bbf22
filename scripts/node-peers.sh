#!/bin/sh
# Prints the directory that holds the peers of internal/test/nodepeer with the modules that they use, in the versions
# and with the hashes of its package-lock.json. They are fetched from npm once; the program has nothing of them.
set -e
cd "$(dirname "$0")/../internal/test/nodepeer"
root=${TCPCOPY_NODE_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tcpcopy-node}
dir=$root/$(cat package-lock.json ./*.js | sha256sum | cut -c 1-16)
if [ ! -e "$dir" ]; then
	command -v npm >/dev/null 2>&1 || { echo "node-peers: there is no npm (Debian: nodejs, npm)" >&2; exit 1; }
	mkdir -p "$root"
	made=$(mktemp -d "$root/new.XXXXXX")
	trap 'rm -rf "$made"' EXIT
	cp package.json package-lock.json ./*.js "$made"
	(cd "$made" && npm ci --ignore-scripts --no-audit --no-fund --silent)
	mv -T "$made" "$dir" 2>/dev/null || [ -e "$dir" ] # another one may have made it meanwhile
fi
echo "$dir"
