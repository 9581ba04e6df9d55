"""The stages: `python train.py vae|unet|joint|detail|finish|tidy [--minutes M | --steps N]`.

Each begins from the averaged weights the one before it left in work/run/, and leaves its own there.
"""
import argparse
import copy
import os
import zlib
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F

import degrade
from data import ROOT
from losses import (Discriminator, blemishes, charbonnier, chroma_l1, feature_matching, gradient_l1, hinge, kl,
                    log_mse, luma_psnr, reduced_l1, texture as texture_of)
from loop import TORCH, Loop, average
from model import TRAINED, Upres, wavelet_fix
from pictures import Pictures, tuning_crops

ONE_STEP = [(200,), (200,), (200,), (250,), (150,), (100,)]
MORE_STEPS = [(200, 100), (250, 150, 50), (200, 100, 50), (200, 100, 50), (200, 150, 100, 50),
              (250, 200, 150, 100, 50), (250, 200, 150, 100, 50)]


def half():
    """bf16 where the processor has it, faster by half; elsewhere it is emulated, thirteen times slower than f32.
    Torch 1 has no group norm in it and stays with f32."""
    able = TORCH > 1 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=able)


@contextmanager
def fixed(*modules):
    """Passes gradients through `modules` without collecting any for their weights."""
    touched = [p for m in modules for p in m.parameters() if p.requires_grad]
    for p in touched:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in touched:
            p.requires_grad_(True)


def measure_upscaling(model, schedules):
    """Luma PSNR gained over bicubic on the held-out pictures, after the colour fix."""
    hr, clean, mild = tuning_crops()

    def after():
        torch.manual_seed(7)
        values = {}
        for kind, lr in (("clean", clean), ("mild", mild)):
            bicubic = F.interpolate(lr, scale_factor=4, mode="bicubic")
            base = luma_psnr(bicubic, hr).mean()
            for schedule in schedules:
                sr = wavelet_fix(model.upscale(lr, schedule) / 2 + 0.5, bicubic)
                name = f"{kind}_{'-'.join(map(str, schedule))}"
                values[name] = float(luma_psnr(sr, hr).mean() - base)
                if kind == "clean":
                    back = torch.stack([degrade.reduce(x) for x in sr.clamp(0, 1)])
                    values[f"{name}_consistency"] = float(-10 * torch.log10(((back - lr) ** 2).mean((1, 2, 3))).mean())
        return values
    return after


def vae(model, pictures, loop_for):
    """The autoencoder alone; some crops are soft, since inference encodes enlarged pictures."""
    loop = loop_for([{"params": model.vae.parameters(), "lr": 3e-4}])
    hr, _, _ = tuning_crops()

    def after():
        out = model.decode(model.encode(hr * 2 - 1, sample=False)) / 2 + 0.5
        return {"reconstruction": float(luma_psnr(out, hr).mean())}

    def step(loop):
        x = pictures.batch(loop.batch)
        for i in range(len(x)):
            if pictures.rng.random() < 0.3:
                x[i] = F.interpolate(degrade.clean(x[i])[None], scale_factor=4, mode="bicubic")[0].clamp(0, 1)
        x = x * 2 - 1
        with half():
            posterior = model.vae.encode(x).latent_dist
            out = model.vae.decode(posterior.sample()).sample
        out = out.float()
        pixels, edges = charbonnier(out, x), gradient_l1(out, x)
        loop.update(pixels + 0.5 * edges + 1e-5 * kl(posterior))
        return {"loss": pixels + 0.5 * edges, "pixels": pixels}

    loop.after = after
    loop.run(step)


@torch.no_grad()
def set_scaling(model):
    """Chooses the VAE's scaling factor so that latents have standard deviation one."""
    fresh = Pictures(0)  # the same crops in every process
    z = torch.cat([model.encode(fresh.batch(8) * 2 - 1, sample=False) for _ in range(8)])
    model.scaling.fill_(round(float(1 / (z - z.mean((0, 2, 3), keepdim=True)).std()), 4) * float(model.scaling))


def noise_loss(model, z, rng):
    """Error of the UNet's noise estimate at random timesteps; inference uses the first 300."""
    t = [int(rng.integers(0, 300)) if rng.random() < 0.85 else int(rng.integers(0, 1000)) for _ in range(len(z))]
    sigma = model.sigmas[t].view(-1, 1, 1, 1)
    noise = torch.randn_like(z)
    with half():
        estimate = model.epsilon(z + sigma * noise, torch.tensor(t), sigma)
    return F.mse_loss(estimate, noise)


@torch.no_grad()
def latents(model, hr):
    with half():
        return model.encode(hr * 2 - 1)


def unet(model, pictures, loop_for):
    """A denoiser of sharp pictures' latents, by noise prediction on the usual schedule.

    Latents are kept and used again, cut and mixed anew: encoding costs more than a denoising step.
    """
    set_scaling(model)
    loop = loop_for([{"params": [*model.unet.parameters(), model.prompt], "lr": 1e-3}])
    pool = []

    def step(loop):
        if loop.step % 3 == 0 or len(pool) < 16:
            pool.extend(latents(model, pictures.batch(16, 128)))
            del pool[:-2048]
        picked = pictures.rng.integers(0, len(pool), 16)
        loss = noise_loss(model, torch.stack([pool[i] for i in picked]), pictures.rng)
        loop.update(loss)
        return {"noise": loss}

    loop.run(step)


