#!/usr/bin/env bash
# Is this card right, and how fast is it? Lies beside the programs that build.sh made; needs nothing else of the
# repository. Makes random weights in the shapes of the release here, holds every stage on the card against the
# CPU, sees whether the tile batch shows in a result, then times the stages beside PyTorch.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
readonly HERE

usage() {
    cat <<'END'
usage: bench.sh [OUT]      everything goes to OUT (default: ./upres-gpu), tables to the terminal

Needs NVIDIA's driver for CUDA 13 and its libraries (cublas, curand, cudnn, cudart): those of a PyTorch that is
installed are found. Variables:
  UPRES_MODEL        a model folder (default: random weights of full size, 4 GB, made in OUT)
  UPRES_PYTHON       a Python with PyTorch and diffusers (default: python3)
  UPRES_ORACLE       folder of the PyTorch reference, oracle.py; without it there is no comparison
  DEVICE             default cuda:0
  BATCHES, STEPS     default "1 4 8 16" and "1 3 5"
  DTYPES             of our timing, default "bf16 f32"
END
}

say() { printf '%s\n' "$*" >&2; }

# find_libraries: where PyTorch brought NVIDIA's.
find_libraries() {
    local found
    found=$("$PYTHON" - 2>/dev/null <<'END' || true
import glob, site, sysconfig
roots = {*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_paths()["purelib"]}
print(":".join(sorted(d for root in roots for d in glob.glob(f"{root}/nvidia/*/lib"))))
END
    )
    export LD_LIBRARY_PATH=$found${found:+:}${LD_LIBRARY_PATH:-}
    local missing
    missing=$(ldd "$HERE/upres-worker" | awk '/not found/ { print $1 }')
    [[ -z $missing ]] || { say "error: not found: $missing. Put their folders on LD_LIBRARY_PATH"; exit 2; }
}

schedule() {
    case $1 in
        1) echo 200 ;;
        2) echo 200,100 ;;
        3) echo 200,100,50 ;;
        4) echo 200,150,100,50 ;;
        5) echo 250,200,150,100,50 ;;
        *) say "error: STEPS are 1 to 5, not $1"; exit 2 ;;
    esac
}

worker() { "$HERE/upres-worker" bench --model-dir "$MODEL" --device "$DEVICE" "$@"; }

# compare: every stage against the CPU; goes on when one is too far, and remembers. f32 is to be f32: without the
# variable NVIDIA's libraries take the first 10 of its 23 bits into convolutions.
compare() {
    local dtype
    for dtype in f32 bf16; do
        NVIDIA_TF32_OVERRIDE=0 worker --dtype "$dtype" --against cpu --timesteps "$(schedule 3)" | tee "$OUT/against-cpu-$dtype.txt" ||
            FAILED+=("$dtype against the CPU: see $OUT/against-cpu-$dtype.txt")
    done
}

# picture FILE: a PNG of eight tiles with waves and grain.
picture() {
    "$PYTHON" - "$1" <<'END'
import math, random, struct, sys, zlib
width, height, grain = 416, 224, random.Random(1)
rows = b"".join(b"\0" + bytes(int(128 + 60 * math.sin(x / 9 + c) + 50 * math.cos(y / 13 - c) + grain.uniform(-8, 8))
                              for x in range(width) for c in range(3)) for y in range(height))
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
with open(sys.argv[1], "wb") as out:
    out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
              + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
END
}

# same_bytes: one picture with 1, 4 and 8 tiles at once. The project promises equal bytes on
# a processor; whether a card keeps that, too, is what this finds out.
same_bytes() {
    local dtype batch digest first
    picture "$OUT/picture.png"
    : >"$OUT/same-bytes.txt"
    for dtype in $DTYPES; do
        first=
        for batch in 1 4 8; do
            "$HERE/upres" upscale "$OUT/picture.png" -o "$OUT/batch-$batch.png" --overwrite --model "$MODEL" --device "$DEVICE" \
                --dtype "$dtype" --tile-batch "$batch" 2>>"$OUT/upres.log" ||
                { FAILED+=("$dtype with $batch tiles at once: see $OUT/upres.log"); continue; }
            digest=$(sha256sum <"$OUT/batch-$batch.png")
            echo "$dtype, $batch tiles at once: ${digest%% *}" | tee -a "$OUT/same-bytes.txt"
            [[ ${first:=$digest} == "$digest" ]] || FAILED+=("$dtype with $batch tiles at once differs from fewer")
        done
    done
}

