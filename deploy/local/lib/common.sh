# shellcheck shell=bash
# What every script here shares: where things are, how to speak, how to wait.

# shellcheck disable=SC2034 # read by the files that include this one
{
    ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd -P)
    LOCAL=$ROOT/deploy/local
    STATE=$ROOT/.upres
    readonly ROOT LOCAL STATE
}

say() { printf '%s\n' "$*" >&2; }

# die [CODE] MESSAGE: 1 the work failed, 2 something the caller has to set right.
die() {
    local code=1
    if [[ $1 =~ ^[0-9]+$ ]]; then
        code=$1
        shift
    fi
    say "error: $*"
    exit "$code"
}

# wait_for SECONDS COMMAND...: true as soon as COMMAND is, false when the time is over.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

show_log() {
    say "the last lines of $1:"
    tail -n 20 -- "$1" >&2 || true
}

# write_private FILE: standard input becomes FILE, which nobody else may read at any moment.
write_private() {
    (umask 077 && cat >"$1.new" && mv -f -- "$1.new" "$1")
}
