"""The loop all stages share: warm-up, cosine by progress, clipping, EMA, curves, checkpoints, resuming."""
import csv
import math
import os
import time
from pathlib import Path

import torch
import torch.distributed as ranks

WARM_UP = 50
TORCH = int(torch.__version__.split(".")[0])


def first():
    return not ranks.is_initialized() or ranks.get_rank() == 0


def average(parameters):
    """Averages gradients over the processes that train together."""
    grads = [p.grad for p in parameters if p.grad is not None]
    if not ranks.is_initialized():
        return
    flat = torch.cat([g.flatten() for g in grads])
    ranks.all_reduce(flat)
    for g, mean in zip(grads, (flat / ranks.get_world_size()).split([g.numel() for g in grads])):
        g.copy_(mean.view_as(g))


def agree(seconds):
    """The first process's clock, so that all stop at the same step."""
    if ranks.is_initialized():
        clock = torch.tensor(seconds, dtype=torch.float64)
        ranks.broadcast(clock, 0)
        return float(clock)
    return seconds


class Loop:
    """Runs `step(self) -> dict of losses` until the minutes (or steps) of the stage are used.

    `groups`: AdamW groups {"params", "lr"}. `averaged`: the module whose EMA is kept and handed on.
    A run that is cut off goes on from its last checkpoint; the minutes count training time only.
    """

    def __init__(self, name, folder, averaged, groups, minutes=None, steps=None, decay=0.998, frozen=None):
        self.name, self.folder, self.averaged = name, Path(folder), averaged
        self.minutes, self.steps, self.decay = minutes, steps, decay
        self.warm_up = min(WARM_UP, steps // 4 + 1) if steps else WARM_UP
        self.folder.mkdir(parents=True, exist_ok=True)
        self.done_path, self.path = self.folder / f"{name}.pt", self.folder / f"{name}.checkpoint.pt"
        fused = {"fused": True} if TORCH > 1 else {}  # an update in 8 ms instead of 22; torch 1 has it for CUDA alone
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0, **fused)
        for group in self.optimizer.param_groups:
            group["peak"] = group["lr"]
        named = dict(averaged.named_parameters())
        self.masks = [(named[n], mask) for n, mask in (frozen or {}).items()]
        self.ema = {k: v.detach().clone() for k, v in averaged.state_dict().items()}
        self.batch = 4           # crops a step and process
        self.extra = {}          # other modules whose state belongs in the checkpoint
        self.step, self.seconds = 0, 0.0
        self.after = lambda: {}  # measured now and then with the averaged weights: a dict of numbers

    def progress(self):
        return self.step / self.steps if self.steps else self.seconds / (60 * self.minutes)

    def run(self, step, measure_every=1200.0):
        self.resume()
        saved = measured = self.seconds
        sums, count = {}, 0
        while self.progress() < 1:
            begun = time.monotonic()
            rate = min(1, (self.step + 1) / self.warm_up) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.progress())))
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            for k, v in step(self).items():
                sums[k] = sums.get(k, 0.0) + float(v)
            count += 1
            self.step += 1
            self.seconds = agree(self.seconds + time.monotonic() - begun)
            if self.step % 25 == 0 or self.progress() >= 1:
                self.write("train", {k: v / count for k, v in sums.items()})
                sums, count = {}, 0
            if self.seconds - saved > 120:
                self.save()
                saved = self.seconds
            if self.seconds - measured > measure_every:
                self.measure()
                measured = self.seconds
        self.measure()
        if first():
            torch.save(self.ema, self.done_path)
            self.path.unlink(missing_ok=True)

    def update(self, loss):
        """One optimiser step on `loss`; a step that is not finite is skipped."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average(p for g in self.optimizer.param_groups for p in g["params"])
        for parameter, mask in self.masks:
            if parameter.grad is not None:
                parameter.grad *= mask
        parameters = [p for g in self.optimizer.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if not torch.isfinite(norm):
            print(f"{self.name}: step {self.step} skipped, gradient not finite", flush=True)
            return
        self.optimizer.step()
        keep = min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for k, v in self.averaged.state_dict().items():
                if v.dtype.is_floating_point:
                    self.ema[k].lerp_(v, 1 - keep)

    def measure(self):
        if not first():
            return
        live = {k: v.clone() for k, v in self.averaged.state_dict().items()}
        self.averaged.load_state_dict(self.ema)
        with torch.no_grad():
            values = self.after()
        self.averaged.load_state_dict(live)
        if values:
            self.write("tune", values)

    def write(self, kind, values):
        if not first():
            return
        path = self.folder / f"{self.name}.{kind}.csv"
        row = {"step": self.step, "minutes": round(self.seconds / 60, 2), **{k: round(v, 5) for k, v in values.items()}}
        with path.open("a", newline="") as f:
            out = csv.DictWriter(f, row, extrasaction="ignore")
            if f.tell() == 0:
                out.writeheader()
            out.writerow(row)
        print(self.name, kind, row, flush=True)

    def save(self):
        if not first():
            return
        state = {"model": self.averaged.state_dict(), "ema": self.ema, "optimizer": self.optimizer.state_dict(),
                 "step": self.step, "seconds": self.seconds, "extra": {k: m.state_dict() for k, m in self.extra.items()}}
        half = self.path.with_suffix(".part")
        torch.save(state, half)
        os.replace(half, self.path)

    def resume(self):
        if not self.path.exists():
            for kind in ("train", "tune") if first() else ():
                (self.folder / f"{self.name}.{kind}.csv").unlink(missing_ok=True)
            return
        state = torch.load(self.path, weights_only=True)
        self.averaged.load_state_dict(state["model"])
        self.ema, self.step, self.seconds = state["ema"], state["step"], state["seconds"]
        self.optimizer.load_state_dict(state["optimizer"])
        for k, m in self.extra.items():
            m.load_state_dict(state["extra"][k])
        print(f"{self.name}: goes on from step {self.step}", flush=True)
