"""Read one mask file with Pillow: a number for each pixel, or the reason why a file is refused. No torch.

| file | result |
|---|---|
| 8 or 16 bits of grey | its values |
| 1, 2 or 4 bits of grey | its values, as the file has them |
| a palette | the numbers of its entries, whatever their colours |
| RGB, an alpha channel, floating point | refused |
| JPEG | refused, since its values are blurred |
| animated, damaged, empty | refused |
"""

import hashlib
import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bias_lab.data.readers.image_file import BRIGHTEST, MOST_PIXELS, Unreadable, cover

VOID = 255  # the value of pixels that belong to no class and count nowhere

Values = NDArray[np.int64]  # (H, W)


def read(data: bytes) -> Values:
    """Return the value of each pixel (H, W) of a mask. Raises Unreadable with the reason."""
    if not data:
        raise Unreadable("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            raw = _raw_mode(image)
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(f"{image.width}x{image.height}: a decompression bomb?")
            if reason := _refused(image):
                raise Unreadable(reason)
            values = np.asarray(image).astype(np.int64)
    except Unreadable:
        raise
    except Exception as error:  # Pillow raises errors of many classes
        text = " ".join(str(error).split())[:80]
        raise Unreadable(f"not a mask that can be read: {text or type(error).__name__}") from error
    return values // BRIGHTEST.get(raw, 1)


def _refused(image: Image.Image) -> str:
    """Return why an image is no mask, or an empty string."""
    if image.format == "JPEG":
        return "a JPEG, whose values are blurred: save masks as PNG"
    if getattr(image, "n_frames", 1) > 1:
        return "animated: save one frame as PNG"
    if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
        return ""
    if image.mode in ("RGB", "RGBA", "LA", "PA", "CMYK"):
        return f"a colour mask ({image.mode}): save a number for each class, in 8-bit grey or with a palette"
    return f"of the mode {image.mode}: save a number for each class, in 8-bit grey or with a palette"


def _raw_mode(image: Image.Image) -> str:
    """Return how a PNG packs its values (`L;4`), from which Pillow makes 8 bits by a factor."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    arguments = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return arguments if isinstance(arguments, str) else ""


def value_hash(values: NDArray[Any]) -> str:
    """Return the BLAKE2b-128 of a mask's values (H, W) and its shape, as 32 hex digits. Values are 0 to 65535."""
    H, W = values.shape
    return hashlib.blake2b(f"{H}x{W}:".encode() + values.astype("<u2").tobytes(), digest_size=16).hexdigest()


def numbered(values: Values, classes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return (H, W): the place of each pixel's value in `classes` (ascending), and VOID for every other value.

    >>> numbered(np.array([[0, 7, 255]]), np.array([0, 7]))
    array([[  0,   1, 255]], dtype=uint8)
    """
    place = np.minimum(np.searchsorted(classes, values), len(classes) - 1)
    return np.where(classes[place] == values, place, VOID).astype(np.uint8)


def resize(mask: NDArray[np.uint8], side: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a mask (H, W) resized and cut as its image is (`image_file.cover`), by the nearest pixel."""
    return np.asarray(cover(Image.fromarray(mask), side, Image.Resampling.NEAREST))
