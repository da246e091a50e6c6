"""Arrays as pictures, for the notebooks: rows of images and maps with titles, grids of patches or windows over them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bias_lab.report.draw import as_png

Array = NDArray[Any]


def row(
    pictures: Mapping[str, Any], *, lines: int | None = None, numbers: bool = False, height: float = 2.3, dpi: int = 110
) -> bytes:
    """Pictures side by side as the bytes of a PNG, titles above.

    pictures: title → (H, W) or (H, W, C) array or tensor; one channel is drawn in greys, whole numbers (which window,
    which region) in colours of their own. lines: a grid over each, with cells of so many pixels. numbers: values
    written in.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(height * 1.05 * len(pictures), height), layout="constrained")
    every = np.atleast_1d(figure.subplots(1, len(pictures)))
    for axes, (title, given) in zip(every, pictures.items(), strict=True):
        picture = plain(given)
        kinds = np.issubdtype(picture.dtype, np.integer) and picture.dtype != np.uint8
        ends: dict[str, Any] = dict(vmin=0, vmax=1) if np.issubdtype(picture.dtype, np.floating) else {}
        axes.imshow(picture, cmap="Pastel1" if kinds else "gray", interpolation="nearest", **ends)
        axes.set_title(title, fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
        if lines:
            for at in range(lines, max(picture.shape[:2]), lines):
                axes.axhline(at - 0.5, color="#D55E00", linewidth=0.8)
                axes.axvline(at - 0.5, color="#D55E00", linewidth=0.8)
        if numbers:
            for (y, x), value in np.ndenumerate(picture[..., 0] if picture.ndim == 3 else picture):
                axes.text(x, y, f"{value:g}", ha="center", va="center", fontsize=6)
    return as_png(figure, dpi)


def plain(given: Any) -> Array:
    """An array of a picture from numpy's or torch's: one channel dropped, floats scaled to [0, 1], truths 0 or 1."""
    picture = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    picture = picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture
    if picture.ndim not in (2, 3):
        raise ValueError(f"an array of shape {picture.shape} is no picture: give (H, W) or (H, W, C)")
    if picture.dtype == bool:  # black and white, also where all are alike
        return picture.astype(np.float64)
    if np.issubdtype(picture.dtype, np.floating):
        low, high = float(picture.min()), float(picture.max())
        picture = (picture - low) / (high - low) if high > low else np.zeros_like(picture)
    return picture