def joint(model, pictures, loop_for):
    """Predictor and decoder for PSNR; the UNet at a low rate, held to its trade by the noise loss."""
    together(model, pictures, loop_for, fidelity, rate=1.0)


def fidelity(out, fixed_out, target):
    """PSNR, colour, and of every second crop, which is clean, that reduced again it is what the model was shown.
    The logarithm's slope is some twenty times an L1's, hence the weights: with 0.5 and 1 these two hardly counted."""
    reduced = 8 * reduced_l1(fixed_out[::2], target[::2]) + 2 * reduced_l1(out[::2], target[::2])
    return log_mse(fixed_out, target).mean() + reduced + 5 * chroma_l1(out, target)


def finish_loss(out, fixed_out, target, care=4):
    """Degraded crops count twice, and reduced again they too must be what a clean input would have been: without
    noise. A clean one has less to gain by now."""
    psnr = log_mse(fixed_out, target)
    reduced = 5 * reduced_l1(fixed_out, target) + reduced_l1(out, target)
    return (psnr[::2].mean() / 2 + psnr[1::2].mean() + reduced + 5 * chroma_l1(out, target)
            + care * blemishes(out[::2], target[::2]))


def finish(model, pictures, loop_for, grey=0.35, rate=0.4, picture_loss=finish_loss):
    """Predictor and decoder through the frozen denoiser, in one step, and what a mean hardly sees, single pixels of
    flat and of grey places."""
    model.unet.requires_grad_(False)
    model.prompt.requires_grad_(False)
    pictures.grey = grey
    together(model, pictures, loop_for, picture_loss, rate=rate, several=0.0, denoiser=False)


def tidy(model, pictures, loop_for):
    """The same, with those pixels above all."""
    finish(model, pictures, loop_for, grey=0.5, rate=0.2, picture_loss=partial(finish_loss, care=16))


def together(model, pictures, loop_for, picture_loss, rate, several=0.1, denoiser=True):
    """`several`: the share of walks of more than one step. `denoiser`: trains UNet and prompt too.
    `picture_loss` sees the output before and after the colour fix, which decides what coarse errors count."""
    groups = [
        {"params": model.predictor.parameters(), "lr": rate * 8e-4},
        {"params": [*model.vae.decoder.parameters(), *model.vae.post_quant_conv.parameters()], "lr": rate * 4e-4}]
    if denoiser:
        groups.append({"params": [*model.unet.parameters(), model.prompt], "lr": rate * 3e-4})
    loop = loop_for(groups)

    def step(loop):
        hr, lr = pictures.pairs(loop.batch)
        choices = MORE_STEPS if pictures.rng.random() < several else ONE_STEP
        schedule = choices[pictures.rng.integers(len(choices))]
        with half():
            start, std = model.start(lr, schedule[0])
            out = model.decode(model.walk(start, schedule))
        target = hr * 2 - 1
        enlarged = F.interpolate(lr, scale_factor=4, mode="bicubic", antialias=True) * 2 - 1
        loss, noise = picture_loss(out, wavelet_fix(out, enlarged), target), None
        if denoiser and loop.step % 8 == 0:
            noise = noise_loss(model, latents(model, hr), pictures.rng)
            loss = loss + 0.1 * noise
        loop.update(loss)
        with torch.no_grad():
            pixels, reduced, chroma = (f(out, target) for f in (charbonnier, reduced_l1, chroma_l1))
        return {"loss": loss, "pixels": pixels, "reduced": reduced, "chroma": chroma, "std": std.mean(),
                "noise": 0.0 if noise is None else 8 * noise}

    loop.after = measure_upscaling(model, [(200,)] if denoiser else [(200,), (200, 100, 50)])
    loop.run(step)


