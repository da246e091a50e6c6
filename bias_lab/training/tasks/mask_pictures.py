"""Draw test images beside their masks and what a run predicted: the worst, the median and the best one."""

import colorsys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bias_lab import ledger
from bias_lab.rows import image_ious, worst_median_best
from bias_lab.training.job import Labels, Pixels
from bias_lab.training.tasks.mask_scores import VOID, Counts

SMALLEST = 128  # width of an image in a picture, in pixels, at least
GAP = 6
TEXT = 12  # height of the letters
GREY = (128, 128, 128)  # readable on white and on black
Colours = NDArray[np.uint8]  # (256, 3)


def save(
    folder: Path, images: Pixels, truth: Labels, maps: list[NDArray[np.uint8]], counts: Counts, classes: tuple[str, ...]
) -> None:
    """Write `test_worst.png`, `test_median.png` and `test_best.png`, ranked by the mean IoU of each image alone.

    images: (M, H, W, C). truth: (M, H, W). maps: (H, W) each, as predicted. counts: (M, K, 2). classes: their names.
    """
    for name, index in worst_median_best(image_ious(counts)).items():
        drawn = picture(np.asarray(images[index]), np.asarray(truth[index]), maps[index], classes)
        with ledger.replacing(folder / f"test_{name}.png") as temporary:
            drawn.save(temporary, format="PNG", optimize=True)


def picture(image: Pixels, truth: Labels, predicted: NDArray[np.uint8], classes: tuple[str, ...]) -> Image.Image:
    """Return an image, its mask and the prediction side by side, above the names of the classes in them.

    image: (H, W, C) in uint8 with one or three channels. truth, predicted: (H, W). The background is transparent, and
    so is void in the mask.
    """
    colours = palette(len(classes))
    H, W = truth.shape
    times = max(1, -(-SMALLEST // W))
    pixels = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    parts = (_opaque(pixels), _coloured(truth, colours), _coloured(predicted, colours))
    width = 3 * W * times + 2 * GAP
    present = [k for k in range(len(classes)) if (truth == k).any() or (predicted == k).any()]
    lines = _lines([(k, classes[k]) for k in present], width)
    whole = Image.new("RGBA", (width, H * times + GAP + len(lines) * (TEXT + GAP)))
    for place, part in enumerate(parts):
        enlarged = Image.fromarray(part).resize((W * times, H * times), Image.Resampling.NEAREST)
        whole.paste(enlarged, (place * (W * times + GAP), 0))
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(TEXT)
    for row, line in enumerate(lines):
        y = H * times + GAP + row * (TEXT + GAP)
        for x, number, name in line:
            pen.rectangle((x, y, x + TEXT, y + TEXT), fill=(*map(int, colours[number]), 255))
            pen.text((x + TEXT + 4, y - 1), name, fill=(*GREY, 255), font=font)
    return whole


def palette(classes: int) -> Colours:
    """Return a colour for each class, (256, 3): the first is grey, the hues of the others are far apart in turn."""
    made = np.zeros((256, 3), np.uint8)
    made[0] = (150, 150, 150)
    for k in range(1, classes):
        hue, light = (k * 0.618034) % 1, (0.45, 0.62, 0.34)[k % 3]
        made[k] = [round(255 * part) for part in colorsys.hls_to_rgb(hue, light, 0.75)]
    return made


def _lines(names: list[tuple[int, str]], width: int) -> list[list[tuple[int, int, str]]]:
    """Return lines of (x, class, name) that fit into the width."""
    font = ImageFont.load_default(TEXT)
    lines: list[list[tuple[int, int, str]]] = [[]]
    x = 0
    for number, name in names:
        long = TEXT + 4 + int(font.getlength(name)) + 2 * GAP
        if lines[-1] and x + long > width:
            lines.append([])
            x = 0
        lines[-1].append((x, number, name))
        x += long
    return lines


def _opaque(pixels: Pixels) -> Pixels:
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])


def _coloured(label_map: Labels, colours: Colours) -> Pixels:
    """Return a label map in colours, (H, W, 4), with transparent void."""
    whole = np.asarray(label_map).astype(np.uint8)
    return np.dstack([colours[whole], np.where(whole == VOID, 0, 255).astype(np.uint8)])
