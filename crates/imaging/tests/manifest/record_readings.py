#!/usr/bin/env python3
"""Reads the shared test images with Pillow, tifffile and imagecodecs, and prints what they found.

usage: record_readings.py DATA_FOLDER > readings.csv

needs: pillow, numpy, tifffile, imagecodecs. A line for each file that is read: name, upright width and
height, channels (L, LA, RGB, RGBA), bits, and the mean of every channel in each of 4x3 cells, row by
row, on a scale to 255; of a file of several pages a line for each, with # and its number behind the name. Colours are as stored (in the file's own space), multiplied by alpha; Lab and
linear pictures are converted to sRGB, as no result is written in those.
"""
import csv
import os
import sys

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = 1 << 30


def srgb_of_linear(light):
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def tiff(path, picture):
    """What Pillow does not read, or reads otherwise than stored."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        samples = page.asarray()
        if page.planarconfig == 2:
            samples = samples.transpose(1, 2, 0)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            samples = np.iinfo(samples.dtype).max - samples
        if page.extrasamples and int(page.extrasamples[0]) == 1:
            alpha = samples[..., 3:].astype(np.float64)
            straight = np.where(alpha > 0, samples[..., :3] * 255.0 / np.maximum(alpha, 1), 0)
            samples = np.dstack([np.clip(np.round(straight), 0, 255), alpha])
            return samples, 8
        return samples, 8 * samples.dtype.itemsize


def read(path, page=0):
    picture = Image.open(path)
    picture.seek(page)
    if picture.format == "TIFF":
        if picture.mode == "LAB":
            lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            rgb = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
            return np.asarray(rgb), 8
        special = picture.mode in ("I;16", "I;16B", "RGBA", "F") or "16" in str(picture.tag_v2.get(258))
        if special or picture.tag_v2.get(262) == 0 or picture.tag_v2.get(284) == 2:
            if picture.mode != "1":
                return tiff(path, picture)
    if picture.format == "PNG":
        with open(path, "rb") as file:
            raw = file.read()
        if raw[24] == 16:
            return imagecodecs.png_decode(raw), 16
        gamma = picture.info.get("gamma")
        if gamma and abs(gamma - 0.45455) > 0.005 and picture.mode != "1":
            light = (np.asarray(picture) / 255.0) ** (1 / gamma)
            return srgb_of_linear(light) * 255, 8
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode == "1":
        picture = picture.convert("L")
    return np.asarray(picture), 8


def cells(samples, bits):
    height, width = samples.shape[:2]
    values = samples.reshape(height, width, -1).astype(np.float64) * 255 / (2**bits - 1)
    channels = values.shape[2]
    if channels in (2, 4):
        values[..., :-1] *= values[..., -1:] / 255
    means = []
    for row in range(3):
        top = row * height // 3
        bottom = max(top + 1, (row + 1) * height // 3)
        for column in range(4):
            left = column * width // 4
            right = max(left + 1, (column + 1) * width // 4)
            means += list(values[top:bottom, left:right].mean(axis=(0, 1)))
    return channels, means


def main():
    folder = sys.argv[1]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["name", "width", "height", "channels", "bits", "means"])
    with open(os.path.join(folder, "MANIFEST.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        refused = ("bomb_", "animated", "cmyk", "photo.avif", "float32", "ifd_loop")
        name = row["name"]
        is_refused = row["expected"].startswith("reject") or any(word in name for word in refused)
        if is_refused and "ztxt" not in name:
            continue
        pages = int(row["pages"]) if "multipage" in name else 1
        for page in range(pages):
            try:
                samples, bits = read(os.path.join(folder, name), page)
            except Exception as error:
                sys.exit(f"{name}: {error}")
            channels, means = cells(samples, bits)
            mode = ["L", "LA", "RGB", "RGBA"][channels - 1]
            text = " ".join(f"{mean:.2f}" for mean in means)
            known = f"{name}#{page + 1}" if pages > 1 else name
            out.writerow([known, samples.shape[1], samples.shape[0], mode, bits, text])


main()
