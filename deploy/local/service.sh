#!/usr/bin/env bash
# Starts, stops, kills and looks at one private service: the one door for whoever needs a server of
# their own to break. Everything it has lies in DIR; a start finds what an earlier one left there.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

usage() {
    cat <<'END'
usage: service.sh {start|stop|kill|status} {postgres|rabbitmq|s3} --dir DIR [OPTION]...

  start    waits until the service answers, then prints where, one NAME=VALUE a line
  stop     the orderly end, with all that belongs to it; nothing to stop is no error
  kill     SIGKILL; `start` brings it back on the same data and ports
  status   prints where it is and exits 0 if it runs, exits 1 if not

  --dir DIR            its folder; made, and opened to the account that runs the service
  --port PORT          default: the port it had in DIR, else a free one
  --log FILE           default: DIR/SERVICE.log
  --fsync on|off       postgres: survive a crash of the machine (default off)
  --management-port P  rabbitmq: HTTP management (default: the one it had, else a free one)
  --bucket NAME        s3: a bucket to have from the start; may be repeated
  --program FILE       s3: the server to run (default: the newest build in target/)
END
}

usage_error() {
    say "error: $1"
    usage >&2
    exit 2
}

parse() {
    [[ ${1:-} != -h && ${1:-} != --help ]] || { usage; exit 0; }
    verb=${1:-} service=${2:-}
    [[ $verb =~ ^(start|stop|kill|status)$ ]] || usage_error "what to do: start, stop, kill or status?"
    [[ $service =~ ^(postgres|rabbitmq|s3)$ ]] || usage_error "which: postgres, rabbitmq or s3?"
    shift 2
    dir='' port='' log='' fsync=off management='' program='' buckets=()
    while (($#)); do
        (($# > 1)) || usage_error "$1 wants a value"
        case $1 in
            --dir) dir=$2 ;;
            --port) port=$2 ;;
            --log) log=$2 ;;
            --fsync) fsync=$2 ;;
            --management-port) management=$2 ;;
            --bucket) buckets+=("$2") ;;
            --program) program=$2 ;;
            *) usage_error "unknown option $1" ;;
        esac
        shift 2
    done
    [[ -n $dir ]] || usage_error "--dir is missing"
    [[ $port =~ ^[0-9]*$ && $management =~ ^[0-9]*$ ]] || usage_error "a port is a number"
    [[ $fsync =~ ^(on|off)$ ]] || usage_error "--fsync is on or off"
}

choose_port() {
    [[ -n $port && $port != 0 ]] || { [[ -f $dir/$service.port ]] && port=$(<"$dir/$service.port"); } ||
        port=$(free_port)
    ! port_taken "$port" || die "port $port is taken by another program"
    printf '%s\n' "$port" >"$dir/$service.port"
}

endpoints() {
    case $service in
        rabbitmq) rabbitmq_endpoints "$dir" ;;
        *) "${service}_endpoints" "$(<"$dir/$service.port")" ;;
    esac
}

start() {
    runs "$dir/$service.pid" && return
    choose_port
    case $service in
        postgres) postgres_start "$dir" "$port" "$fsync" "$log" ;;
        rabbitmq) rabbitmq_start "$dir" "$port" "$log" "$management" ;;
        s3)
            [[ -n $program ]] || program=$(program upres-local-s3) ||
                die 2 "no S3 server to run: cargo build -p upres-local-s3"
            s3_start "$dir" "$port" "$log" "$program" "${buckets[@]}"
            ;;
    esac
}

parse "$@"
[[ $verb != start ]] || mkdir -p -- "$dir"
[[ -d $dir ]] || { [[ $verb == stop || $verb == kill ]] && exit 0; } || exit 1
dir=$(cd "$dir" && pwd -P)
[[ -n $log ]] || log=$dir/$service.log
# Two callers on one folder take turns.
exec 9>"$dir/$service.lock"
flock 9
case $verb in
    start)
        [[ $service == s3 ]] || need_services
        start
        endpoints
        ;;
    stop) "${service}_stop" "$dir" ;;
    kill) "${service}_kill" "$dir" ;;
    status)
        runs "$dir/$service.pid" || { say "$service does not run in $dir"; exit 1; }
        endpoints
        ;;
esac
