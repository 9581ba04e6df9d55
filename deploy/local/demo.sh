#!/usr/bin/env bash
# Brings the stack up and sends it every sample photo under three schedules.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"
# shellcheck source-path=SCRIPTDIR
. "$LOCAL/lib/stack.sh"
# shellcheck source-path=SCRIPTDIR
. "$LOCAL/lib/picture.sh"

readonly SCHEDULES=('200' '250,150,50' '250,200,150,100,50') OUTPUT=$ROOT/demo-output
# Commands that wait at once; the queue takes them all, a terminal does not.
readonly AT_ONCE=6

# submit PHOTO SCHEDULE: ends when the result is here, and says which job it was.
submit() {
    local name log code=0 began=$SECONDS
    name=$(result_name "$1" "$2")
    log=$OUTPUT/.log/$name.log
    say "sent   $name"
    "$upres" submit "$1" --timesteps "$2" --format png -o "$OUTPUT/$name" --overwrite \
        --label demo=1 --json </dev/null >"$log" 2>&1 || code=$?
    if ((code)); then
        ((code == 130)) || { say "FAILED $name"; show_log "$log"; }
        return 1
    fi
    say "done   $name  (waited $((SECONDS - began)) s, job $(job_of "$log"))"
}

job_of() { sed -n 's/^{"id": *"\([^"]*\)".*/\1/p' "$1" | head -n 1; }

result_name() {
    local name
    name=$(basename "$1")
    printf '%s__t%s.png\n' "${name%.*}" "${2//,/-}"
}

submit_all() {
    local photo schedule failed=0
    for photo in "${photos[@]}"; do
        for schedule in "${SCHEDULES[@]}"; do
            # Each that ends makes room for one.
            (($(jobs -pr | wc -l) < AT_ONCE)) || wait -n || failed=1
            submit "$photo" "$schedule" &
        done
    done
    while [[ -n $(jobs -p) ]]; do
        wait -n || failed=1
    done
    return "$failed"
}

# is_fourfold PHOTO SCHEDULE
is_fourfold() {
    local result width height expected
    result=$OUTPUT/$(result_name "$1" "$2")
    read -r width height < <(picture_size "$1") || die "$1 is neither PNG nor JPEG"
    expected="$((4 * width)) $((4 * height))"
    [[ -f $result && $(picture_size "$result") == "$expected" ]] || {
        say "$result is not $expected"
        return 1
    }
}

verify_all() {
    local photo schedule wrong=0
    for photo in "${photos[@]}"; do
        for schedule in "${SCHEDULES[@]}"; do
            is_fourfold "$photo" "$schedule" || wrong=1
        done
    done
    return "$wrong"
}

"$LOCAL/up.sh"
# shellcheck source=/dev/null
. "$STATE/ports.env"
clean_environment
upres=$(programs_folder)/upres
UPRES_API_KEY=$(<"$STATE/admin.key")
export UPRES_API_URL=$API_URL UPRES_API_KEY
# Ctrl-C reaches the commands that wait, too: they have nothing to report then.
interrupted() {
    trap '' INT TERM
    wait
    say ""
    say "interrupted: the jobs go on, make demo fetches them anew, make down stops it all"
    exit 130
}
shopt -s nullglob
photos=("$ROOT"/samples/*.{jpg,jpeg,png})
((${#photos[@]})) || die "there are no photos in samples/"
mkdir -p -- "$OUTPUT/.log"
say ""
say "submitting ${#photos[@]} photos under ${#SCHEDULES[@]} schedules each"
trap interrupted INT TERM
submit_all || die "not every job succeeded; its log is in $OUTPUT/.log"
verify_all || die "not every result is four times its photo"
say ""
say "$((${#photos[@]} * ${#SCHEDULES[@]})) pictures, each four times as wide and high, are in $OUTPUT"
say "the API and its docs are at $API_URL ; stop it all with: make down"
