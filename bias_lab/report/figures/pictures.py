"""Show arrays as pictures in the notebooks: rows of images and maps with titles, and grids of patches or windows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bias_lab.report.figures.draw import saved
from bias_lab.report.figures.palette import HUES

Array = NDArray[Any]


def row(
    pictures: Mapping[str, Any], *, lines: int | None = None, numbers: bool = False, height: float = 2.3, dpi: int = 110
) -> bytes:
    """Return pictures side by side as the bytes of a PNG, with their titles above.

    pictures: title → (H, W) or (H, W, C) array or tensor. One channel is drawn in greys, and whole numbers (the index
    of a window or region) each in a colour. lines: side of the cells of a grid, in pixels. numbers: whether values are
    written into their pixels. height: in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(height * 1.05 * len(pictures), height), layout="constrained")
    every = np.atleast_1d(figure.subplots(1, len(pictures)))
    for axes, (title, given) in zip(every, pictures.items(), strict=True):
        picture = scaled(given)
        is_index = np.issubdtype(picture.dtype, np.integer) and picture.dtype != np.uint8
        ends: dict[str, Any] = dict(vmin=0, vmax=1) if np.issubdtype(picture.dtype, np.floating) else {}
        axes.imshow(picture, cmap="Pastel1" if is_index else "gray", interpolation="nearest", **ends)
        axes.set_title(title, fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
        if lines:
            for at in range(lines, max(picture.shape[:2]), lines):
                axes.axhline(at - 0.5, color=HUES["transformer"], linewidth=0.8)
                axes.axvline(at - 0.5, color=HUES["transformer"], linewidth=0.8)
        if numbers:
            for (y, x), value in np.ndenumerate(picture[..., 0] if picture.ndim == 3 else picture):
                axes.text(x, y, f"{value:g}", ha="center", va="center", fontsize=6)
    return saved(figure, "png", dpi=dpi)


def scaled(given: Any) -> Array:
    """Return an array as matplotlib shows it: one channel dropped, floats scaled to [0, 1], booleans 0 or 1.

    given: a numpy array or torch tensor of shape (H, W) or (H, W, C). Raises ValueError for another shape.
    """
    picture = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    picture = picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture
    if picture.ndim not in (2, 3):
        raise ValueError(f"an array of shape {picture.shape} is no picture: give (H, W) or (H, W, C)")
    if picture.dtype == bool:  # not scaled, so that an array that is true everywhere is white
        return picture.astype(np.float64)
    if np.issubdtype(picture.dtype, np.floating):
        low, high = float(picture.min()), float(picture.max())
        picture = (picture - low) / (high - low) if high > low else np.zeros_like(picture)
    return picture
