"""Crops for training: pictures held in memory, chosen by kind, cut where something happens."""
import numpy as np
import torch
from PIL import Image

import degrade
from data import DATA

SHARES = {"photo": 0.70, "leaves": 0.08, "text": 0.06, "engraving": 0.06, "plain": 0.10}
GREY = 0.2  # share of crops without colour


def load(path):
    return Image.open(path).convert("RGB")


class Pictures:
    """Draws crops; the same seed draws the same crops."""

    def __init__(self, seed):
        self.rng, self.grey = np.random.default_rng(seed), GREY
        photos = sorted((DATA / "train").glob("*.png"))
        self.kinds = {"photo": [load(p) for p in photos]}
        self.smallest = {"photo": [int(p.stem.split("_")[-1]) / 100 for p in photos]}
        for path in sorted((DATA / "made").glob("*.png")):
            self.kinds.setdefault(path.name.split("_")[0], []).append(load(path))
        self.kinds = {k: v for k, v in self.kinds.items() if v}
        self.kinds["plain"] = []  # drawn as needed
        share = np.array([SHARES[k] for k in self.kinds])
        self.share = share / share.sum()
        self.weights = {k: self.weigh(v) for k, v in self.kinds.items()}

    @staticmethod
    def weigh(pictures):
        """Larger pictures more often, but not in proportion: the few large ones must not be all."""
        w = np.array([p.width * p.height for p in pictures]) ** 0.5
        return w / w.sum() if len(w) else w

    def crop(self, side):
        """One crop of a kind drawn by share, turned at random: [3, side, side] in [0, 1]."""
        kind = self.rng.choice(list(self.kinds), p=self.share)
        best = plain(self.rng, side) if kind == "plain" else self.busier(kind, side)
        best = np.rot90(best, self.rng.integers(4))
        if self.rng.random() < 0.5:
            best = best[:, ::-1]
        if self.rng.random() < self.grey:
            best = np.repeat(best.mean(2, keepdims=True), 3, 2).round()
        return torch.from_numpy(np.ascontiguousarray(best)).permute(2, 0, 1).float() / 255

    def busier(self, kind, side):
        """The busier of two places in one picture, which a photograph is reduced for: an edge of the world is wide in
        one picture and narrow in the next."""
        which = self.rng.choice(len(self.kinds[kind]), p=self.weights[kind])
        smallest = self.smallest[kind][which] if kind in self.smallest else 1.0
        return max((self.cut(self.kinds[kind][which], side, smallest) for _ in range(2)), key=busyness)

    def cut(self, picture, side, smallest):
        wanted = side * np.exp(-self.rng.uniform(np.log(smallest), 0.0)) if smallest < 1 else side
        n = min(round(wanted), *picture.size)
        x, y = (int(self.rng.integers(0, length - n + 1)) for length in picture.size)
        crop = picture.crop((x, y, x + n, y + n))
        return np.array(crop if n == side else crop.resize((side, side), Image.Resampling.LANCZOS))

    def batch(self, size, side=128):
        return torch.stack([self.crop(side) for _ in range(size)])

    def pairs(self, size, side=128):
        """Sharp and low-resolution crops, in [0, 1]: half of them only reduced, half degraded."""
        hr = self.batch(size, side)
        lr = [degrade.clean(x) if i % 2 == 0 else degrade.real(x, self.rng) for i, x in enumerate(hr)]
        return hr, torch.stack(lr)


def plain(rng, side):
    """A flat field, a slope, or two fields with an edge: skies, margins, and the black and white around scans.

    Without them a model never learns what its convolutions' zero padding does to a picture's border.
    """
    def colour():
        return rng.choice([0.0, 255.0]) * np.ones(3) if rng.random() < 0.3 else rng.uniform(0, 255, 3)
    a, b, kind = colour(), colour(), rng.integers(3)
    y, x = (np.mgrid[:side, :side] - side / 2) / side
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (x * np.cos(angle) + y * np.sin(angle))[..., None] + rng.uniform(-0.4, 0.4)
    share = {0: 0.0, 1: np.clip(ramp * 0.5 + 0.5, 0, 1), 2: np.clip(ramp * side + 0.5, 0, 1)}[int(kind)]
    return (a + (b - a) * share + np.zeros((side, side, 1))).round()


def busyness(crop):
    grey = crop[..., 1].astype(np.float32)
    return np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()


def tuning_crops(side=256):
    """The middle of each held-out picture, sharp and in both kinds of low resolution."""
    sharp = []
    for path in sorted((DATA / "tune").glob("*.png")) or sorted((DATA / "made").glob("*.png"))[:2]:
        p = np.asarray(load(path))
        y, x = (p.shape[0] - side) // 2, (p.shape[1] - side) // 2
        sharp.append(torch.from_numpy(p[y:y + side, x:x + side].copy()).permute(2, 0, 1).float() / 255)
    hr = torch.stack(sharp)
    return hr, torch.stack([degrade.clean(x) for x in hr]), torch.stack([degrade.mild(x) for x in hr])
