"""The whole recipe in miniature: generated pictures only, a few steps of every stage, one core.

Each stage but the last must lower what it is for (errors in pixels or noise; detail: texture) on a fixed batch, and the exported folder must load and upscale.
"""
import argparse
import os
import shutil
import tempfile
from pathlib import Path

STEPS = {"vae": 40, "unet": 16, "joint": 60, "detail": 24, "finish": 60, "tidy": 12}
CROPS = 2


def run(folder):
    os.environ["UPRES_TRAINING_DATA"] = str(folder / "data")
    import numpy as np
    import torch

    import data
    import train
    from evaluate import load_model
    from export import SCHEDULES, export
    from losses import charbonnier, texture
    from model import Upres, wavelet_fix
    from pictures import Pictures

    data.prepare_made(2)
    hr, lr = Pictures(99).pairs(4)
    enlarged = torch.nn.functional.interpolate(lr, scale_factor=4, mode="bicubic")

    @torch.no_grad()
    def loss(stage, model):
        torch.manual_seed(5)
        if stage == "vae":
            return charbonnier(model.decode(model.encode(hr * 2 - 1, sample=False)), hr * 2 - 1)
        if stage == "unet":
            return train.noise_loss(model, train.latents(model, hr), np.random.default_rng(5))
        if stage == "joint":
            return charbonnier(model.upscale(lr), hr * 2 - 1)
        if stage in ("finish", "tidy"):
            out = model.upscale(lr)
            care = {"finish": 4, "tidy": 16}[stage]
            return train.finish_loss(out, wavelet_fix(out, enlarged * 2 - 1), hr * 2 - 1, care)
        return (texture(model.upscale(lr, (200, 100, 50))) - texture(hr * 2 - 1)).abs().mean()

    torch.manual_seed(0)
    model = Upres()
    for stage, steps in STEPS.items():
        train.work(0, argparse.Namespace(stage=stage, steps=steps, minutes=None, seed=1, ranks=1, batch=CROPS, decay=0.9,
                                         adversarial=0.03, texture=1.0,
                                         run=os.path.relpath(folder, data.ROOT / "work")))
        if stage == "unet":
            train.set_scaling(model)
        before = loss(stage, model)
        model.load_state_dict(torch.load(folder / f"{stage}.pt", weights_only=True))
        after = loss(stage, model)
        print(f"{stage}: {before:.6f} -> {after:.6f}", flush=True)
        assert torch.isfinite(after), f"{stage}: loss is not finite"
        # Tidy minimises the worst few pixels, which so few steps move either way; it is finish with other weights.
        assert stage == "tidy" or after < before, f"{stage}: the loss did not fall"
    export(model, folder / "model", SCHEDULES)
    with torch.no_grad():
        out = load_model(folder / "model").upscale(lr[:1, :, :16, :16], (200, 100, 50))
    assert out.shape == (1, 3, 64, 64) and torch.isfinite(out).all()
    print("smoke: the losses fell (tidy's is not asked to); the exported model loads and upscales")


def main():
    folder = Path(tempfile.mkdtemp(prefix="upres-training-smoke-"))
    try:
        run(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
