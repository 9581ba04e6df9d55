#!/usr/bin/env bash
# Brings the stack up and sends it every sample photo under three schedules, as one batch.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"
# shellcheck source-path=SCRIPTDIR
. "$LOCAL/lib/stack.sh"
# shellcheck source-path=SCRIPTDIR
. "$LOCAL/lib/picture.sh"

readonly SCHEDULES=('200' '250,150,50' '250,200,150,100,50') OUTPUT=$ROOT/demo-output

# result_name PHOTO SCHEDULE: as `upres batch create` names it.
result_name() {
    local name
    name=$(basename "$1")
    printf '%s__t%s.png\n' "${name%.*}" "${2//,/-}"
}

submit_all() {
    local schedule more=()
    for schedule in "${SCHEDULES[@]:1}"; do
        more+=(--also "$schedule")
    done
    "$upres" batch create "${photos[@]}" --timesteps "${SCHEDULES[0]}" "${more[@]}" --format png \
        -o "$OUTPUT" --overwrite --label demo=1
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
shopt -s nullglob
photos=("$ROOT"/samples/*.{jpg,jpeg,png})
((${#photos[@]})) || die "there are no photos in samples/"
mkdir -p -- "$OUTPUT"
say ""
say "a batch of ${#photos[@]} photos under ${#SCHEDULES[@]} schedules each"
code=0
submit_all || code=$?
if ((code == 130)); then
    say "interrupted: the jobs go on, make demo begins anew, make down stops it all"
    exit 130
fi
((code == 0)) || die "not every job succeeded"
verify_all || die "not every result is four times its photo"
say ""
say "$((${#photos[@]} * ${#SCHEDULES[@]})) pictures, each four times as wide and high, are in $OUTPUT"
say "the console and the API's docs (/docs) are at $API_URL ; your key for both is in $STATE/admin.key"
say "stop it all with: make down"
