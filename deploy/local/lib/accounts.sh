# shellcheck shell=bash
# Whose name a service runs under. PostgreSQL and RabbitMQ refuse root, so root lends them the accounts
# that their Debian packages made; anyone else runs them under their own name.

# account_of SERVICE: prints the account.
account_of() {
    if ((EUID == 0)); then
        case $1 in
            postgres | rabbitmq) printf '%s\n' "$1" ;;
            *) printf 'root\n' ;;
        esac
    else
        id -un
    fi
}

# as_account ACCOUNT: fills the array AS with what goes before a command to run it as ACCOUNT.
# setpriv becomes the command; runuser would stay in between, and its process id would be recorded.
as_account() {
    AS=(env)
    if [[ $1 != "$(id -un)" ]]; then
        AS=(setpriv --reuid "$1" --regid "$1" --init-groups env)
    fi
}

# reachable ACCOUNT FOLDER: every folder on the way lets ACCOUNT through.
reachable() {
    local AS
    as_account "$1"
    (cd / && "${AS[@]}" test -x "$2")
}

# give_folder ACCOUNT FOLDER: a folder that only ACCOUNT may enter. What is there is not touched again:
# its owner could have put a link in the way.
give_folder() {
    [[ -d $2 ]] || mkdir -m 700 -- "$2"
    [[ $(stat -c %U -- "$2") == "$1" ]] || chown -- "$1" "$2"
}

# open_folder ACCOUNT FOLDER: FOLDER is ours, and ACCOUNT may pass through it.
open_folder() {
    mkdir -p -- "$2"
    if ! reachable "$1" "$2"; then
        chmod go+x -- "$2"
        reachable "$1" "$2" ||
            die 2 "the account $1 cannot reach $2: choose a folder whose parents all allow it (chmod o+x)"
    fi
}

# data_home: prints the folder for the data of services that run under accounts of their own.
data_home() {
    if [[ -s $STATE/data-home ]]; then
        cat -- "$STATE/data-home"
    else
        printf '%s\n' "$STATE"
    fi
}

# settle_data_home: decides once, and for as long as .upres/ exists: that folder itself, or, below a
# closed home, one that the accounts can reach and that belongs to this checkout alone.
settle_data_home() {
    local outside
    mkdir -p -- "$STATE"
    chmod go+x -- "$STATE"
    [[ ! -s $STATE/data-home ]] || return 0
    if reachable "$(account_of postgres)" "$STATE" && reachable "$(account_of rabbitmq)" "$STATE"; then
        printf '%s\n' "$STATE" >"$STATE/data-home"
        return
    fi
    outside=/var/tmp/upres-$(printf '%s' "$ROOT" | sha256sum | cut -c 1-16)
    # Anybody may write to /var/tmp: a folder that someone else put there is not used.
    mkdir -m 711 "$outside" 2>/dev/null || [[ -d $outside && ! -L $outside && -O $outside ]] ||
        die 2 "$outside belongs to someone else: remove it"
    printf '%s\n' "$outside" >"$STATE/data-home"
}
