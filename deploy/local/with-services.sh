#!/usr/bin/env bash
# Runs a command beside PostgreSQL, RabbitMQ and an S3 server that live exactly as long as it does.
# Nothing survives, so nothing is made durable: never keep anything in them.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

usage() {
    cat <<'END'
usage: with-services.sh COMMAND [ARGUMENT]...

COMMAND finds in its environment:
  DATABASE_URL, UPRES_TEST_DATABASE_URL   PostgreSQL, as superuser
  UPRES_TEST_AMQP_URL                     RabbitMQ, default vhost
  UPRES_TEST_AMQP_MANAGEMENT_URL          its HTTP management, which makes vhosts
  UPRES_TEST_S3_ENDPOINT, UPRES_S3_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
  UPRES_TEST_SERVICE                      service.sh, for tests that break a server of their own:
  UPRES_TEST_SCRATCH                      --dir is a folder in here, so that it is cleared up with the rest

UPRES_KEEP=1 keeps the data and the logs when COMMAND fails. Exits as COMMAND does.
END
}

readonly SERVICES=(postgres rabbitmq s3)

# discard FOLDER [keep]: killed, not stopped, as nobody will read the data again; the stop that follows
# ends what a kill leaves for the next start.
discard() {
    local dir service
    for dir in "$1" "$1"/scratch/*/; do
        for service in "${SERVICES[@]}"; do
            [[ -f $dir/$service.lock ]] || continue
            "$LOCAL/service.sh" kill "$service" --dir "$dir"
            "$LOCAL/service.sh" stop "$service" --dir "$dir"
        done
    done
    [[ ${2:-} == keep ]] || rm -rf -- "$1"
}

# What a run left that was itself killed outright and could clear up nothing.
discard_orphans() {
    local folder
    for folder in "$1"/upres-services.*; do
        if [[ -O $folder && -f $folder/owner.pid && ! -e $folder/kept ]] && has_ended "$folder/owner.pid"; then
            discard "$folder"
        fi
    done
}

make_folder() {
    local parent
    for parent in "${TMPDIR:-/tmp}" /var/tmp; do
        if reachable "$(account_of postgres)" "$parent" && reachable "$(account_of rabbitmq)" "$parent"; then
            discard_orphans "$parent"
            folder=$(mktemp -d "$parent/upres-services.XXXXXX")
            record_process "$folder/owner.pid" "$$"
            mkdir "$folder/scratch"
            chmod 711 "$folder" "$folder/scratch"
            return
        fi
    done
    die 2 "the services' accounts can reach neither ${TMPDIR:-/tmp} nor /var/tmp"
}

# Side by side: RabbitMQ alone takes longer than the two others together.
start_services() {
    local service job jobs=()
    for service in "${SERVICES[@]}"; do
        "$LOCAL/service.sh" start "$service" --dir "$folder" >"$folder/$service.endpoints" &
        jobs+=($!)
    done
    for job in "${jobs[@]}"; do
        wait "$job" || die "the services did not start"
    done
}

endpoint() { sed -n "s/^$1=//p" "$folder"/*.endpoints; }

export_endpoints() {
    DATABASE_URL=$(endpoint DATABASE_URL)
    UPRES_TEST_DATABASE_URL=$DATABASE_URL
    UPRES_TEST_AMQP_URL=$(endpoint AMQP_URL)
    UPRES_TEST_AMQP_MANAGEMENT_URL=$(endpoint AMQP_MANAGEMENT_URL)
    UPRES_TEST_S3_ENDPOINT=$(endpoint S3_ENDPOINT)
    UPRES_S3_REGION=$(endpoint S3_REGION)
    AWS_ACCESS_KEY_ID=$(endpoint AWS_ACCESS_KEY_ID)
    AWS_SECRET_ACCESS_KEY=$(endpoint AWS_SECRET_ACCESS_KEY)
    UPRES_TEST_SERVICE=$LOCAL/service.sh
    UPRES_TEST_SCRATCH=$folder/scratch
    export DATABASE_URL UPRES_S3_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    export UPRES_TEST_DATABASE_URL UPRES_TEST_AMQP_URL UPRES_TEST_AMQP_MANAGEMENT_URL
    export UPRES_TEST_S3_ENDPOINT UPRES_TEST_SERVICE UPRES_TEST_SCRATCH
}

# The command leads a process group of its own, so that a signal reaches it at once and whatever it
# started as well. At a terminal it stays in front, where it can be typed to.
run_command() {
    if [[ -t 0 ]]; then
        "$@" || code=$?
        return
    fi
    set -m
    "$@" &
    command=$!
    set +m
    wait "$command" || code=$?
}

# shellcheck disable=SC2317 # called by the trap
end_command() {
    [[ -n $command ]] || return 0
    kill -TERM -- "-$command" 2>/dev/null || return 0
    wait_for 10 group_gone "$command" || kill -KILL -- "-$command" 2>/dev/null || true
}

# shellcheck disable=SC2317 # called by the trap
group_gone() { ! kill -0 -- "-$1" 2>/dev/null; }

# shellcheck disable=SC2317 # called by the trap
finish() {
    local status=$?
    trap - EXIT
    # From here on nothing interrupts.
    trap '' INT TERM HUP
    end_command
    [[ -n $folder ]] || exit "$status"
    if ((status)) && [[ ${UPRES_KEEP:-} == 1 ]]; then
        touch "$folder/kept"
        discard "$folder" keep
        say "kept: $folder"
    else
        discard "$folder"
    fi
    exit "$status"
}

case ${1:-} in
    '') usage >&2; exit 2 ;;
    -h | --help) usage; exit 0 ;;
esac
need_services
program upres-local-s3 >/dev/null || (cd "$ROOT" && cargo build --locked -p upres-local-s3)
folder='' command='' code=0
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
make_folder
start_services
export_endpoints
run_command "$@"
exit "$code"
