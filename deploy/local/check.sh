#!/usr/bin/env bash
# What needs no services: format, lints, docs, licences and advisories, unused dependencies.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

# optional_tool NAME ARGUMENT...: runs cargo NAME where it is installed.
optional_tool() {
    if command -v "cargo-$1" >/dev/null; then
        cargo "$@"
    else
        say "skipped: cargo $1 (to have it: cargo install --locked cargo-$1)"
    fi
}

need_cargo
cd "$ROOT"
unset DATABASE_URL
export SQLX_OFFLINE=true
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
optional_tool deny check
optional_tool machete
if command -v shellcheck >/dev/null; then
    shellcheck -x deploy/local/*.sh deploy/local/lib/*.sh deploy/bench/*.sh deploy/chaos/*.sh deploy/gpu/*.sh .ci/run
else
    say "skipped: shellcheck (to have it: apt-get install shellcheck)"
fi
