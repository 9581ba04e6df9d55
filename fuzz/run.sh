#!/usr/bin/env bash
# Runs a fuzz target for a time: fuzz/run.sh decode 300. Needs a nightly toolchain and cargo-fuzz:
#   rustup toolchain install nightly && cargo install --locked cargo-fuzz
# What it finds lies under fuzz/artifacts/, and `cargo +nightly fuzz run TARGET FILE` shows it again.
set -euo pipefail

target=${1:?usage: fuzz/run.sh sniff|decode|metadata [SECONDS]}
seconds=${2:-60}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
corpus=$root/fuzz/corpus/$target
mkdir -p "$corpus"

# Small files of every kind to begin with: those that lie beside the clone, if any, and the samples.
for folder in "$root/../shared/data/edge" "$root/samples"; do
    [[ -d $folder ]] || continue
    find "$folder" -type f -size -200k -exec cp -n -t "$corpus" {} +
done

cd "$root"
exec cargo +nightly fuzz run "$target" -- \
    -max_total_time="$seconds" -max_len=200000 -timeout=10 -rss_limit_mb=1024
