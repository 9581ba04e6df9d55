# shellcheck shell=bash
# Free ports on the loopback address.

# port_taken PORT: something on this machine listens on it. Read from the kernel's table: to connect
# instead would disturb whoever listens.
port_taken() {
    local hex
    hex=$(printf ':%04X' "$1")
    awk -v port="$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 }
        END { exit !found }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# reserve_port PORT: true for one caller only within two minutes, although nothing listens yet.
# Without it two runs that start together would find the same port free.
reserve_port() {
    local shelf=/tmp/upres-ports
    if [[ ! -d $shelf ]]; then
        mkdir -m 1777 "$shelf" 2>/dev/null && chmod 1777 "$shelf"
    fi
    find "$shelf" -mindepth 1 -maxdepth 1 -mmin +2 -exec rmdir {} + 2>/dev/null || true
    mkdir "$shelf/$1" 2>/dev/null
}

# free_port: prints one from below the range that the kernel gives to outgoing connections, so that
# it is still free when a service that was killed comes back to it.
free_port() {
    local port attempt
    for ((attempt = 0; attempt < 200; attempt++)); do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if ! port_taken "$port" && reserve_port "$port"; then
            printf '%s\n' "$port"
            return
        fi
    done
    die "no free port found between 20000 and 32000"
}

# port_or_free WANTED PURPOSE: prints WANTED, or another port and a word about it.
port_or_free() {
    if ! port_taken "$1"; then
        printf '%s\n' "$1"
        return
    fi
    local other
    other=$(free_port)
    say "port $1 is taken by another program: $2 uses $other instead"
    printf '%s\n' "$other"
}
