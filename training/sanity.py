"""Checks an exported model on inputs where anybody can see what is right.

    python sanity.py ../models/upres-tiny PICTURE.png

Flat fields stay flat and keep their level, grey stays grey, colours keep their mean, nothing is NaN,
overlapping tiles agree, and there is no 4-px grid. PICTURE is reduced to a quarter first.
"""
import argparse
from pathlib import Path

import torch

import degrade
from evaluate import TILE, load_model, read_image, upscale

SCHEDULES = [(200,), (200, 100, 50), (250, 200, 150, 100, 50)]


def flat(model, schedule):
    """Largest deviation, in levels, of flat fields from their level (after the clamp)."""
    worst = {}
    for level in (0, 1, 64, 128, 200, 255):
        out = upscale(model, torch.full((3, TILE, TILE), level / 255), schedule) * 255
        assert torch.isfinite(out).all()
        worst[level] = round(float((out - level).abs().max()), 2)
    return worst


def grid(x):
    """How much the differences across every fourth column or row exceed the others: 1 is none."""
    ratios = []
    for axis in (1, 2):
        d = x.diff(dim=axis).abs().mean(0).mean(2 - axis)
        sums = [float(d[k::4].mean()) for k in range(4)]
        ratios.append(max(sums) / (sum(sums) / 4))
    return round(max(ratios), 3)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", type=Path)
    ap.add_argument("picture", type=Path)
    args = ap.parse_args()
    torch.set_num_threads(1)
    model, hr = load_model(args.model), read_image(args.picture)
    lr = degrade.clean(hr[:, :hr.shape[1] // 4 * 4, :hr.shape[2] // 4 * 4])[:, :160, :160]
    first = lr[:, :TILE, :TILE]
    for schedule in SCHEDULES:
        print(schedule)
        print("  flat fields, largest deviation by level:", flat(model, schedule))
        grey = upscale(model, first.mean(0, keepdim=True).expand(3, -1, -1), schedule) * 255
        spread = grey.amax(0) - grey.amin(0)
        print(f"  grey: largest spread of channels {spread.max():.2f}, mean {spread.mean():.2f} levels")
        out = upscale(model, first, schedule)
        drift = ((out.mean((1, 2)) - first.mean((1, 2))) / first.mean((1, 2)) * 100).tolist()
        print("  mean colour against the input, percent:", [round(d, 2) for d in drift])
        print(f"  4-px grid ratio {grid(out)} (truth {grid(hr[:, :4 * TILE, :4 * TILE])})")
        if min(lr.shape[1:]) >= TILE + 16:
            a, b = (model_tile(model, lr[:, :, s:s + TILE], schedule) for s in (0, 16))
            apart = (a[:, :, 64 + 64:-64] - b[:, :, 64:-64 - 64]).abs() * 255
            print(f"  overlapping tiles differ by {apart.mean():.2f} levels on average")


@torch.no_grad()
def model_tile(model, lr, schedule):
    torch.manual_seed(3)
    return (model.upscale(lr[None, :, :TILE], schedule)[0] / 2 + 0.5).clamp(0, 1)


if __name__ == "__main__":
    main()