def detail(model, pictures, loop_for, adversarial=0.03, texture=2.0):
    """Teaches the later steps of a walk to add detail. The UNet alone changes; where a walk starts it
    must say what it said before, so that one step stays what it was. It is held to that
    ever tighter: free at first to learn detail, then made to tell the steps apart."""
    before, prompt = copy.deepcopy(model.unet).requires_grad_(False), model.prompt.detach().clone()
    critic = Discriminator()
    judge = torch.optim.AdamW(critic.parameters(), lr=4e-4, betas=(0.5, 0.99), weight_decay=0)
    loop = loop_for([{"params": [*model.unet.parameters(), model.prompt], "lr": 1.2e-3}])
    loop.extra = {"critic": critic}

    def step(loop):
        hr, lr = pictures.pairs(loop.batch)
        schedule = MORE_STEPS[pictures.rng.integers(len(MORE_STEPS))]
        target = hr * 2 - 1
        share = (len(schedule) - 1) / 4  # of the detail that a single step leaves out
        learning = min(len(schedule) - 1, 3)
        with torch.no_grad(), half():
            start, _ = model.start(lr, schedule[0])
            plain = model.decode(model.walk(start, schedule[:1]))
            z = model.walk(start, schedule[:-learning], until=schedule[-learning])
        with fixed(model.vae), half():
            out = model.decode(model.walk(z, schedule[-learning:]))
        low, tint = reduced_l1(out, target), chroma_l1(out, target)
        wanted = (1 - share) * texture_of(plain) + share * texture_of(target)
        pixels, fine = charbonnier(out, target), (texture_of(out) - wanted).abs().mean()
        moved, disputed = changed(lr), 0.0
        loss = 0.7 * pixels + low + tint + 2 * texture * fine + 10 ** (2 * loop.progress()) * moved
        if adversarial:
            disputed, verdict = dispute(target, out)
            loss = loss + adversarial * share * min(1.0, loop.step / 100) * verdict
        loop.update(loss)
        return {"pixels": pixels, "texture": fine, "moved": moved, "critic": disputed}

    def changed(lr):
        """How far the first step of a walk, which may be its only one, is from what it was."""
        first = int(pictures.rng.choice(TRAINED))
        sigma = model.sigmas[first - 1]
        with torch.no_grad(), half():
            start, _ = model.start(lr, first)
            kept = before(start / (sigma ** 2 + 1) ** 0.5, first - 1, prompt.expand(len(lr), -1, -1)).sample
        with half():
            return F.mse_loss(model.epsilon(start, first - 1, sigma), kept.float())

    def dispute(target, out):
        """Trains the critic; returns its loss and what it holds against `out`."""
        with half():
            real, real_features = critic(target)
            fake, _ = critic(out.detach())
        disputed = hinge(real, fake)
        judge.zero_grad(set_to_none=True)
        disputed.backward()
        average(critic.parameters())
        judge.step()
        with fixed(critic), half():
            fake, features = critic(out)
        return disputed, 7 * feature_matching(features, real_features) - fake.mean()

    loop.after = measure_upscaling(model, [(200,), (200, 100, 50), (250, 200, 150, 100, 50)])
    loop.run(step)


# name: (function, stage it starts from, default minutes)
STAGES = {"vae": (vae, None, 20), "unet": (unet, "vae", 15), "joint": (joint, "unet", 75),
          "detail": (detail, "joint", 10), "finish": (finish, "detail", 40), "tidy": (tidy, "finish", 10)}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("stage", choices=STAGES)
    ap.add_argument("--minutes", type=float)
    ap.add_argument("--steps", type=int)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--ranks", type=int, default=2, help="processes of one thread each that train together")
    ap.add_argument("--batch", type=int, default=4, help="crops a step and process")
    ap.add_argument("--run", default="run", help="folder under work/")
    ap.add_argument("--adversarial", type=float, default=0.03, help="weight in the detail stage; 0 leaves the critic out")
    ap.add_argument("--texture", type=float, default=2.0, help="weight in the detail stage")
    ap.add_argument("--decay", type=float, default=0.998, help="of the averaged weights")
    args = ap.parse_args()
    if args.batch < 2 or args.batch % 2:
        ap.error("--batch must be even: half of the crops are clean, half degraded")
    if (ROOT / "work" / args.run / f"{args.stage}.pt").exists():
        print(f"{args.stage}: done already (work/{args.run}/{args.stage}.pt)")
    elif args.ranks > 1:
        torch.multiprocessing.spawn(work, (args,), nprocs=args.ranks)
    else:
        work(0, args)


def work(rank, args):
    """One training process. Two of one thread beat one of two threads, and bear a busy machine."""
    torch.set_num_threads(1)
    stage, before, minutes = STAGES[args.stage]
    folder = ROOT / "work" / args.run
    folder.mkdir(parents=True, exist_ok=True)
    if args.ranks > 1:
        meeting = folder / f"{args.stage}.meeting-{os.getppid()}"
        torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=args.ranks)
    seed = args.seed + zlib.crc32(args.stage.encode()) % 1000
    torch.manual_seed(seed)
    model = Upres()
    if before:
        model.load_state_dict(torch.load(folder / f"{before}.pt", weights_only=True))
    torch.manual_seed(seed + 1000 * rank)
    model.to(memory_format=torch.channels_last)  # a tenth faster
    model.vae.encoder.requires_grad_(args.stage == "vae")
    model.vae.quant_conv.requires_grad_(args.stage == "vae")

    def loop_for(groups):
        length = {"steps": args.steps} if args.steps else {"minutes": args.minutes or minutes}
        loop = Loop(args.stage, folder, model, groups, decay=args.decay, frozen=model.frozen, **length)
        loop.batch = args.batch
        return loop
    weights = {"adversarial": args.adversarial, "texture": args.texture} if args.stage == "detail" else {}
    stage(model, Pictures(seed + 1000 * rank), loop_for, **weights)


if __name__ == "__main__":
    main()
