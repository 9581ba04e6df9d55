#!/usr/bin/env bash
# Installs the packages named, as root, and leaves their services off: we run private instances of
# our own, and a machine should not gain listening servers by a test run.
set -euo pipefail

policy=/usr/sbin/policy-rc.d
saved=$policy.before-upres

restore_policy() {
    if [[ -e $saved ]]; then
        mv -f -- "$saved" "$policy"
    else
        rm -f -- "$policy"
    fi
}

# Packages ask this file before they start a service; 101 means no.
forbid_starts() {
    # Left behind by a run that was killed: that copy is the original.
    [[ ! -e $saved ]] || mv -f -- "$saved" "$policy"
    [[ ! -e $policy ]] || cp -p -- "$policy" "$saved"
    trap restore_policy EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy.new"
    chmod 755 "$policy.new"
    mv -f -- "$policy.new" "$policy"
}

# Not now, and not at the next boot either.
disable_units() {
    [[ -d /run/systemd/system ]] || return 0
    local package
    for package in "$@"; do
        case $package in
            postgresql) systemctl --quiet disable postgresql || true ;;
            # Erlang's name service comes along and would listen too.
            rabbitmq-server) systemctl --quiet disable rabbitmq-server epmd.service epmd.socket || true ;;
        esac
    done
}

exec 8>/run/lock/upres-apt.lock
flock 8
forbid_starts
export DEBIAN_FRONTEND=noninteractive
# 8 stays ours: anything that outlived apt-get would keep the lock.
apt-get update -qq 8>&-
apt-get install -y -qq --no-install-recommends "$@" 8>&-
disable_units "$@"
