#!/usr/bin/env bash
# Runs a fuzz target: fuzz/run.sh decode 300, with the project's own toolchain and libFuzzer. What it finds lies
# under fuzz/artifacts/; give such a file as third argument to see it again. `cargo +nightly fuzz run decode`
# (cargo-fuzz) runs the same targets with the address sanitizer.
set -euo pipefail

target=${1:?usage: fuzz/run.sh sniff|decode|metadata [SECONDS|RUNSx] [FILE]}
bound=${2:-60}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/fuzz
corpus=$root/fuzz/corpus/$target
mkdir -p "$corpus" "$root/fuzz/artifacts"

# Small files of every kind to begin with: those that lie beside the clone, if any, the samples, the tests' own.
for folder in "$root/../shared/data/edge" "$root/samples" "$root/crates/imaging/tests"; do
    [[ -d $folder ]] || continue
    find "$folder" -type f -size -200k ! -name '*.rs' -exec cp -n -t "$corpus" {} +
done

# Which edges of the code an input takes, counted as libFuzzer wants it; overflow is a finding too.
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks
    --cfg=fuzzing)
# Only what runs the inputs is instrumented: with a target named, not what runs at build time.
host=$(rustc -vV | sed -n 's/^host: //p')
cd "$root/fuzz"
RUSTFLAGS="${flags[*]}" cargo build --locked --release --target "$host" --bin "$target"

case $bound in
    *x) until=(-runs="${bound%x}" -seed=1) ;;
    *) until=(-max_total_time="$bound") ;;
esac
# A file is run once; a corpus grows.
exec "$CARGO_TARGET_DIR/$host/release/$target" -max_len=200000 -timeout=30 -rss_limit_mb=1024 \
    -artifact_prefix="$root/fuzz/artifacts/" -print_final_stats=1 "${until[@]}" "${3:-$corpus}"
