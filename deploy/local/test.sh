#!/usr/bin/env bash
# Every test, beside services that live as long as the run.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"
# shellcheck source-path=SCRIPTDIR source=lib/test-tools.sh
. "$LOCAL/lib/test-tools.sh"

need_services
need_cargo
# For the smoke run of training/, unless the whole recipe's interpreter is there.
[[ -x $ROOT/training/work/venv/bin/python ]] ||
    need_packages '/usr/lib/python3/dist-packages/torch/__init__.py=python3-torch' \
        '/usr/lib/python3.*/ensurepip/__init__.py=python3-venv'
need_test_tools
cd "$ROOT"
# The recipe of the bundled model in miniature, while the compiler runs.
smoke_log=$ROOT/target/training-smoke.log
mkdir -p -- "$ROOT/target"
setsid make --no-print-directory -C training smoke >"$smoke_log" 2>&1 &
smoke=$!
trap 'kill -- "-$smoke" 2>/dev/null || true' EXIT
# Queries are checked against .sqlx/. With a DATABASE_URL in sight sqlx would ask that database instead,
# which has no tables: so everything is built before there is one.
unset DATABASE_URL
export SQLX_OFFLINE=true
cargo build --workspace --bins --locked
cargo test --workspace --locked --no-run
# Stories wait more than they compute: more of them at once than there are cores.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}
status=0
# To the end, so that one run tells all that fails.
"$LOCAL/with-services.sh" cargo test --workspace --locked --no-fail-fast "$@" || status=$?
# A bounded share of fuzzing, the same each time where the files to begin with are.
if (($# == 0)); then
    for target in sniff decode metadata; do
        fuzz_log=$ROOT/target/fuzz-$target.log
        if "$ROOT/fuzz/run.sh" "$target" 20000x >"$fuzz_log" 2>&1; then
            say "fuzz target $target: $(sed -n 's/^Done //p' "$fuzz_log")"
        else
            show_log "$fuzz_log"
            say "the fuzz target $target found something: see fuzz/artifacts/"
            status=1
        fi
    done
fi
if wait "$smoke"; then
    tail -n 1 -- "$smoke_log"
else
    show_log "$smoke_log"
    say "the smoke run of training/ failed"
    ((status)) || status=1
fi
exit "$status"
