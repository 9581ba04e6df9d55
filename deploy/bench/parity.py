#!/usr/bin/env python3
"""Full-size networks here and in PyTorch: is every tensor between the stages the same?

    UPRES_ORACLE=DIR parity.py UPRES MODEL OUT

UPRES is the program, DIR holds `oracle.py`, a plain reference implementation on diffusers' networks,
and MODEL is a folder of random full-size weights; OUT takes what both sides write. Each case runs the
reference, then UPRES with the reference's noise, and compares every tensor:

    max  the largest |ours - theirs| over the largest |theirs|
    rms  the same with root mean squares

The text tower, of random weights too, runs once for a model, at import: `upres models import` of a folder
that has it, and the prompts that it stored beside those of transformers' tower and tokenizer.

Status 1 when one is not under the limit. Also says what either process took, from its start to its
end, and how much of that was not spent in the networks: imports, reading weights, writing results.
"""
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

LIMIT = 1e-3
NETWORKS = ("predictor", "vae_encode", "unet", "vae_decode")
WEIGHTS = "diffusion_pytorch_model.safetensors"
# name: width, height, tile, timesteps, guidance, whether SD-2.0-base's files
CASES = {
    "SD-Turbo, one tile of 128 px, one step": (128, 128, 128, [200], 1.0, False),
    "SD-Turbo, two tiles of 64 px, two steps, guidance 3": (80, 50, 64, [200, 100], 3.0, False),
    "SD-2.0-base, one tile of 64 px, one step": (64, 64, 64, [200], 1.0, True),
}


def picture(path, width, height):
    """Soft waves with grain and an edge."""
    y, x, channel = np.mgrid[:height, :width, :3]
    waves = 128 + 60 * np.sin(x / 9 + channel) + 50 * np.cos(y / 13 - channel)
    waves[(2 * x + y) > width] *= 0.6
    grain = np.random.default_rng(0).normal(0, 6, waves.shape)
    Image.fromarray(np.clip(waves + grain, 0, 255).astype(np.uint8)).save(path)


def as_sd2_base(model, folder):
    """The same networks in SD-2.0-base's files: the VAE's attention goes by its older names, the
    scheduler is not Euler, the scaling factor is left to its default."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder, copy_function=os.link)

    def change(name, edit):
        config = json.loads((folder / name).read_text())
        edit(config)
        (folder / name).unlink()
        (folder / name).write_text(json.dumps(config))

    change("scheduler/scheduler_config.json",
           lambda c: (c.update(_class_name="PNDMScheduler", skip_prk_steps=True), c.pop("timestep_spacing")))
    change("vae/config.json", lambda c: (c.update(sample_size=512), c.pop("scaling_factor")))
    change("model_index.json", lambda c: c.update(scheduler=["diffusers", "PNDMScheduler"]))
    (folder / "upres-model.json").unlink()
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, tensor in load_file(folder / "vae" / WEIGHTS).items():
        for new, old in older.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        tensors[name] = tensor
    (folder / "vae" / WEIGHTS).unlink()
    save_file(tensors, folder / "vae" / WEIGHTS)
    return folder


def warm(model):
    """Reads every file once, or the side that goes first would pay for the disk."""
    for path in model.rglob("*.safetensors"):
        with open(path, "rb") as source, open(os.devnull, "wb") as nowhere:
            shutil.copyfileobj(source, nowhere, 1 << 20)


def run(command, log):
    """Runs a process; returns what it took, and the JSON that it printed. Its memory is the kernel's own record."""
    started = time.perf_counter()
    with open(log, "w", encoding="utf-8") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"error: {command[0]} failed, see {log}")
    took = {"wall_s": time.perf_counter() - started, "cpu_s": used.ru_utime + used.ru_stime,
            "peak_gib": used.ru_maxrss / 2**20}
    said = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    return took, json.loads(said[-1])


def both(upres, model, case, out):
    """Runs one case on either side."""
    width, height, tile, timesteps, guidance, _ = case
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    image, reference = out / "in.png", out / "pytorch"
    picture(image, width, height)
    warm(model)
    theirs, said = run([sys.executable, Path(os.environ["UPRES_ORACLE"]) / "oracle.py", model, image, reference,
                       "--tile", tile, "--timesteps", *timesteps, "--cfg-scale", guidance,
                       "--color-fix", "wavelet", "--fix-reference", "original"], out / "pytorch.log")
    theirs["start_s"] = theirs["wall_s"] - sum(said["wall_s"][network] for network in NETWORKS)
    ours, said = run([upres, "upscale", image, "-o", out / "out.png", "--model", model, "--tile", tile, "--exact",
                     "--timesteps", ",".join(map(str, timesteps)), "--guidance", guidance, "--device", "cpu",
                     "--dtype", "f32", "--noise", reference / "noise.safetensors", "--dump", out / "upres", "--json"], out / "upres.log")
    ours["start_s"] = ours["wall_s"] - sum(said["timings_ms"][network] for network in NETWORKS) / 1e3
    return ours, theirs


