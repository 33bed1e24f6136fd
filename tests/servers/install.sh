#!/bin/sh
# Installs the servers of tests/servers that are missing, from Debian's packages. It never fails its caller: without
# root or apt-get, or when apt fails, it says so, and the tests of what is missing are skipped.
set -u
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export DEBIAN_FRONTEND=noninteractive

missing() {
	command -v redis-server >/dev/null || echo redis-server
	command -v nginx >/dev/null || echo nginx
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || echo postgresql
}

# Bounded: a mirror that hangs, or somebody else's lock, must not hold up the tests for ever.
apt() {
	timeout -k 10 "$1" apt-get -q -q -o DPkg::Lock::Timeout=60 -o Acquire::http::Timeout=20 -o Acquire::Retries=1 \
		-o Dpkg::Use-Pty=0 "$2" --no-install-recommends -y $3 </dev/null >&2
}

packages=$(missing)
[ -n "$packages" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "tests/servers: not installed, for want of root or apt-get:" $packages
	exit 0
fi

# Packages start their own services unless this script, which they ask first, forbids it (invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

# The lists of packages may be missing, or too old to be installed from: only then are they fetched.
apt 300 install "$packages" 2>/dev/null || { apt 120 update "" && apt 300 install "$packages"; }

packages=$(missing)
[ -z "$packages" ] || echo "tests/servers: apt could not install:" $packages
exit 0
