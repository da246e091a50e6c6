"""Draw shapes from (seed, index): images whose class depends on a cue that we choose, so that the answer is known.

With a known cue, an experiment shows what a backbone uses: shape or texture, the figure at any place or only where it
was seen, parts or their arrangement, coarse or fine structure. The images need no files, come at any side and count,
and have masks. A dataset's name holds the factors: `shapes:cue=conflict,position=free`.

cue          the class is …
  shape      the figure: disc, square, triangle, cross. Its texture does not depend on the class.
  texture    the direction of the stripes: across, rising, upright, falling. The figure is independent of the class.
  agree      both, figure k with stripes k, for training before a test on `conflict`
  conflict   the figure. The stripes are always those of another class (Geirhos et al. 2019, arXiv:1811.12231)
  local      the form of four small parts, one in each quarter, whatever `position`
  global     the arrangement of the four parts: row, column, square, diamond. Their form is independent of the class.
position     fixed: in the centre · free: anywhere that it fits
band         all · low, high: the cue is kept below or above a quarter of the Nyquist frequency

A flip turns rising stripes into falling ones. If texture is the cue, train with flip=False. If the drawing changes,
raise the version in the catalogue's row, so that old stores are not used.

docs/procedural.png shows all factors. `python -m bias_lab.data.readers.procedural docs/procedural.png` draws it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bias_lab import catalogue
from bias_lab.data import draws

CLASSES = 4
RADIUS = 0.25  # of a figure, as a share of the side
PART = 0.1  # of a part in its quarter
ARRANGED = 0.085  # of a part in an arrangement, so that four in a row stay apart and fit anywhere
ROOM = 0.07  # the largest distance of an arrangement from the centre if its position is free
NOISE = 24  # levels, peak to peak
TEST = 2**40  # the index of the first test image, which no training image reaches
BAND = 0.25  # of the Nyquist frequency

_ROW = np.array([[0, -1.5], [0, -0.5], [0, 0.5], [0, 1.5]])
ARRANGEMENTS = np.stack(
    [
        _ROW * 0.22,
        _ROW[:, ::-1] * 0.22,
        np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * 0.2,
        np.array([[-1, 0], [0, -1], [0, 1], [1, 0]]) * 0.3,
    ]
)  # (4 classes, 4 parts, 2): down and across from the middle, as shares of the side


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Hold images and their cues. shape, texture: the class that each cue stands for, (n,)."""

    images: NDArray[np.uint8]  # (n, side, side, 1)
    labels: NDArray[np.int64]
    shape: NDArray[np.int64]
    texture: NDArray[np.int64]
    masks: NDArray[np.bool_]  # (n, side, side), the figure


def shapes(
    index: NDArray[np.int64],
    side: int,
    *,
    cue: str = "shape",
    position: str = "fixed",
    band: str = "all",
    seed: int = 0,
) -> Drawn:
    """Draw the images of these indices, a pure function of (seed, index) and the factors. Labels take turns."""
    label = index % CLASSES
    other = (label + 1 + draws.integers(CLASSES - 1, seed, "other class", index)) % CLASSES
    unrelated = draws.integers(CLASSES, seed, "unrelated class", index)
    shape = unrelated if cue in ("texture", "global") else label
    texture = {"agree": label, "texture": label, "conflict": other}.get(cue, unrelated)
    if cue in ("local", "global"):
        masks = _parts(index, side, shape, label if cue == "global" else None, position, seed)
    else:
        masks = _figures(index, side, shape, position, seed)
    stripes = _stripes(index, side, texture, band, seed)
    has_stripes = cue not in ("local", "global")
    light = np.where(masks, 70.0 * stripes if has_stripes else 70.0, -35.0)  # levels from the middle grey
    if band != "all":
        light = _band(light, band)
    noise = (draws.uniform(seed, "noise", index[:, None], np.arange(side * side)) - 0.5) * NOISE
    images = np.rint(np.clip(110 + light + noise.reshape(-1, side, side), 0, 255)).astype(np.uint8)
    return Drawn(images[..., None], label, shape, texture, masks)


def dataset(name: str, side: int) -> tuple[dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]], tuple[str, ...]]:
    """Return the splits of a dataset by name, and its classes. Raises UserError for an unknown factor or value."""
    factors = catalogue.shapes(name)
    row = catalogue.dataset(name)
    splits = {}
    for split, first, count in (("train", 0, row.pool), ("test", TEST, row.test_images)):
        parts = [
            shapes(
                np.arange(first + start, first + min(start + 500, count)),
                side,
                cue=factors["cue"],
                position=factors["position"],
                band=factors["band"],
            )
            for start in range(0, count, 500)
        ]
        splits[split] = (np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))
    kinds = {"texture": ("across", "rising", "upright", "falling"), "global": ("row", "column", "square", "diamond")}
    return splits, kinds.get(factors["cue"], ("disc", "square", "triangle", "cross"))


