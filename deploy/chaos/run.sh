#!/usr/bin/env bash
# Chaos: upres under load, faults and a seed, on services of its own; then its history is held against
# the promises. What a run found is in docs/reliability.md.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/../local/lib/all.sh"

readonly TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

usage() {
    cat <<'END_OF_USAGE'
usage: [SEED=N] deploy/chaos/run.sh [OPTION]...      `upres-chaos --help` knows the options

Prints the seed and a closing line for each run, exits 1 if a promise was broken. Logs, history and
report: TARGET/chaos/SEED/. SEED=N replays the submissions and faults of an earlier run.
END_OF_USAGE
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
esac
need_services
need_cargo
(cd "$ROOT" && unset DATABASE_URL && SQLX_OFFLINE=true cargo build --workspace --bins --locked) ||
    die "the build failed"
exec "$LOCAL/with-services.sh" "$TARGET/debug/upres-chaos" --out "$TARGET/chaos" "$@"
