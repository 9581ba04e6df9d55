# shellcheck shell=bash
# Debian packages, installed when something is missing and only then.

# present CHECK: a command on the path, or a file by its pattern.
present() {
    case $1 in
        /*) compgen -G "$1" >/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# need_packages CHECK=PACKAGE...: installs PACKAGE where CHECK, a command or a file pattern, is absent.
need_packages() {
    local pair missing=()
    for pair in "$@"; do
        present "${pair%%=*}" || missing+=("${pair#*=}")
    done
    ((${#missing[@]})) || return 0
    install_packages "${missing[@]}"
}

need_services() {
    need_packages '/usr/lib/postgresql/*/bin/initdb=postgresql' \
        '/usr/lib/rabbitmq/bin/rabbitmq-server=rabbitmq-server' 'curl=curl' 'setpriv=util-linux'
}

need_cargo() {
    command -v cargo >/dev/null ||
        die 2 "cargo is missing: get Rust from https://rustup.rs, then run this again"
    need_packages 'cc=build-essential'
}

install_packages() {
    command -v apt-get >/dev/null ||
        die 2 "missing: $* (Debian's names), and there is no apt-get here: install them, then run this again"
    local as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null ||
            die 2 "missing packages, and neither root nor sudo to install them: apt-get install $*"
        as_root=(sudo)
        sudo -n true 2>/dev/null || [[ -t 0 ]] ||
            die 2 "missing packages, and sudo wants a password: sudo apt-get install $*"
    fi
    local log=$STATE/log/apt.log
    mkdir -p -- "$STATE/log"
    say "installing $* (details in $log)"
    "${as_root[@]}" bash "$LOCAL/lib/apt-install.sh" "$@" >"$log" 2>&1 || {
        show_log "$log"
        die 2 "apt-get could not install $*"
    }
}
