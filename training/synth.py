"""Pictures that cost nothing and belong to nobody: dead leaves, pages of text, engravings, halftones.

Each function draws one square RGB picture from a generator; colours and shades come from `photos` where
there are any. Everything is drawn larger, blurred and reduced, so edges are as soft as lenses and scanners leave
them; drawn crisp, they teach a model to make a hard black line of every dark streak in a photograph.
"""
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WORDS = ("archive letter river street church number garden winter summer report Paris London of the and to in a is "
         "that for it as was with be by on not he his but at are this have from or had an they which one you were "
         "all her she there would their we him been has when who will no more if out so said what up its about than "
         "into them can only other time new some could these two may first then do any like my now over such our "
         "man me even most made after also did many off before must well back through years much where your way "
         "1784 1841 1903 1927 No. Vol. pp. 17 236 58 Messrs. Mme. Dr.").split()


def smooth_noise(rng, side, slope=1.0):
    """Noise with a 1/f^slope amplitude spectrum, scaled to [0, 1]."""
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    f[0, 0] = 1.0
    spectrum = np.fft.fft2(rng.standard_normal((side, side))) / f ** slope
    spectrum[0, 0] = 0
    x = np.real(np.fft.ifft2(spectrum))
    low, high = np.percentile(x, [1, 99])
    return np.clip((x - low) / (high - low), 0, 1)


def pick_colour(rng, photos):
    if photos and rng.random() < 0.85:
        p = photos[rng.integers(len(photos))]
        return p[rng.integers(p.shape[0]), rng.integers(p.shape[1])].astype(float)
    return rng.uniform(0, 255, 3)


def reduce(rng, array, side):
    image = Image.fromarray(np.clip(array, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 2.6)))
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def outline(rng, x, y, r):
    """An irregular closed shape around (x, y): ellipse, polygon or leaf."""
    n = int(rng.choice([3, 4, 5, 24, 24, 24]))
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False) + rng.uniform(0, 2 * np.pi)
    radius = r * (1 + rng.uniform(0, 0.25) * np.sin(rng.integers(1, 5) * angle + rng.uniform(0, 6)))
    stretch, turn = rng.uniform(0.25, 1.0), rng.uniform(0, np.pi)
    dx, dy = radius * np.cos(angle), radius * np.sin(angle) * stretch
    return list(zip(x + dx * np.cos(turn) - dy * np.sin(turn), y + dx * np.sin(turn) + dy * np.cos(turn)))


def texture(rng, side):
    """A field in [-1, 1]: grain, stripes or nothing."""
    kind = rng.integers(4)
    if kind == 0:
        return np.zeros((side, side))
    if kind == 1:
        return smooth_noise(rng, side, rng.uniform(0.3, 1.5)) * 2 - 1
    y, x = np.mgrid[:side, :side]
    turn, period = rng.uniform(0, np.pi), rng.uniform(5, 30)
    warp = smooth_noise(rng, side, 1.6) * rng.uniform(0, 40)
    wave = np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn) + warp) / period)
    return wave if kind == 2 else wave * smooth_noise(rng, side, 1.2)


def dead_leaves(rng, side, fonts, photos):
    """Shapes of many sizes hiding one another: the edge and scale statistics of photographs."""
    big = side * 2
    label = Image.new("I", (big, big), 0)
    draw = ImageDraw.Draw(label)
    smallest = rng.uniform(5, 24)
    count = int(rng.integers(600, 3500))
    u = rng.random(count)
    radii = (smallest ** -2 * (1 - u) + (big / 3) ** -2 * u) ** -0.5  # density r^-3
    for i, r in enumerate(radii):
        x, y = rng.uniform(-0.05 * big, 1.05 * big, 2)
        draw.polygon(outline(rng, x, y, r), fill=i + 1)
    label = np.asarray(label)
    colours = np.array([pick_colour(rng, photos) for _ in range(count + 1)])
    fields = np.stack([texture(rng, big) for _ in range(5)])
    which = rng.integers(0, len(fields), count + 1)
    strength = rng.uniform(0, 45, count + 1) * (rng.random(count + 1) < 0.7)
    shade = np.take_along_axis(fields, which[label][None], 0)[0] * strength[label]
    light = (smooth_noise(rng, big, 2.0) - 0.5) * rng.uniform(0, 60)
    return reduce(rng, colours[label] + (shade + light)[..., None], side)


