#!/usr/bin/env python3
"""PyTorch's side of bench.sh: the same networks in one process, milliseconds a tile and stage.

    UPRES_ORACLE=DIR pytorch_gpu.py --model DIR --mode eager|compiled --dtype f16 [--batches 1,4] [--steps 1,3]

DIR of UPRES_ORACLE holds `oracle.py`: the diffusers networks and the noise predictor. `eager` in `f16` is how
the official program runs (but that its predictor keeps weights of f32), `compiled` is torch.compile of each network. One JSON object a line, as
`upres-worker bench --json` names its stages; the middle of so many rounds after one that is not measured.
"""
import argparse
import json
import os
import statistics
import sys
import time

import torch

sys.path.insert(0, os.environ["UPRES_ORACLE"])
import oracle  # noqa: E402

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


class Networks:
    """The networks of a model folder on a device, each a function of a batch."""

    def __init__(self, folder, device, dtype, compiled):
        # What oracle.py makes on the way (frequencies, angles) is to be on the device too.
        torch.set_default_device(device)
        models = oracle.Models(folder)
        self.device, self.dtype, self.sigmas = device, dtype, models.sigma_table
        self.scaling = models.vae.config.scaling_factor
        self.prompt = models.embed(oracle.PROMPTS[0])[0].to(device, dtype)
        self.vae, self.unet, self.predictor = (
            network.to(device, dtype) for network in (models.vae, models.unet, models.predictor))
        wrap = torch.compile if compiled else lambda function: function
        self.predict = wrap(lambda tiles, t: self.predictor(tiles, t))
        self.encode = wrap(lambda image: self.vae.encode(image).latent_dist.mean)
        self.denoise = wrap(lambda latent, t, prompt: self.unet(latent, t, prompt).sample)
        self.decode = wrap(lambda latent: self.vae.decode(latent).sample)

    def wait(self):
        if self.device != "cpu":
            torch.cuda.synchronize()

    @torch.no_grad()
    def round(self, tiles, timesteps):
        """Seconds by stage of one batch, from pixels to pixels."""
        took = {}

        def clock(stage, work):
            self.wait()
            started = time.perf_counter()
            result = work()
            self.wait()
            took[stage] = took.get(stage, 0.0) + time.perf_counter() - started
            return result

        prompt = self.prompt.expand(len(tiles), -1, -1)
        sigmas = [float(self.sigmas[t - 1]) for t in timesteps] + [0.0]
        mean, deviation = clock("predictor", lambda: self.predict(tiles, timesteps[0] - 1))
        noise = mean + deviation * torch.randn_like(mean)
        large = torch.nn.functional.interpolate(tiles.float(), scale_factor=4, mode="bicubic").to(self.dtype)
        latent = clock("vae_encode", lambda: self.encode(large * 2 - 1)) * self.scaling + sigmas[0] * noise
        for step, t in enumerate(timesteps):
            scaled = latent / (sigmas[step] ** 2 + 1) ** 0.5
            at = torch.tensor(t - 1)
            latent = latent + (sigmas[step + 1] - sigmas[step]) * clock("unet", lambda: self.denoise(scaled, at, prompt))
        clock("vae_decode", lambda: self.decode(latent / self.scaling))
        return took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--mode", choices=["eager", "compiled"], required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="f16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--batches", default="1,4,8,16")
    parser.add_argument("--steps", default="1,3,5")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    networks = Networks(args.model, args.device, DTYPES[args.dtype], args.mode == "compiled")
    for batch in map(int, args.batches.split(",")):
        tiles = torch.rand((batch, 3, args.tile, args.tile)).to(networks.dtype)
        for steps in map(int, args.steps.split(",")):
            timesteps = oracle.default_timesteps(steps)
            try:
                networks.round(tiles, timesteps)
                rounds = [networks.round(tiles, timesteps) for _ in range(args.rounds)]
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                print(json.dumps({"tile_batch": batch, "timesteps": timesteps, "error": "out of memory"}), flush=True)
                continue
            stages = {stage: statistics.median(1e3 * each[stage] / batch for each in rounds) for stage in rounds[0]}
            stages["total"] = statistics.median(1e3 * sum(each.values()) / batch for each in rounds)
            print(json.dumps({"device": args.device, "dtype": args.dtype, "mode": args.mode, "tile_px": args.tile,
                              "tile_batch": batch, "timesteps": timesteps, "median_ms": stages}), flush=True)


if __name__ == "__main__":
    main()
