# shellcheck shell=bash
# The stack of `make up`: which ports it has, and how its programs start and stop.

readonly RUN=$STATE/run LOGS=$STATE/log

# Two of `make up`, `make down`, `make demo` at once would start or stop each other's processes.
lock_stack() {
    mkdir -p -- "$STATE" "$RUN" "$LOGS"
    exec 9>"$STATE/lock"
    flock -n 9 || {
        say "waiting for another make up, down or demo"
        flock 9
    }
}

# The programs, built from this checkout; UPRES_PROGRAMS names a folder of others.
# Absolute, because what is started runs in another folder.
programs_folder() { realpath -m -- "${UPRES_PROGRAMS:-${CARGO_TARGET_DIR:-$ROOT/target}/release}"; }

build_programs() {
    [[ -z ${UPRES_PROGRAMS:-} ]] || return 0
    need_cargo
    say "building (the first time takes minutes)"
    (cd "$ROOT" && SQLX_OFFLINE=true cargo build --release --workspace --bins --locked) 9>&- ||
        die "the build failed"
}

# services_folder SERVICE: where its data and its record are.
services_folder() {
    case $1 in
        s3) printf '%s/services\n' "$STATE" ;;
        *) printf '%s/services\n' "$(data_home)" ;;
    esac
}

# choose_ports: reads .upres/ports.env, moves what is in someone else's way, writes it back.
choose_ports() {
    local home
    home=$(services_folder postgres)
    POSTGRES_PORT=25432 RABBITMQ_PORT=25662 MANAGEMENT_PORT=25663 S3_PORT=9000 COORDINATOR_PORT=8080
    if [[ -f $STATE/ports.env ]]; then
        # shellcheck source=/dev/null
        . "$STATE/ports.env"
    fi
    keep_or_move POSTGRES_PORT "$home/postgres.pid" PostgreSQL
    keep_or_move RABBITMQ_PORT "$home/rabbitmq.pid" RabbitMQ
    keep_or_move MANAGEMENT_PORT "$home/rabbitmq.pid" "RabbitMQ's management"
    keep_or_move S3_PORT "$(services_folder s3)/s3.pid" "the S3 server"
    keep_or_move COORDINATOR_PORT "$RUN/coordinator.pid" "the coordinator"
    printf '%s\n' "POSTGRES_PORT=$POSTGRES_PORT" "RABBITMQ_PORT=$RABBITMQ_PORT" \
        "MANAGEMENT_PORT=$MANAGEMENT_PORT" "S3_PORT=$S3_PORT" "COORDINATOR_PORT=$COORDINATOR_PORT" \
        >"$STATE/ports.env"
}

# keep_or_move VARIABLE RECORD PURPOSE: a port of ours that runs is taken by us, which is as it should be.
keep_or_move() {
    runs "$2" || printf -v "$1" %s "$(port_or_free "${!1}" "$3")"
}

# stop_if_rebuilt RECORD PROGRAM SECONDS: a process that runs an older build makes way for the new one.
stop_if_rebuilt() {
    local pid
    pid=$(recorded_pid "$1") || return 0
    [[ /proc/$pid/exe -ef $2 ]] || end_process "$1" TERM "$3"
}

# start_program NAME READY_SECONDS READY_COMMAND -- COMMAND...
start_program() {
    local name=$1 seconds=$2 ready=$3 record=$RUN/$1.pid log=$LOGS/$1.log
    shift 4
    stop_if_rebuilt "$record" "$1" 30
    if has_ended "$record"; then
        say "starting $name"
        launch "$record" "$log" "$@"
    fi
    wait_for "$seconds" ended_or_ready "$record" "$ready" || true
    if has_ended "$record" || ! "$ready"; then
        show_log "$log"
        die "$name did not start"
    fi
}

ended_or_ready() { has_ended "$1" || "$2"; }

# Only what we set: a variable from the caller's shell could lead the programs to other servers.
clean_environment() {
    local name
    for name in "${!UPRES_@}" "${!AWS_@}"; do
        case $name in
            UPRES_PROGRAMS | UPRES_LOG | UPRES_LOG_FORMAT) ;;
            *) unset "$name" ;;
        esac
    done
    export UPRES_S3_ENDPOINT=http://127.0.0.1:$S3_PORT UPRES_S3_REGION=$S3_REGION
    export AWS_ACCESS_KEY_ID=$S3_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$S3_SECRET_KEY
    export UPRES_AMQP_URL=amqp://guest:guest@127.0.0.1:$RABBITMQ_PORT/%2f
    API_URL=http://127.0.0.1:$COORDINATOR_PORT
}

coordinator_ready() { curl -fsS -m 2 -o /dev/null "$API_URL/readyz" 2>/dev/null; }

# The worker has no port of its own; it is ready when the broker knows it as a consumer.
worker_ready() {
    curl -fsS -m 2 -u guest:guest "http://127.0.0.1:$MANAGEMENT_PORT/api/consumers" 2>/dev/null |
        grep -q '"consumer_tag"'
}
