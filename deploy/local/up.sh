#!/usr/bin/env bash
# Starts the local stack and leaves it running: PostgreSQL, RabbitMQ, S3, one coordinator, one worker.
# What runs already, of this build, stays as it is.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"
# shellcheck source-path=SCRIPTDIR
. "$LOCAL/lib/stack.sh"

start_services() {
    local job jobs=()
    stop_if_rebuilt "$(services_folder s3)/s3.pid" "$programs/upres-local-s3" 15
    start_service postgres --port "$POSTGRES_PORT" --fsync on &
    jobs+=($!)
    start_service rabbitmq --port "$RABBITMQ_PORT" --management-port "$MANAGEMENT_PORT" &
    jobs+=($!)
    start_service s3 --port "$S3_PORT" --program "$programs/upres-local-s3" --bucket upres &
    jobs+=($!)
    for job in "${jobs[@]}"; do
        wait "$job" || die "the services did not start"
    done
}

# 9 is closed so that a service.sh that outlives us does not hold the stack's lock.
start_service() {
    local service=$1 dir
    dir=$(services_folder "$service")
    shift
    runs "$dir/$service.pid" || say "starting $service"
    "$LOCAL/service.sh" start "$service" --dir "$dir" --log "$LOGS/$service.log" "$@" >/dev/null 9>&-
}

# The first migration of a database prints an admin key, once: kept, or nobody could ever get in.
migrate() {
    local key
    key=$("$programs/upres-coordinator" migrate 2>>"$LOGS/coordinator.log" 9>&-) || {
        show_log "$LOGS/coordinator.log"
        die "the database could not be brought up to date"
    }
    if [[ -n $key ]]; then
        write_private "$STATE/admin.key" <<<"$key"
        # Of another database, if there is one.
        rm -f -- "$STATE/worker.key"
    fi
    [[ -s $STATE/admin.key ]] ||
        die "the database has API keys but $STATE/admin.key is gone: make clean, then make up, starts anew"
    printf 'api_url = "%s"\napi_key = "%s"\n' "$API_URL" "$(<"$STATE/admin.key")" |
        write_private "$STATE/upres.toml"
    # For a shell: `. .upres/env`.
    printf 'export UPRES_API_URL=%q UPRES_API_KEY=%q PATH=%q:"$PATH"\n' "$API_URL" "$(<"$STATE/admin.key")" \
        "$programs" | write_private "$STATE/env"
}

start_coordinator() {
    (
        export UPRES_DATABASE_URL=postgres://upres@127.0.0.1:$POSTGRES_PORT/upres
        export UPRES_LISTEN=127.0.0.1:$COORDINATOR_PORT UPRES_UPLOADS=s3://upres/
        migrate
        start_program coordinator 30 coordinator_ready -- "$programs/upres-coordinator" serve
    )
}

make_worker_key() {
    [[ ! -s $STATE/worker.key ]] || return 0
    local made
    made=$(UPRES_API_URL=$API_URL UPRES_API_KEY=$(<"$STATE/admin.key") \
        "$programs/upres" keys create --scope worker --label local-worker --json 9>&-) ||
        die "the worker got no API key"
    sed -n 's/.*"key": *"\([^"]*\)".*/\1/p' <<<"$made" | write_private "$STATE/worker.key"
    [[ -s $STATE/worker.key ]] || die "the worker got no API key"
}

find_model() {
    model=$ROOT/models/upres-tiny
    [[ ! -d $model ]] || return 0
    model=$STATE/models/random-tiny
    if [[ ! -f $model/upres-model.json ]]; then
        rm -rf -- "$model" "$model.new"
        mkdir -p -- "$STATE/models"
        "$programs/upres" models random --size tiny --seed 1 -o "$model.new" 2>>"$LOGS/worker.log" 9>&- ||
            die "no model could be made"
        mv -- "$model.new" "$model"
    fi
    say "models/upres-tiny is not there: the worker runs an UNTRAINED network, and its pictures are noise"
}

start_worker() {
    (
        export UPRES_API_URL=$API_URL UPRES_MODEL_DIR=$model UPRES_DEVICE=cpu
        UPRES_API_KEY=$(<"$STATE/worker.key")
        export UPRES_API_KEY
        start_program worker 120 worker_ready -- "$programs/upres-worker" run
    )
}

describe() {
    say ""
    say "upres runs.  API and its docs  $API_URL"
    say "             S3               $UPRES_S3_ENDPOINT  (bucket upres)"
    say "             RabbitMQ         http://127.0.0.1:$MANAGEMENT_PORT  (guest, guest)"
    say "             PostgreSQL       postgres://upres@127.0.0.1:$POSTGRES_PORT/upres  (no password, this machine only)"
    say "             logs             $LOGS"
    [[ $(data_home) == "$STATE" ]] ||
        say "             service data     $(data_home)  (their accounts cannot enter this checkout)"
    say "             for your shell   . $STATE/env    (address, API key, and upres on the PATH)"
    say "stop it with: make down"
}

lock_stack
need_services
build_programs
programs=$(programs_folder)
settle_data_home
choose_ports
clean_environment
start_services
start_coordinator
make_worker_key
find_model
start_worker
describe
