#!/bin/sh
# Fetches uPlot again from npm, as internal/account/dashboard/vendor.txt names it, and checks its hash.
set -e
cd "$(dirname "$0")/../internal/account/dashboard"
read -r name version _ sum <vendor.txt
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd "$dir" && npm pack --silent "$name@$version" >/dev/null)
echo "$sum  $dir/$name-$version.tgz" | sha256sum -c --quiet
tar xzf "$dir/$name-$version.tgz" -C "$dir"
cp "$dir/package/dist/uPlot.iife.min.js" static/uPlot.js
cp "$dir/package/dist/uPlot.min.css" static/uPlot.css
cp "$dir/package/LICENSE" static/uPlot.LICENSE
