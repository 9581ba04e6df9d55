#!/usr/bin/env bash
# Every test, beside services that live as long as the run.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

need_services
need_cargo
cd "$ROOT"
# Queries are checked against .sqlx/. With a DATABASE_URL in sight sqlx would ask that database instead,
# which has no tables: so everything is built before there is one.
unset DATABASE_URL
export SQLX_OFFLINE=true
cargo build --workspace --bins --locked
cargo test --workspace --locked --no-run
# Stories wait more than they compute: more of them at once than there are cores.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}
exec "$LOCAL/with-services.sh" cargo test --workspace --locked "$@"