ours() {
    local dtype batch steps
    : >"$OUT/upres.jsonl"
    for dtype in $DTYPES; do
        for batch in $BATCHES; do
            for steps in $STEPS; do
                worker --dtype "$dtype" --tile-batch "$batch" --timesteps "$(schedule "$steps")" --json \
                    >>"$OUT/upres.jsonl" 2>>"$OUT/upres.log" ||
                    FAILED+=("$dtype, $batch tiles, $steps steps, not timed: see $OUT/upres.log")
            done
        done
    done
}

pytorch() {
    : >"$OUT/pytorch.jsonl"
    if [[ ! -f ${UPRES_ORACLE:-}/oracle.py ]] || ! "$PYTHON" -c 'import torch, diffusers' 2>/dev/null; then
        say "skipped: PyTorch beside us; it needs UPRES_ORACLE, and $PYTHON with PyTorch and diffusers"
        return
    fi
    local mode
    for mode in eager compiled; do
        UPRES_ORACLE=$UPRES_ORACLE "$PYTHON" "$HERE/pytorch_gpu.py" --model "$MODEL" --mode "$mode" --dtype f16 \
            --batches "${BATCHES// /,}" --steps "${STEPS// /,}" \
            >>"$OUT/pytorch.jsonl" 2>>"$OUT/pytorch.log" || FAILED+=("PyTorch, $mode, not timed: see $OUT/pytorch.log")
    done
}

# table: what is compared is the four networks. Our whole run also cuts tiles, blends and fixes colours, which the
# other side does not do here.
table() {
    "$PYTHON" - "$OUT/upres.jsonl" "$OUT/pytorch.jsonl" <<'END'
import json, sys
stages = ["predictor", "vae_encode", "unet", "vae_decode"]
print(f"{'':24}{'tiles':>6}{'steps':>6}" + "".join(f"{s:>12}" for s in [*stages, "networks", "whole"])
      + f"{'tiles/s':>10}   ms a tile; tiles/s of the networks")
for path, name in zip(sys.argv[1:], ("upres", "PyTorch")):
    for line in open(path):
        row = json.loads(line)
        label = " ".join(filter(None, (name, row.get("mode"), row.get("dtype"))))
        head = f"{label:24}{row['tile_batch']:6}{len(row['timesteps']):6}"
        if "error" in row:
            print(head, row["error"])
            continue
        ms = row["median_ms"]
        networks = sum(ms[s] for s in stages)
        whole = f"{ms['total']:12.2f}" if name == "upres" else f"{'':12}"
        print(head + "".join(f"{ms[s]:12.2f}" for s in stages) + f"{networks:12.2f}{whole}{1e3 / networks:10.2f}")
END
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
esac
OUT=${1:-upres-gpu}
PYTHON=${UPRES_PYTHON:-python3} DEVICE=${DEVICE:-cuda:0} MODEL=${UPRES_MODEL:-$OUT/model}
BATCHES=${BATCHES:-1 4 8 16} STEPS=${STEPS:-1 3 5} DTYPES=${DTYPES:-bf16 f32}
FAILED=()
for steps in $STEPS; do schedule "$steps" >/dev/null; done
mkdir -p -- "$OUT"
find_libraries
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$OUT/card.txt" || true
[[ -f $MODEL/upres-model.json ]] || "$HERE/upres" models random --size full -o "$MODEL"
compare
same_bytes
ours
pytorch
table | tee "$OUT/table.txt"
((${#FAILED[@]} == 0)) || { say "error: $(IFS=';'; echo "${FAILED[*]}")"; exit 1; }
