"""From a sharp picture to the low-resolution one that the model is shown."""
import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image


def reduce(hr, mode="bicubic"):
    """hr: [3, h, w] in [0, 1] to a quarter, unrounded."""
    size = [n // 4 for n in hr.shape[-2:]]
    if mode == "area":
        return F.avg_pool2d(hr[None], 4)[0]
    return F.interpolate(hr[None], size=size, mode=mode, antialias=True, align_corners=False)[0]


def to_8_bit(x):
    return (x.clamp(0, 1) * 255).round() / 255


def clean(hr):
    return to_8_bit(reduce(hr))


def blur(x, sigma_x, sigma_y):
    for sigma, axis in ((sigma_y, 0), (sigma_x, 1)):
        r = max(1, int(3 * sigma + 0.5))
        k = torch.exp(-0.5 * (torch.arange(-r, r + 1) / sigma) ** 2)
        k = (k / k.sum()).view(1, 1, -1, 1) if axis == 0 else (k / k.sum()).view(1, 1, 1, -1)
        pad = (0, 0, r, r) if axis == 0 else (r, r, 0, 0)
        x = F.conv2d(F.pad(x[:, None], pad, mode="replicate"), k)[:, 0]
    return x


def jpeg(x, quality, subsampling=2):
    array = (x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=int(quality), subsampling=subsampling)
    back = np.array(Image.open(io.BytesIO(buffer.getvalue())))
    return torch.from_numpy(back).permute(2, 0, 1).float() / 255


def real(hr, rng):
    """A random chain of what happens to photographs: blur, reduction, noise, JPEG, sometimes none of one."""
    sigma = rng.uniform(0.2, 2.0)
    x = blur(hr, sigma, sigma * (rng.uniform(0.6, 1.6) if rng.random() < 0.3 else 1.0))
    x = reduce(x, rng.choice(["bicubic", "bicubic", "bilinear", "area"]))
    if rng.random() < 0.85:
        level = rng.uniform(0, 8) / 255
        shape = x.shape if rng.random() < 0.7 else (1, *x.shape[1:])
        x = x + level * torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    if rng.random() < 0.85:
        # Rolled first, so that the 8-px grid may lie anywhere in the picture.
        dy, dx = (int(n) for n in rng.integers(0, 16, 2))
        x = jpeg(torch.roll(x, (dy, dx), (1, 2)), rng.uniform(50, 95), int(rng.choice([0, 2, 2])))
        x = torch.roll(x, (-dy, -dx), (1, 2))
    return to_8_bit(x)


def mild(hr, seed=0):
    """The fixed degradation of the tables: blur 1, bicubic, noise 5/255, JPEG 60."""
    rng = np.random.default_rng(seed)
    x = reduce(blur(hr, 1.0, 1.0))
    x = x + 5 / 255 * torch.from_numpy(rng.standard_normal(x.shape).astype(np.float32))
    return jpeg(x, 60)
