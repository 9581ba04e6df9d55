# shellcheck shell=bash
# The S3 server of deploy/local/s3, under the caller's own name.

readonly S3_ACCESS_KEY=upres-local S3_SECRET_KEY=upres-local-secret S3_REGION=us-east-1

# program NAME: prints the path of the newest build of one of our programs.
program() {
    local target=${CARGO_TARGET_DIR:-$ROOT/target} newest='' candidate
    for candidate in "$target"/{release,debug}/"$1"; do
        [[ -x $candidate && (-z $newest || $candidate -nt $newest) ]] && newest=$candidate
    done
    [[ -n $newest ]] && printf '%s\n' "$newest"
}

s3_answers() { curl -sS -m 2 -o /dev/null "http://127.0.0.1:$1/" 2>/dev/null; }
s3_answers_or_ended() { has_ended "$1/s3.pid" || s3_answers "$2"; }

# s3_start DIR PORT LOG PROGRAM BUCKET...
s3_start() {
    local dir=$1 port=$2 log=$3 program=$4 bucket buckets=()
    shift 4
    for bucket in "$@"; do buckets+=(--bucket "$bucket"); done
    mkdir -p -- "$dir/s3"
    launch "$dir/s3.pid" "$log" "$program" --root "$dir/s3" --listen "127.0.0.1:$port" \
        --access-key "$S3_ACCESS_KEY" --secret-key "$S3_SECRET_KEY" "${buckets[@]}"
    wait_for 20 s3_answers_or_ended "$dir" "$port" || true
    if has_ended "$dir/s3.pid" || ! s3_answers "$port"; then
        show_log "$log"
        die "the S3 server did not start on port $port"
    fi
}

# s3_endpoints PORT
s3_endpoints() {
    printf 'S3_ENDPOINT=http://127.0.0.1:%s\n' "$1"
    printf 'S3_REGION=%s\nAWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n' \
        "$S3_REGION" "$S3_ACCESS_KEY" "$S3_SECRET_KEY"
}

s3_stop() { end_process "$1/s3.pid" TERM 15; }
s3_kill() { kill_with_children "$1/s3.pid"; }
