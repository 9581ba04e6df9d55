"""Writes the trained networks as a model folder: diffusers layout, f16 weights, digests.

    python export.py --stage tidy --out ../models/upres-tiny
"""
import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from data import ROOT
from model import PREDICTOR, SCHEDULER, UNET, VAE, Upres

NAME, VERSION = "upres-tiny", "3"
WEIGHTS = "diffusion_pytorch_model.fp16.safetensors"
SCHEDULES = [[200], [200, 100, 50], [250, 200, 150, 100, 50]]  # the default first


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_weights(path, state):
    """Stores f16; a value that f16 cannot hold is an error."""
    half = {k: v.detach().to(torch.float16).contiguous() for k, v in state.items()}
    for k, v in half.items():
        assert torch.isfinite(v).all(), f"{path.parent.name}: {k} does not fit f16"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, str(path), metadata={"format": "pt"})


def export(model, out, recommended):
    scaling = round(float(model.scaling), 6)
    parts = {"vae": (model.vae, {"_class_name": "AutoencoderKL", **VAE, "scaling_factor": scaling}),
             "unet": (model.unet, {"_class_name": "UNet2DConditionModel", **UNET}),
             "noise_predictor": (model.predictor, {"_class_name": "NoisePredictor", **PREDICTOR})}
    for name, (network, config) in parts.items():
        write_json(out / name / "config.json", config)
        write_weights(out / name / WEIGHTS, network.state_dict())
    write_json(out / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(out / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]})
    save_file({"positive": model.prompt.detach().to(torch.float16).float().contiguous()},
              str(out / "prompt_embeds.safetensors"))
    files = sorted(p for p in out.rglob("*") if p.suffix in (".json", ".safetensors") and p.name != "upres-model.json")
    write_json(out / "upres-model.json", {
        "name": NAME, "version": VERSION, "trained": True, "licence": "MIT OR Apache-2.0",
        "source": "made by this project: training/",
        "recommended_schedules": recommended,
        "files": {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}})


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--stage", default="tidy")
    ap.add_argument("--run", default="run")
    ap.add_argument("--out", type=Path, default=ROOT.parent / "models" / NAME)
    args = ap.parse_args()
    model = Upres()
    model.load_state_dict(torch.load(ROOT / "work" / args.run / f"{args.stage}.pt", weights_only=True))
    export(model, args.out, SCHEDULES)
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    print(f"{args.out.name}: {size / 1e6:.2f} MB, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
