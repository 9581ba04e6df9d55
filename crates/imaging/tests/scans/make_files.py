#!/usr/bin/env python3
"""Writes the JPEG files beside it, with cjpeg (Debian: libjpeg-turbo-progs): each has its scans in another way.

usage: make_files.py
"""

import math
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 53, 38

# Each component in a scan of its own, without being progressive.
APART = "0;\n1;\n2;\n"
# Every bit in a scan of its own, three times.
REFINED = range(2, -1, -1)
BIT_BY_BIT = "\n".join(
    ["0,1,2: 0-0, 0, 3;"]
    + [f"{component}: 1-63, 0, 3;" for component in range(3)]
    + [f"0,1,2: 0-0, {bit + 1}, {bit};" for bit in REFINED]
    + [f"{component}: 1-63, {bit + 1}, {bit};" for bit in REFINED for component in range(3)]
)

FILES = {
    "progressive": ["-progressive"],
    "progressive_full_chroma": ["-progressive", "-sample", "1x1"],
    "progressive_restarts": ["-progressive", "-restart", "3B"],
    "progressive_grey": ["-progressive", "-grayscale"],
    "bit_by_bit": ["-scans", BIT_BY_BIT],
    "baseline": ["-baseline"],
    "restarts": ["-baseline", "-restart", "2B"],
    "tall_chroma": ["-baseline", "-sample", "1x2"],
    "fine_chroma": ["-baseline", "-sample", "1x1,2x2,1x1"],
    "thirds": ["-baseline", "-sample", "3x1"],
    "apart": ["-baseline", "-scans", APART],
}


def picture():
    """Waves with grain, as PPM."""
    grain = 12345
    values = bytearray()
    for y in range(HEIGHT):
        for x in range(WIDTH):
            for colour in range(3):
                grain = (grain * 1103515245 + 12345) % 2**31
                wave = math.sin(x / (3 + colour)) + math.cos(y / (5 - colour))
                values.append(max(0, min(255, int(128 + 50 * wave + (grain >> 16) % 40 - 20))))
    return b"P6 %d %d 255\n" % (WIDTH, HEIGHT) + bytes(values)


def main():
    ppm = picture()
    for name, options in FILES.items():
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as script:
            if "-scans" in options:
                script.write(options[-1])
                script.flush()
                options = [*options[:-1], script.name]
            file = HERE / f"{name}.jpg"
            command = ["cjpeg", "-quality", "80", *options, "-outfile", str(file)]
            subprocess.run(command, input=ppm, check=True)


main()