def text_page(rng, side, fonts, photos):
    """Lines of words, printed or typed, on paper that is not quite white."""
    big = side * 2
    paper, ink = rng.uniform(185, 255), rng.uniform(0, 90)
    sheet = Image.new("L", (big, big), int(paper))
    draw = ImageDraw.Draw(sheet)
    y = int(rng.integers(-10, 30))
    while y < big:
        px = int(rng.choice([14, 18, 22, 28, 36, 48, 90], p=[.1, .2, .25, .2, .15, .07, .03]))
        font = ImageFont.truetype(str(fonts[rng.integers(len(fonts))]), px) if fonts else ImageFont.load_default(px)
        x0 = int(rng.integers(-20, 60))
        for _ in range(int(rng.integers(1, 9))):
            line = " ".join(rng.choice(WORDS, 30))
            draw.text((x0, y), line, font=font, fill=int(ink))
            y += int(px * rng.uniform(1.15, 1.5))
            if rng.random() < 0.05:
                draw.line([(x0, y), (big - 40, y)], fill=int(ink), width=int(rng.integers(1, 5)))
                y += px // 2
    sheet = sheet.rotate(rng.normal(0, 1.0), Image.Resampling.BICUBIC, fillcolor=int(paper))
    page = np.asarray(sheet, float) + (smooth_noise(rng, big, 0.7) - 0.5) * rng.uniform(0, 25)
    tint = np.array([1.0, rng.uniform(0.93, 1.0), rng.uniform(0.8, 1.0)]) if rng.random() < 0.6 else np.ones(3)
    return reduce(rng, page[..., None] * tint, side)


def tone(rng, side, photos):
    """A shade map in [0, 1], from a photo where there is one."""
    if photos and rng.random() < 0.7:
        p = photos[rng.integers(len(photos))]
        n = min(p.shape[:2])
        crop = int(rng.integers(n // 3, n + 1))
        y, x = rng.integers(0, p.shape[0] - crop + 1), rng.integers(0, p.shape[1] - crop + 1)
        grey = Image.fromarray(p[y:y + crop, x:x + crop]).convert("L").resize((side, side), Image.Resampling.BICUBIC)
        return np.asarray(grey, float) / 255
    return smooth_noise(rng, side, 1.8)


def engraving(rng, side, fonts, photos):
    """Lines (or halftone dots) that swell where the picture is dark."""
    big = side * 2
    y, x = np.mgrid[:big, :big].astype(float)
    shade = tone(rng, big, photos)
    warp = smooth_noise(rng, big, 2.2) * rng.uniform(0, 120)
    ink = np.zeros((big, big), bool)
    turn, period = rng.uniform(0, np.pi), rng.uniform(8, 32)
    for layer in range(int(rng.integers(1, 4))):
        a = turn + layer * rng.uniform(0.5, 1.2)
        phase = 2 * np.pi * (x * np.cos(a) + y * np.sin(a) + warp) / period
        wave = (np.sin(phase) + 1) / 2
        if rng.random() < 0.25:  # dots
            wave = wave * (np.sin(2 * np.pi * (y * np.cos(a) - x * np.sin(a)) / period) + 1) / 2
        ink |= wave < (1 - shade) * rng.uniform(0.5, 1.0) - 0.3 * layer
    paper, dark = pick_colour(rng, photos) * 0.3 + 175, rng.uniform(0, 70)
    page = np.where(ink[..., None], dark, paper) + ((smooth_noise(rng, big, 0.8) - 0.5) * rng.uniform(0, 20))[..., None]
    return reduce(rng, page, side)


KINDS = {"leaves": dead_leaves, "text": text_page, "engraving": engraving}
ORDER = {kind: i for i, kind in enumerate(KINDS)}
