#!/usr/bin/env bash
# Writes .sqlx/ anew: every query is checked against a database that has all migrations.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

if [[ ${1:-} != beside-services ]]; then
    need_cargo
    need_services
    exec "$LOCAL/with-services.sh" "${BASH_SOURCE[0]}" beside-services
fi

cd "$ROOT"
for migration in migrations/*.sql; do
    psql --quiet --no-psqlrc --single-transaction --set ON_ERROR_STOP=1 --file "$migration" "$DATABASE_URL" >/dev/null
done
rm -f -- .sqlx/query-*.json
# The macros write what they find when they are expanded.
touch -- crates/coordinator/src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$ROOT/.sqlx cargo check --locked --package upres-coordinator --all-targets
say "$(find .sqlx -name 'query-*.json' | wc -l) queries are in .sqlx/"
