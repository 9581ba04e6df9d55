"""PSNR, SSIM and NIQE of 8-bit pictures' BT.601 luma, and the consistency of an upscaled picture."""
import math

import numpy as np
import torch
import torch.nn.functional as F

import degrade
from data import ROOT


def luma(x):
    """x: [3, h, w] in [0, 1]; rounded to 8 bit, then Y in [16, 235], float64."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64).view(3, 1, 1)
    return (degrade.to_8_bit(x).double() * weights).sum(0) + 16


def psnr(a, b):
    return float(10 * torch.log10(255 ** 2 / ((luma(a) - luma(b)) ** 2).mean().clamp_min(1e-10)))


def ssim(a, b):
    """Gaussian window 11, sigma 1.5, on luma, without padding."""
    g = torch.exp(-0.5 * ((torch.arange(11, dtype=torch.float64) - 5) / 1.5) ** 2)
    kernel = (g[:, None] * g)[None, None] / g.sum() ** 2
    x, y = luma(a)[None, None], luma(b)[None, None]

    def mean(v):
        return F.conv2d(v, kernel)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean())


def consistency(sr, lr):
    """PSNR of luma of the result, reduced again, against what was upscaled."""
    return psnr(degrade.reduce(degrade.to_8_bit(sr)), lr)


# --- NIQE (Mittal, Soundararajan, Bovik 2013) --------------------------------------------------

BLOCK = 96
SHAPES = np.arange(0.2, 10.001, 0.001)
GAMMA = np.vectorize(math.gamma)
RATIOS = GAMMA(2 / SHAPES) ** 2 / (GAMMA(1 / SHAPES) * GAMMA(3 / SHAPES))


def fit(values):
    """Shape and the two widths of an asymmetric generalised Gaussian."""
    left = math.sqrt(np.mean(values[values < 0] ** 2)) if (values < 0).any() else 1e-6
    right = math.sqrt(np.mean(values[values > 0] ** 2)) if (values > 0).any() else 1e-6
    skew = left / right
    ratio = np.mean(np.abs(values)) ** 2 / max(np.mean(values ** 2), 1e-12)
    ratio *= (skew ** 3 + 1) * (skew + 1) / (skew ** 2 + 1) ** 2
    shape = SHAPES[np.argmin((RATIOS - ratio) ** 2)]
    scale = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    return shape, left * scale, right * scale


def block_features(block):
    shape, left, right = fit(block)
    features = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = fit(block * np.roll(block, shift, (0, 1)))
        features += [shape, (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape), left, right]
    return features


def normalised(y, window):
    """Each pixel less its surroundings' mean, over their deviation plus one."""
    kernel = torch.from_numpy(window)[None, None]
    padded = F.pad(y[None, None], (3, 3, 3, 3), mode="replicate")
    mean = F.conv2d(padded, kernel)
    deviation = (F.conv2d(padded * padded, kernel) - mean * mean).abs().sqrt()
    return ((y - mean) / (deviation + 1))[0, 0].numpy()


def pristine():
    """Mean and covariance of undamaged photographs' features: the file that `upres evaluate` reads too."""
    lines = (ROOT.parent / "crates/cli/src/evaluate/niqe_parameters.txt").read_text().splitlines()
    mean, *rows = ([float(number) for number in line.split()] for line in lines if not line.startswith("#"))
    lower = np.array([row + [0.0] * (len(mean) - len(row)) for row in rows])
    return np.array(mean), lower + np.tril(lower, -1).T


def window():
    """Gaussian, 7 x 7, sigma 7/6."""
    g = np.exp(-0.5 * (np.arange(-3, 4) * 6 / 7) ** 2)
    return np.outer(g, g) / g.sum() ** 2


def niqe(x):
    """x: [3, h, w] in [0, 1], at least two blocks large. Lower is more like an undamaged photograph."""
    expected, covariance = pristine()
    y = luma(x).round()
    rows, columns = y.shape[0] // BLOCK, y.shape[1] // BLOCK
    y = y[:rows * BLOCK, :columns * BLOCK]
    scales = []
    for side in (BLOCK, BLOCK // 2):
        m = normalised(y, window())
        scales.append([block_features(m[i * side:(i + 1) * side, j * side:(j + 1) * side])
                       for j in range(columns) for i in range(rows)])
        y = F.interpolate(y[None, None], scale_factor=0.5, mode="bicubic", antialias=True)[0, 0]
    features = np.concatenate([np.array(s) for s in scales], 1)
    difference = expected - features.mean(0)
    spread = np.linalg.pinv((covariance + np.cov(features, rowvar=False)) / 2)
    return math.sqrt((difference @ spread @ difference.T).item())
