#!/usr/bin/env bash
# Stops everything that `make up` started, and keeps the data.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"
# shellcheck source-path=SCRIPTDIR
. "$LOCAL/lib/stack.sh"

stop_services() {
    local service job jobs=()
    for service in s3 postgres rabbitmq; do
        "$LOCAL/service.sh" stop "$service" --dir "$(services_folder "$service")" 9>&- &
        jobs+=($!)
    done
    for job in "${jobs[@]}"; do
        wait "$job" || die "a service did not stop"
    done
}

[[ -d $STATE ]] || exit 0
lock_stack
# The worker first: it hands back what it holds, and needs the others for that.
end_process "$RUN/worker.pid" TERM 35
end_process "$RUN/coordinator.pid" TERM 30
stop_services
say "stopped"
