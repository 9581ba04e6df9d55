# shellcheck shell=bash
# A PostgreSQL of our own in DIR: it listens on 127.0.0.1 alone, has no Unix socket, and trusts whoever
# connects. Its superuser and its database are both called upres.

# Nothing of the caller's environment: PGSERVICE, PGOPTIONS and the like would lead us elsewhere.
pg_run() {
    local AS tools account
    account=$(account_of postgres)
    tools=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
    as_account "$account"
    (cd / && "${AS[@]}" -i LC_ALL=C.UTF-8 "PATH=$tools:/usr/bin:/bin" "$@")
}

pg_psql() {
    local port=$1
    shift
    pg_run psql -X -q -A -t -h 127.0.0.1 -p "$port" -U upres -d postgres -v ON_ERROR_STOP=1 "$@"
}

pg_answers() { pg_run pg_isready -q -h 127.0.0.1 -p "$1" -U upres -d postgres -t 2; }
pg_answers_or_ended() { has_ended "$1/postgres.pid" || pg_answers "$2"; }

# Under a second name until complete: a run that is cut short leaves nothing that looks like a database.
pg_init() {
    local home=$1/postgres
    give_folder "$(account_of postgres)" "$home"
    pg_run test -f "$home/data/PG_VERSION" && return
    pg_run rm -rf "$home/unfinished"
    pg_run initdb -D "$home/unfinished" -U upres -A trust -E UTF8 --locale=C.UTF-8 \
        --no-sync --no-instructions >>"$2" 2>&1 || { show_log "$2"; die "initdb failed"; }
    pg_run mv "$home/unfinished" "$home/data"
}

# Every PostgreSQL process works in its data folder.
pg_deserted() {
    local process
    for process in /proc/[0-9]*; do
        [[ ! $process/cwd -ef $1 ]] || return 1
    done
}

# PostgreSQL will not start while the process id in its lock file is taken: by a stranger after a reboot,
# or by its own remains where the first process of a container does not clear up. When nothing works in
# the data folder any more, the lock means nothing.
pg_unlock() {
    local data=$1/postgres/data
    wait_for 10 pg_deserted "$data" || die "another PostgreSQL, not started from here, uses $data"
    pg_run rm -f "$data/postmaster.pid"
}

pg_options() {
    PG_OPTIONS=(-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200)
    if [[ $1 == off ]]; then
        PG_OPTIONS+=(-c fsync=off -c synchronous_commit=off -c full_page_writes=off)
    fi
}

# postgres_start DIR PORT FSYNC LOG
postgres_start() {
    local dir=$1 port=$2 log=$4 PG_OPTIONS AS tools
    open_folder "$(account_of postgres)" "$dir"
    pg_init "$dir" "$log"
    pg_unlock "$dir"
    pg_options "$3"
    tools=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
    as_account "$(account_of postgres)"
    launch "$dir/postgres.pid" "$log" "${AS[@]}" -i LC_ALL=C.UTF-8 PATH=/usr/bin:/bin \
        "$tools/postgres" -D "$dir/postgres/data" -p "$port" "${PG_OPTIONS[@]}"
    # Recovery after a kill may take its time on a busy disk.
    wait_for 60 pg_answers_or_ended "$dir" "$port" || true
    if has_ended "$dir/postgres.pid" || ! pg_answers "$port"; then
        show_log "$log"
        die "PostgreSQL did not start on port $port"
    fi
    [[ -n $(pg_psql "$port" -c "select 1 from pg_database where datname = 'upres'") ]] ||
        pg_psql "$port" -c 'create database upres'
}

# postgres_endpoints PORT
postgres_endpoints() { printf 'DATABASE_URL=postgres://upres@127.0.0.1:%s/upres\n' "$1"; }

# INT is the fast shutdown: it ends sessions instead of waiting for them.
postgres_stop() { end_process "$1/postgres.pid" INT 30; }

# As the end of a container would: the server and every session at once. Back-ends that lived on for a
# moment would keep the next start out.
postgres_kill() { kill_with_children "$1/postgres.pid"; }
