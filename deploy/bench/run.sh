#!/usr/bin/env bash
# The benchmarks: a tile by stage beside PyTorch, no-op jobs beside graphile-worker and Celery. What cannot be had
# is left out with a word about it. Another program is only ever measured in the same run as ours.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/../local/lib/all.sh"

readonly BENCH=$ROOT/deploy/bench TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
readonly OUT=$TARGET/bench PROGRAMS=$TARGET/release

usage() {
    cat <<'END'
usage: deploy/bench/run.sh [engine|queue|polls|load|batch|soak|large|parity]...      engine, queue and polls without an argument

Prints tables and writes OUT/*.json, with OUT the folder bench/ of the build's. Variables:
  UPRES_BENCH_SIZE=full      the engine also with the shapes of the release: 4 GB, minutes
  UPRES_BENCH_TIMESTEPS      the schedule (default 200)
  UPRES_BENCH_THREADS        threads of either engine (default: all cores)
  UPRES_ORACLE               folder of the PyTorch reference, oracle.py (default: ../shared/oracle)
  UPRES_BENCH_ROWS           ended jobs in the large table of `load` (default 5000000)
  MINUTES                    length of `soak` (default 30)
  UPRES_BENCH_PYTHON         a Python that has what the reference needs (default: one is made in OUT)
END
}

build() {
    say "building (the first time takes minutes)"
    (cd "$ROOT" && unset DATABASE_URL && SQLX_OFFLINE=true cargo build --release --locked "$@") ||
        die "the build failed"
}

build_all() {
    build --workspace --bins
    # with-services.sh takes the newest build of the S3 server; a debug build would be measured with it.
    touch -- "$PROGRAMS/upres-local-s3"
}

# Two threads that share a core with strangers wait for each other, PyTorch's longer than ours: on a busy
# machine even the ratios are wrong.
warn_if_busy() {
    local load
    read -r load _ </proc/loadavg
    if awk -v load="$load" -v cores="$(nproc)" 'BEGIN { exit !(load > cores / 2) }'; then
        say "warning: this machine is busy (load $load), the figures will be off: best run this again when it is quiet"
    fi
}

skip() { say "skipped: the comparison with $1: $2"; }

# find_python: the Python that has what the reference needs; leaves PYTHON empty when there is none to compare with.
find_python() {
    export UPRES_ORACLE=${UPRES_ORACLE:-$ROOT/../shared/oracle}
    PYTHON=
    if [[ ! -f $UPRES_ORACLE/oracle.py ]]; then
        skip PyTorch "no reference implementation in $UPRES_ORACLE; UPRES_ORACLE names its folder"
        return
    fi
    local python=${UPRES_BENCH_PYTHON:-$OUT/venv/bin/python}
    [[ -n ${UPRES_BENCH_PYTHON:-} ]] || make_venv || return 0
    if ! "$python" -c 'import torch, diffusers, transformers, safetensors, numpy, PIL' 2>/dev/null; then
        skip PyTorch "$python lacks what $UPRES_ORACLE/requirements.txt names"
        return
    fi
    PYTHON=$python
}

make_venv() {
    local wanted=$UPRES_ORACLE/requirements.txt
    ! cmp -s -- "$wanted" "$OUT/venv/installed.txt" || return 0
    say "installing PyTorch into $OUT/venv (gigabytes; details in $OUT/pip.log)"
    python3 -c 'import ensurepip' 2>/dev/null || (install_packages python3 python3-venv) ||
        { skip PyTorch "no Python here"; return 1; }
    if python3 -m venv "$OUT/venv" && "$OUT/venv/bin/pip" install -r "$wanted" >"$OUT/pip.log" 2>&1; then
        cp -- "$wanted" "$OUT/venv/installed.txt"
    else
        skip PyTorch "it could not be installed, see $OUT/pip.log"
        return 1
    fi
}

# find_graphile: leaves GRAPHILE empty when it cannot be installed.
find_graphile() {
    local home=$OUT/graphile
    GRAPHILE=()
    if ! present node || ! present npm; then
        (install_packages nodejs npm) || { skip graphile-worker "no Node.js here"; return 0; }
    fi
    mkdir -p -- "$home"
    if ! cmp -s -- "$BENCH/graphile/package-lock.json" "$home/installed.json"; then
        say "installing graphile-worker into $home"
        cp -- "$BENCH"/graphile/package*.json "$home/"
        if ! (cd "$home" && npm ci --no-audit --no-fund >npm.log 2>&1); then
            skip graphile-worker "it could not be installed, see $home/npm.log"
            return
        fi
        cp -- "$home/package-lock.json" "$home/installed.json"
    fi
    # Beside its packages, or it would not find them.
    cp -- "$BENCH/graphile/peer.mjs" "$home/"
    GRAPHILE=(--graphile node "$home/peer.mjs" ';')
}

# find_celery: leaves CELERY empty when it cannot be installed.
find_celery() {
    local home=$OUT/celery wanted=$BENCH/celery/requirements.txt
    CELERY=()
    if ! cmp -s -- "$wanted" "$home/installed.txt"; then
        say "installing Celery into $home"
        python3 -c 'import ensurepip' 2>/dev/null || (install_packages python3 python3-venv) ||
            { skip Celery "no Python here"; return 0; }
        if ! python3 -m venv "$home" || ! "$home/bin/pip" install -r "$wanted" >"$OUT/pip-celery.log" 2>&1; then
            skip Celery "it could not be installed, see $OUT/pip-celery.log"
            return
        fi
        cp -- "$wanted" "$home/installed.txt"
    fi
    CELERY=(--celery "$home/bin/python" "$BENCH/celery/peer.py" ';')
}

# random_model SIZE: neither speed nor parity depends on what a network has learnt.
random_model() {
    local model=$OUT/models/$1
    [[ -f $model/upres-model.json ]] || "$PROGRAMS/upres" models random --size "$1" -o "$model" >/dev/null
}

# bench_engine SIZE OPTION...
bench_engine() {
    local size=$1 model=$OUT/models/$1
    shift
    random_model "$size"
    "$PROGRAMS/upres-bench" engine --model "$model" --timesteps "${UPRES_BENCH_TIMESTEPS:-200}" \
        --threads "${UPRES_BENCH_THREADS:-$(nproc)}" --out "$OUT/engine-$size.json" "$@" "${PYTORCH[@]}"
}

engine() {
    local PYTHON PYTORCH=()
    find_python
    [[ -z $PYTHON ]] || PYTORCH=(-- "$PYTHON" "$BENCH/pytorch_peer.py")
    bench_engine tiny
    bench_engine quarter
    [[ ${UPRES_BENCH_SIZE:-} != full ]] || bench_engine full --turns 1 --rounds 1
}

parity() {
    local PYTHON
    find_python
    [[ -n $PYTHON ]] || return 0
    random_model full
    "$PYTHON" "$BENCH/parity.py" "$PROGRAMS/upres" "$OUT/models/full" "$OUT/parity"
}

queue() {
    local GRAPHILE CELERY
    need_services
    find_graphile
    find_celery
    "$LOCAL/with-services.sh" "$PROGRAMS/upres-bench" queue --out "$OUT/queue.json" "${GRAPHILE[@]}" "${CELERY[@]}"
}

polls() {
    need_services
    # Ten thousand connections.
    ulimit -n "$(ulimit -Hn)"
    "$LOCAL/with-services.sh" "$PROGRAMS/upres-bench" polls --out "$OUT/polls.json"
}

load() {
    need_services
    "$LOCAL/with-services.sh" "$PROGRAMS/upres-bench" load --out "$OUT/load.json" \
        ${UPRES_BENCH_ROWS:+--rows "$UPRES_BENCH_ROWS"}
}

batch() {
    need_services
    "$LOCAL/with-services.sh" "$PROGRAMS/upres-bench" batch --out "$OUT/batch.json"
}

# No service: from file to file, 28.8 GB of samples; 1.3 GB on disk meanwhile.
large() {
    "$PROGRAMS/upres-bench" large --folder "$OUT"
}

soak() {
    need_services
    "$LOCAL/with-services.sh" "$PROGRAMS/upres-bench" soak --out "$OUT/soak.txt"
}

for part in "$@"; do
    case $part in
        engine | queue | polls | load | batch | soak | large | parity) ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
need_cargo
mkdir -p -- "$OUT"
warn_if_busy
build_all
(($#)) || set -- engine queue polls
for part in "$@"; do "$part"; done
[[ $* == parity ]] || say "the numbers: $OUT/*.json"
