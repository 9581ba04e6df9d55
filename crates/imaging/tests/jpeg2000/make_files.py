#!/usr/bin/env python3
"""Makes the small files of this test with Pillow (openjpeg), from numbers that the test knows.

usage: make_files.py, in this folder; needs: pillow, numpy
"""
import numpy as np
from PIL import Image


def values(height, width, channels, most):
    y, x, c = np.meshgrid(range(height), range(width), range(channels), indexing="ij")
    return ((x * 37 + y * 101 + c * 53) * (most // 255 or 1) + x * y) % (most + 1)


def main():
    lossless = {"irreversible": False, "quality_mode": "rates", "quality_layers": [0]}
    Image.fromarray(values(11, 13, 3, 255).astype(np.uint8)).save("rgb.jp2", **lossless)
    Image.fromarray(values(11, 13, 4, 255).astype(np.uint8)).save("rgba.jp2", **lossless)
    Image.fromarray(values(11, 13, 1, 255)[..., 0].astype(np.uint8)).save("gray.j2k", **lossless)
    Image.fromarray(values(11, 13, 1, 65535)[..., 0].astype(np.uint16)).save("gray16.jp2", **lossless)


main()
