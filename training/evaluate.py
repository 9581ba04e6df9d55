"""Measures an exported model folder: the tables of the model card.

    python evaluate.py ../models/upres-tiny TRUTH_FOLDER --schedules 200 200-100-50 --fix --pictures OUT

Each truth is reduced to a quarter (clean: bicubic; mild: blur 1, noise 5/255, JPEG 60), upscaled, compared.
Runs the whole pipeline in f32 from the f16 weights: tiles of 128, Gaussian blending, seeded noise.
"""
import argparse
import csv
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

import degrade
import metrics
from export import WEIGHTS
from model import Upres, wavelet_fix

TILE = 128


def load_model(folder):
    scaling = json.loads((folder / "vae" / "config.json").read_text())["scaling_factor"]
    model = Upres(scaling)
    for name, network in (("vae", model.vae), ("unet", model.unet), ("noise_predictor", model.predictor)):
        network.load_state_dict({k: v.float() for k, v in load_file(folder / name / WEIGHTS).items()})
    model.prompt.data = load_file(folder / "prompt_embeds.safetensors")["positive"]
    return model.eval()


def read_image(path):
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255


def write_image(path, x):
    Image.fromarray((x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


def origins(length):
    return list(dict.fromkeys(min(s, length - TILE) for s in range(0, length, TILE // 2)))


@torch.no_grad()
def upscale(model, lr, schedule, seed=12345):
    """lr: [3, h, w] in [0, 1], both sides at least a tile long, to [3, 4h, 4w], clamped."""
    torch.manual_seed(seed)
    h, w = lr.shape[1:]
    x = F.pad(lr[None], (0, -w % 4, 0, -h % 4), mode="reflect")
    at = (torch.arange(4 * TILE) - (2 * TILE - 1)) / (0.3 * ((4 * TILE - 1) * 0.5 - 1) + 0.8)
    weight = torch.exp(-0.5 * at.double() ** 2)
    weight = weight[:, None] * weight
    total, blended = 0, torch.zeros(3, 4 * x.shape[2], 4 * x.shape[3], dtype=torch.float64)
    total = torch.zeros_like(blended[:1])
    for i in origins(x.shape[2]):
        for j in origins(x.shape[3]):
            tile = model.upscale(x[..., i:i + TILE, j:j + TILE], schedule)[0]
            area = (slice(None), slice(4 * i, 4 * (i + TILE)), slice(4 * j, 4 * (j + TILE)))
            blended[area] += (tile / 2 + 0.5).clamp(0, 1) * weight
            total[area] += weight
    return (blended / total)[:, :4 * h, :4 * w].float()


def colour_fixed(sr, lr):
    return wavelet_fix(sr[None], F.interpolate(lr[None], scale_factor=4, mode="bicubic", antialias=True))[0].clamp(0, 1)


def measure(sr, hr, lr):
    return {"psnr": metrics.psnr(sr, hr), "ssim": metrics.ssim(sr, hr), "niqe": metrics.niqe(sr),
            "consistency": metrics.consistency(sr, lr)}


def candidates(model, lr, args):
    """Name and picture of each row of the table."""
    yield "bicubic", F.interpolate(lr[None], scale_factor=4, mode="bicubic")[0].clamp(0, 1)
    for name in args.schedules:
        sr = upscale(model, lr, tuple(int(t) for t in name.split("-")))
        yield name, sr
        if args.fix:
            yield f"{name} wavelet", colour_fixed(sr, lr)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", type=Path)
    ap.add_argument("truth", type=Path)
    ap.add_argument("--schedules", nargs="+", default=["200"])
    ap.add_argument("--fix", action="store_true", help="also with the wavelet colour fix")
    ap.add_argument("--pictures", type=Path, help="write the upscaled pictures here")
    ap.add_argument("--csv", type=Path)
    args = ap.parse_args()
    torch.set_num_threads(1)
    model = load_model(args.model)
    rows = []
    for path in sorted(args.truth.glob("*.png")):
        hr = read_image(path)
        hr = hr[:, :hr.shape[1] // 64 * 64, :hr.shape[2] // 64 * 64]
        for kind, lr in (("clean", degrade.clean(hr)), ("mild", degrade.mild(hr))):
            if min(lr.shape[1:]) < TILE:  # one side shorter than a tile: mirrored, as inference does
                lr_in = F.pad(lr[None], (0, max(0, TILE - lr.shape[2]), 0, max(0, TILE - lr.shape[1])), mode="reflect")[0]
            else:
                lr_in = lr
            for name, sr in candidates(model, lr_in, args):
                sr = sr[:, :hr.shape[1], :hr.shape[2]]
                rows.append({"picture": path.stem, "input": kind, "how": name,
                             **{k: round(v, 3) for k, v in measure(sr, hr, lr).items()}})
                print(*rows[-1].values(), sep="\t", flush=True)
                if args.pictures:
                    args.pictures.mkdir(parents=True, exist_ok=True)
                    write_image(args.pictures / f"{path.stem}_{kind}_{name.replace(' ', '_')}.png", sr)
    for kind in ("clean", "mild"):
        for name in dict.fromkeys(r["how"] for r in rows):
            chosen = [r for r in rows if r["input"] == kind and r["how"] == name]
            print("mean", kind, name, *(round(float(np.mean([r[k] for r in chosen])), 3)
                                        for k in ("psnr", "ssim", "niqe", "consistency")), sep="\t")
    if args.csv:
        with args.csv.open("w", newline="") as f:
            out = csv.DictWriter(f, rows[0])
            out.writeheader()
            out.writerows(rows)


if __name__ == "__main__":
    main()