def errors(out):
    """(name, max, rms) of every tensor of the reference; one that is missing here or of another shape is infinitely off."""
    for path in sorted((out / "pytorch").glob("*.npy"), key=lambda path: path.stat().st_mtime_ns):
        if path.stem == "prompt_ids":   # of its tokenizer
            continue
        theirs, ours = np.load(path), out / "upres" / path.name
        ours = np.load(ours) if ours.exists() else None
        if ours is None or ours.shape != theirs.shape:
            yield path.stem, np.inf, np.inf
        else:
            yield path.stem, *apart(ours, theirs)


def write_text_tower(base):
    """Tokenizer and text tower in the shapes of the release, random; returns the tower and the tokenizer's reading of a prompt."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
    sys.path.insert(0, os.environ["UPRES_ORACLE"])
    from make_model import randomise, sizes, write_tokenizer

    shape = sizes("full")[2]
    write_tokenizer(base / "tokenizer", None, shape["vocab_size"])
    tower = CLIPTextModel(CLIPTextConfig(**shape)).eval()
    randomise(tower, "text_encoder", seed=1)
    tower.save_pretrained(base / "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")

    @torch.no_grad()
    def encode(prompt):
        ids = tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        return tower(ids)[0].numpy()
    return encode


def text_tower(upres, model, out):
    """(name, max, rms) of the prompts that an import of SD-Turbo's files stores."""
    base, imported = out / "base", out / "imported"
    for folder in (base, imported):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, base, copy_function=os.link, ignore=shutil.ignore_patterns("upres-model.json", "prompt_embeds*"))
    encode = write_text_tower(base)
    predictor = base / "noise_predictor" / WEIGHTS
    command = [upres, "models", "import", "--base", base, "--noise-predictor", predictor, "-o", imported, "--licence", "none"]
    with open(out / "import.log", "w", encoding="utf-8") as log:
        if subprocess.run(command, stdout=log, stderr=log).returncode:
            sys.exit(f"error: the import failed, see {log.name}")
    prompts = json.loads((imported / "upres-model.json").read_text())["prompts"]
    stored = load_file(imported / "prompt_embeds.safetensors")
    rows = [(f"{name} prompt", *apart(stored[name], encode(prompts[name]))) for name in ("positive", "negative")]
    for folder in (base, imported):
        shutil.rmtree(folder)
    return rows


def apart(ours, theirs):
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    return abs(ours - theirs).max() / abs(theirs).max(), np.sqrt(((ours - theirs) ** 2).mean() / (theirs**2).mean())


def judge(name, rows, failed):
    """Prints a table of errors; what is too far goes to `failed`."""
    print(f"\n{name}\n{'':16}{'max':>10}{'rms':>10}")
    for stage, largest, rms in rows:
        good = largest < LIMIT and rms < LIMIT   # false for what is not a number
        print(f"{stage:16}{largest:10.1e}{rms:10.1e}{'' if good else '  TOO FAR'}", flush=True)
        if not good:
            failed.append(f"{stage} of {name}")
    return {"errors": {s: {"max": m, "rms": r} for s, m, r in rows}}


def main():
    upres, model, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    results, failed = {}, []
    out.mkdir(parents=True, exist_ok=True)
    tower = "Text tower"
    results[tower] = judge(tower, text_tower(upres, model, out), failed)
    for number, (name, case) in enumerate(CASES.items(), 1):
        folder = out / str(number)
        ours, theirs = both(upres, as_sd2_base(model, out / "sd2-base") if case[-1] else model, case, folder)
        measured = judge(name, list(errors(folder)), failed)
        print(f"{'':16}{'upres':>10}{'PyTorch':>10}{'ratio':>8}")
        for key, label in (("wall_s", "whole, s"), ("start_s", "but networks, s"), ("cpu_s", "processor, s"),
                           ("peak_gib", "memory, GiB")):
            print(f"{label:16}{ours[key]:10.2f}{theirs[key]:10.2f}{ours[key] / theirs[key]:8.2f}", flush=True)
        results[name] = {"upres": ours, "pytorch": theirs, **measured}
    shutil.rmtree(out / "sd2-base", ignore_errors=True)
    (out / "parity.json").write_text(json.dumps(results, indent=2) + "\n")
    if failed or not all(result["errors"] for result in results.values()):
        sys.exit(f"error: not within {LIMIT}: {', '.join(failed) or 'nothing was compared'}")


if __name__ == "__main__":
    main()
