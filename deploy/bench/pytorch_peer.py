#!/usr/bin/env python3
"""PyTorch's side of `upres-bench engine`: one tile through a plain reference implementation.

    UPRES_ORACLE=DIR pytorch_peer.py --model DIR --timesteps 200,100 --rounds 5 --threads 2

DIR holds `oracle.py`: the diffusers networks and the noise predictor, run in the order of the paper.
Answers every line on standard input with a JSON object of milliseconds by stage, as
`upres-worker bench --json` prints it: so many rounds, after one that is not measured.
"""
import argparse
import json
import os
import sys
import time

import torch

sys.path.insert(0, os.environ["UPRES_ORACLE"])
import oracle  # noqa: E402

TILE_PX = 128


def one_round(models, tile, timesteps):
    """Milliseconds by stage of one run; the colour fix is timed where the reference calls it."""
    clock = oracle.Clock()
    fix = oracle.FIXES["wavelet"]
    oracle.FIXES["wavelet"] = lambda image, reference: clock("color_fix", lambda: fix(image, reference))
    started = time.perf_counter()
    try:
        oracle.run(models, tile, timesteps, tile=TILE_PX, batch=1, fix="wavelet", clock=clock)
    finally:
        oracle.FIXES["wavelet"] = fix
    total = time.perf_counter() - started
    return {stage: 1e3 * wall for stage, wall in {**clock.wall, "total": total}.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--timesteps", default="200")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    models = oracle.Models(args.model)
    timesteps = [int(step) for step in args.timesteps.split(",")]
    tile = torch.rand((1, 3, TILE_PX, TILE_PX), generator=torch.Generator().manual_seed(0))
    for _ in sys.stdin:
        one_round(models, tile, timesteps)
        rounds = [one_round(models, tile, timesteps) for _ in range(args.rounds)]
        print(json.dumps({"rounds_ms": {stage: [each[stage] for each in rounds] for stage in rounds[0]}}), flush=True)


if __name__ == "__main__":
    main()
