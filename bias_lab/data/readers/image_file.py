"""Read one image file with Pillow: what is converted on the way, and what is refused with a reason.

| file | result |
|---|---|
| wrong extension | read by its content |
| grey, grey with alpha | one channel |
| CMYK, YCbCr, LAB, palette | RGB |
| transparency | over white |
| 16 bits a channel | the upper 8 |
| animated | its first frame |
| EXIF orientation | turned upright |
| empty, truncated, no image, a folder, a link out of the dataset | refused |
| no permission, floating point, over 89 million pixels | refused |
"""

import io
import struct
import warnings
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

EXTENSIONS = frozenset(".jpg .jpeg .png .gif .bmp .webp .tif .tiff .ppm .pgm .pbm".split())
MOST_PIXELS = 89_478_485  # Pillow's own limit for a decompression bomb: a quarter of a gigabyte in RGB
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    struct.error,
    zlib.error,
)  # Pillow's errors


class Unreadable(Exception):
    """Says in a few words why a file gives no image."""


def read(data: bytes) -> Image.Image:
    """Return the image in a file's bytes, upright, in mode `L` or `RGB`. Raises Unreadable with the reason."""
    if not data:
        raise Unreadable("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of bombs, which are refused below
        try:
            image: Image.Image = Image.open(io.BytesIO(data))
        except UnidentifiedImageError:
            raise Unreadable("not an image") from None
        except Image.DecompressionBombError:
            raise Unreadable(f"more than {MOST_PIXELS:,} pixels: a decompression bomb?") from None
        except _DAMAGE as error:
            raise Unreadable(_reason(error)) from None
        if image.width * image.height > MOST_PIXELS:
            raise Unreadable(f"{image.width}x{image.height}: a decompression bomb?")
        try:
            image.load()
            if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                image = ImageOps.exif_transpose(image)
            return _grey_or_rgb(image)
        except _DAMAGE as error:
            raise Unreadable(_reason(error)) from None


def _reason(error: Exception) -> str:
    return "truncated" if "truncated" in str(error).lower() else f"damaged: {error}"


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    """Convert any of Pillow's modes to `L` or `RGB`."""
    mode = image.mode
    if mode in ("L", "RGB"):
        return image
    if mode == "1":
        return image.convert("L")
    if mode.startswith("I"):  # I;16, I;16B and I hold 16 bits, the last in 32
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("32-bit integers")
        return Image.fromarray((values >> 8).astype(np.uint8))
    if mode == "F":
        raise Unreadable("floating-point pixels, whose white is unknown")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        return Image.alpha_composite(white, clear).convert("L" if mode in ("LA", "La") else "RGB")
    return image.convert("RGB")


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels (H, W, C) of an image in mode `L` or `RGB`."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)


def resize(image: Image.Image, side: int | None, channels: int) -> NDArray[np.uint8]:
    """Return the central square of an image whose shorter side was resized to `side`: (side, side, channels).

    The resizing is bilinear and antialiased. An image of that size stays as it is, bit by bit. side None: no resizing.
    """
    image = image.convert("RGB") if channels == 3 and image.mode == "L" else image
    if side is not None and image.size != (side, side):
        scale = side / min(image.size)
        width, height = max(side, round(image.width * scale)), max(side, round(image.height * scale))
        left, top = (width - side) // 2, (height - side) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))
    return pixels(image)
