#!/bin/sh
# Installs the packages that the tests require, if it runs as root on Debian. Otherwise it names those that are
# missing: the tests that use them are skipped.
missing=""
need() { # command package
	command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}
need nginx nginx-light
need redis-server redis-server
need redis-cli redis-tools
need memcached memcached
need mariadbd mariadb-server
need mysqlslap mariadb-client
need sysbench sysbench
need curl curl
need wrk wrk
need h2load nghttp2-client
need tmux tmux
need chromium chromium
need node nodejs
need npm npm
need tcpdump tcpdump
need editcap wireshark-common
need nft nftables
need iptables-legacy iptables
need ip iproute2
need ethtool ethtool
need gcc gcc
need gcc libc6-dev
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "need: installing$missing"
	export DEBIAN_FRONTEND=noninteractive
	# The services would start and listen on this machine, where the tests want them in namespaces.
	policy=/usr/sbin/policy-rc.d
	made=""
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made=yes
	fi
	{ apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >/tmp/tcpcopy-need.log 2>&1 ||
		{ echo "need: could not install$missing:" >&2; tail -5 /tmp/tcpcopy-need.log >&2; }
	[ -n "$made" ] && rm -f "$policy"
	exit 0
fi
echo "need: not installed, and only root may install:$missing"
echo "need: the tests that use them will be skipped"
exit 0
