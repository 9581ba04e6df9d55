#!/usr/bin/env bash
# Stops the local stack and removes all that it and the build have made.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

"$LOCAL/down.sh"
if [[ -d $STATE ]]; then
    home=$(data_home)
    rm -rf -- "$STATE" "$home" "$ROOT/demo-output"
fi
command -v cargo >/dev/null && (cd "$ROOT" && cargo clean)
