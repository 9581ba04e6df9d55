"""Stores a picture as YCbCr in several ways, and records what libtiff reads in each.

Needs Pillow and Debian's libtiff-tools: python make_files.py, in this folder. `NAME.rgb` is libtiff's reading
of NAME.tif, by tiff2rgba: red, green and blue of every pixel.
"""
import os
import struct
import subprocess
import zlib
from dataclasses import dataclass

from PIL import Image

WIDTH, HEIGHT = 37, 21
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
VIDEO = struct.pack("<12I", 16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)
BT709 = struct.pack("<6I", 2126, 10000, 7152, 10000, 722, 10000)


@dataclass
class Way:
    """`sharing`: luma samples across and down for a pair of chroma; `tile`: its side, else strips of `rows`."""
    sharing: tuple
    packing: int = NONE
    rows: int = HEIGHT
    tile: int = 0
    other_colours: bool = False


WAYS = {
    "full": Way((1, 1)),
    "lzw": Way((2, 2), LZW, rows=8),
    "packbits": Way((2, 1), PACKBITS, rows=5),
    "deflate": Way((4, 2), DEFLATE, rows=6),
    "tiles": Way((2, 2), tile=16, other_colours=True),
}


def luma(x, y):
    return (x * 6 + y * 3 + (x * y) % 17) % 256


def chroma(x, y):
    return 40 + (x * 5) % 170, 40 + (y * 9 + x) % 170


def packbits(raw):
    runs = [raw[i:i + 100] for i in range(0, len(raw), 100)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs) + bytes([255, 0])


def lzw(raw):
    """Every byte a code of nine bits, and the table cleared before codes would grow."""
    codes = [code for i in range(0, len(raw), 200) for code in [256, *raw[i:i + 200]]] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def chunk(way, left, top, width, height):
    across, down = way.sharing
    units = bytearray()
    for y in range(top, top + height, down):
        for x in range(left, left + width, across):
            units += bytes(luma(x + i, y + j) for j in range(down) for i in range(across))
            units += bytes(chroma(x, y))
    return {NONE: bytes, LZW: lzw, DEFLATE: zlib.compress, PACKBITS: packbits}[way.packing](bytes(units))


def chunks(way):
    if way.tile:
        places = [(x, y) for y in range(0, HEIGHT, way.tile) for x in range(0, WIDTH, way.tile)]
        return [chunk(way, x, y, way.tile, way.tile) for x, y in places]
    return [chunk(way, 0, y, WIDTH, min(way.rows, HEIGHT - y)) for y in range(0, HEIGHT, way.rows)]


def tiff(way):
    stored = chunks(way)
    offsets = [8 + sum(map(len, stored[:i])) for i in range(len(stored))]
    body = b"".join(stored)
    body += bytes(len(body) % 2)
    tags = [(256, 3, [WIDTH]), (257, 3, [HEIGHT]), (258, 3, [8, 8, 8]), (259, 3, [way.packing]), (262, 3, [6])]
    if not way.tile:
        tags += [(273, 4, offsets)]
    tags += [(277, 3, [3])]
    if not way.tile:
        tags += [(278, 3, [way.rows]), (279, 4, [len(c) for c in stored])]
    tags += [(284, 3, [1])]
    if way.tile:
        tags += [(322, 3, [way.tile]), (323, 3, [way.tile]), (324, 4, offsets), (325, 4, [len(c) for c in stored])]
    tags += [(529, 5, BT709)] if way.other_colours else []
    tags += [(530, 3, list(way.sharing))]
    tags += [(532, 5, VIDEO)] if way.other_colours else []
    entries = b""
    for tag, kind, values in tags:
        raw = values if kind == 5 else struct.pack(f"<{len(values)}{'HI'[kind - 3]}", *values)
        count = len(raw) // 8 if kind == 5 else len(values)
        if len(raw) > 4:
            place = struct.pack("<I", 8 + len(body))
            body += raw
        else:
            place = raw.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, count) + place
    head = struct.pack("<2sHI", b"II", 42, 8 + len(body))
    return head + body + struct.pack("<H", len(tags)) + entries + bytes(4)


def main():
    for name, way in WAYS.items():
        with open(f"{name}.tif", "wb") as file:
            file.write(tiff(way))
        subprocess.run(["tiff2rgba", "-c", "none", f"{name}.tif", "read.tif"], check=True)
        with open(f"{name}.rgb", "wb") as file:
            file.write(Image.open("read.tif").convert("RGB").tobytes())
        os.remove("read.tif")


if __name__ == "__main__":
    main()
