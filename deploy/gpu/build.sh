#!/usr/bin/env bash
# Builds `upres` and `upres-worker` for CUDA 13 on a machine that has neither a card nor the CUDA toolkit.
#
# NVIDIA's compiler comes from PyPI. The libraries are linked against empty stand-ins, which have the names
# and nothing behind them: where the programs run, the real ones must be found (deploy/gpu/bench.sh looks for
# them). The kernels for quantised language models, which make up most of the compile time and which nothing
# here calls, are left out.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/../local/lib/all.sh"

usage() {
    cat <<'END'
usage: deploy/gpu/build.sh

Leaves `upres`, `upres-worker` and what measures them in target/gpu/bundle. Variables:
  CUDA_COMPUTE_CAP   the card: 80 for A100, 89 for RTX 4090 and L4, 90 for H100 and H200 (default 90)
  CARGO_BUILD_JOBS   compilers at once (default: all cores)
END
}

readonly GPU=$ROOT/deploy/gpu OUT=${CARGO_TARGET_DIR:-$ROOT/target}/gpu
readonly STUBS=$OUT/stubs BUNDLE=$OUT/bundle

# install_compiler: leaves CUDA_HOME. No library of NVIDIA's is linked, so only the compiler's parts are fetched.
install_compiler() {
    local wanted=$GPU/requirements.txt
    if ! cmp -s -- "$wanted" "$OUT/venv/installed.txt"; then
        say "installing NVIDIA's compiler into $OUT/venv (500 MB; details in $OUT/pip.log)"
        python3 -c 'import ensurepip' 2>/dev/null || install_packages python3 python3-venv
        python3 -m venv "$OUT/venv"
        "$OUT/venv/bin/pip" install -r "$wanted" >"$OUT/pip.log" 2>&1 ||
            die "NVIDIA's compiler could not be installed, see $OUT/pip.log"
        cp -- "$wanted" "$OUT/venv/installed.txt"
    fi
    CUDA_HOME=$(echo "$OUT"/venv/lib/python3*/site-packages/nvidia/cu13)
    [[ -x $CUDA_HOME/bin/nvcc ]] || die "there is no nvcc in $CUDA_HOME"
    export CUDA_HOME
}

# source_of CRATE: the folder of its source, which cargo has fetched.
source_of() {
    cargo metadata --format-version 1 --locked --all-features --manifest-path "$ROOT/Cargo.toml" |
        python3 -c 'import json, os, sys
found = [p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == sys.argv[1]]
print(os.path.dirname(found[0]))' "$1"
}

# stub LIBRARY SONAME FOLDER PREFIX: a shared library with every function that cudarc knows of it.
stub() {
    grep -ohE "\bfn $4[A-Za-z0-9_]+" "$CUDARC/$3/sys/mod.rs" | sort -u |
        sed 's/^fn \(.*\)/void \1(void) {}/' >"$STUBS/$1.c"
    [[ -s $STUBS/$1.c ]] || die "cudarc names no function of $1: has it changed its layout?"
    gcc -shared -fPIC -o "$STUBS/lib$1.so" "$STUBS/$1.c" -Wl,-soname,"$2"
}

make_stubs() {
    mkdir -p -- "$STUBS"
    CUDARC=$(source_of cudarc)/src
    stub cuda libcuda.so.1 driver cu
    stub cublas libcublas.so.13 cublas cublas
    stub cublasLt libcublasLt.so.13 cublaslt cublasLt
    stub curand libcurand.so.10 curand curand
    stub nvrtc libnvrtc.so.13 nvrtc nvrtc
    stub cudnn libcudnn.so.9 cudnn cudnn
    ln -sf -- "$CUDA_HOME/lib/libcudart.so.13" "$STUBS/libcudart.so"
    # For the kernels that are left out: who calls one after all is stopped at once.
    {
        echo '#include <stdlib.h>'
        grep -oE 'pub fn [A-Za-z0-9_]+' "$(source_of candle-kernels)/src/ffi.rs" | sort -u |
            sed 's/^pub fn \(.*\)/void \1(void) { abort(); }/'
    } >"$STUBS/left_out.c"
}

build() {
    say "building for compute capability $CUDA_COMPUTE_CAP"
    CARGO_TARGET_DIR=$OUT/build NVCC=$GPU/nvcc.sh UPRES_NVCC=$CUDA_HOME/bin/nvcc \
        UPRES_LEFT_OUT=$STUBS/left_out.c CUDAFORGE_THREADS=${CARGO_BUILD_JOBS:-$(nproc)} \
        RUSTFLAGS="-L native=$STUBS" LIBRARY_PATH=$STUBS SQLX_OFFLINE=true \
        cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" --features cudnn \
        --package upres --package upres-worker || die "the build failed"
}

bundle() {
    mkdir -p -- "$BUNDLE"
    local program
    for program in upres upres-worker; do
        strip -o "$BUNDLE/$program" "$OUT/build/release/$program"
    done
    cp -- "$GPU/bench.sh" "$GPU/pytorch_gpu.py" "$BUNDLE/"
    say "carry $BUNDLE to the machine with the card and run bench.sh there"
}

case ${1:-} in
    '') ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac
need_cargo
unset DATABASE_URL
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
mkdir -p -- "$OUT"
install_compiler
export PATH=$CUDA_HOME/bin:$PATH
make_stubs
build
bundle
