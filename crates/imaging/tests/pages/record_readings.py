#!/usr/bin/env python3
"""Reads the files of this test with Pillow (libtiff) and tifffile, and prints what they found.

usage: PAGES_TO=FOLDER cargo test -p imaging --test pages && record_readings.py FOLDER > readings.csv

needs: pillow, numpy, tifffile, imagecodecs. A line for each page: name, page, CRC-32 of the file, and of
the samples. Both programs must find the same; 16 bits a sample in colour Pillow does not read, and of
several pages in other modes only tifffile's reading counts.
"""
import pathlib
import sys
import zlib

import numpy as np
import tifffile
from PIL import Image

NAMES = ["three_pages", "lzw_grain", "lzw_runs", "lzw_one_row", "lzw_tiles", "lzw_16_bits", "lzw_gray_alpha"]


def main():
    folder = pathlib.Path(sys.argv[1])
    print("name,page,file,samples")
    for name in NAMES:
        path = folder / f"{name}.tif"
        whole = zlib.crc32(path.read_bytes())
        with tifffile.TiffFile(path) as file:
            count = len(file.pages)
            for index, page in enumerate(file.pages):
                samples = page.asarray()
                if samples.dtype == np.uint8:
                    with Image.open(path) as picture:
                        assert picture.n_frames == count
                        picture.seek(index)
                        assert np.array_equal(np.asarray(picture).squeeze(), samples.squeeze()), name
                digest = zlib.crc32(samples.tobytes())
                print(f"{name},{index},{whole:08x},{digest:08x}")


main()