def inside(y: NDArray[np.float64], x: NDArray[np.float64], kind: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether (y, x), in radii from a form's middle, lies in it. The forms have about equal areas."""
    disc = y**2 + x**2 < 0.81
    square = np.maximum(np.abs(y), np.abs(x)) < 0.8
    triangle = (y < 0.85) & (np.abs(x) < (y + 1.25) * 0.58)
    cross = (np.minimum(np.abs(y), np.abs(x)) < 0.36) & (np.maximum(np.abs(y), np.abs(x)) < 1.05)
    return np.select([kind == 0, kind == 1, kind == 2], [disc, square, triangle], cross)


def _place(index: NDArray[np.int64], room: float, position: str, seed: int, purpose: str) -> NDArray[np.float64]:
    """Return (n, 2) middles as shares of the side: the centre, or anywhere up to `room` from it."""
    if position == "fixed":
        return np.full((len(index), 2), 0.5)
    return 0.5 + room * (2 * draws.uniform(seed, purpose, index[:, None], np.arange(2)) - 1)


def _pixels(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    at = (np.arange(side) + 0.5) / side
    return at[:, None], at[None, :]


def _figures(
    index: NDArray[np.int64], side: int, shape: NDArray[np.int64], position: str, seed: int
) -> NDArray[np.bool_]:
    y, x = _pixels(side)
    radius = RADIUS * (0.85 + 0.3 * draws.uniform(seed, "radius", index))[:, None, None]
    middle = _place(index, 0.5 - RADIUS * 1.15 * 1.3, position, seed, "place")[:, :, None, None]
    return inside((y - middle[:, 0]) / radius, (x - middle[:, 1]) / radius, shape[:, None, None])


def _parts(
    index: NDArray[np.int64],
    side: int,
    form: NDArray[np.int64],
    arrangement: NDArray[np.int64] | None,
    position: str,
    seed: int,
) -> NDArray[np.bool_]:
    """Draw four parts of one form in the class's arrangement. Without an arrangement, each lies in its own quarter."""
    y, x = _pixels(side)
    masks = np.zeros((len(index), side, side), bool)
    whole = _place(index, ROOM, position, seed, "place")
    radius = PART if arrangement is None else ARRANGED
    quarters = np.array([[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]])
    for part in range(4):
        if arrangement is None:
            middle = quarters[part] + 0.12 * (2 * draws.uniform(seed, f"part {part}", index[:, None], np.arange(2)) - 1)
        else:
            middle = whole + ARRANGEMENTS[arrangement, part]
        dy, dx = (y - middle[:, 0, None, None]) / radius, (x - middle[:, 1, None, None]) / radius
        masks |= inside(dy, dx, form[:, None, None])
    return masks


def _stripes(
    index: NDArray[np.int64], side: int, texture: NDArray[np.int64], band: str, seed: int
) -> NDArray[np.float64]:
    """Return waves from -1 to 1 in the class's direction, with a random phase. They are coarse in the low band."""
    y, x = _pixels(side)
    coarse = 3.0 if side >= 24 else side / 12  # below the limit of the band, which is side / 8
    cycles = {"low": coarse, "all": side / 6, "high": side / 4}[band]
    angle = texture[:, None, None] * np.pi / CLASSES
    phase = 2 * np.pi * draws.uniform(seed, "phase", index)[:, None, None]
    return np.sin(2 * np.pi * cycles * (y * np.cos(angle) + x * np.sin(angle)) + phase)


def _band(light: NDArray[np.float64], band: str) -> NDArray[np.float64]:
    """Keep the frequencies below or above the limit of the band, by their distance from zero."""
    side = light.shape[-1]
    down, across = np.fft.fftfreq(side)[:, None] * 2, np.fft.rfftfreq(side) * 2
    low = np.hypot(down, across) <= BAND
    kept: NDArray[np.float64] = np.fft.irfft2(
        np.fft.rfft2(light) * (low if band == "low" else ~low), s=light.shape[-2:]
    )
    return kept


def sheet(side: int = 48, count: int = 12) -> Image.Image:
    """Return a picture with a named row for each factor. The four classes take turns from left to right."""
    rows = [{"cue": cue} for cue in catalogue.SHAPES["cue"]]
    rows += [{"cue": cue, "position": "free"} for cue in ("shape", "global")]
    rows += [{"cue": cue, "band": band} for band in ("low", "high") for cue in ("shape", "texture")]
    names = [", ".join(f"{k} {v}" for k, v in factors.items()) for factors in rows]
    drawn = [shapes(np.arange(count), side, **factors).images for factors in rows]  # type: ignore[arg-type]
    return table(names, [f"class {k % CLASSES}" for k in range(count)], drawn, scale=2)


def table(
    rows: Sequence[str], columns: Sequence[str], images: Sequence[NDArray[np.uint8]], *, scale: int
) -> Image.Image:
    """Return images (each row: (n, side, side, 1)) side by side with gaps and named rows and columns."""
    side, left, top, gap = images[0].shape[1] * scale, 170, 24, 4
    whole = Image.new("L", (left + len(columns) * (side + gap), top + len(rows) * (side + gap)), 255)
    text, font = ImageDraw.Draw(whole), ImageFont.load_default(13)
    for k, name in enumerate(columns):
        text.text((left + k * (side + gap) + side / 2, top / 2), name, fill=0, font=font, anchor="mm")
    for row, (name, strip) in enumerate(zip(rows, images, strict=True)):
        at = top + row * (side + gap)
        text.text((8, at + side / 2), name, fill=0, font=font, anchor="lm")
        for k, image in enumerate(strip):
            tile = Image.fromarray(image[..., 0]).resize((side, side), Image.Resampling.NEAREST)
            whole.paste(tile, (left + k * (side + gap), at))
    return whole


if __name__ == "__main__":
    sheet().save(Path(sys.argv[1]), optimize=True)
