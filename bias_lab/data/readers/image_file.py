"""One image file → pixels: what is read, what is mended on the way, and what is refused with a reason. Pillow alone.

| file | answer |
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
MOST_PIXELS = 89_478_485  # Pillow's own mark of a decompression bomb: a quarter of a gigabyte in RGB
JPEG = b"\xff\xd8\xff"
_SEGMENT, _FRAME = struct.Struct(">BBH"), struct.Struct(">BHHB")
_FRAMES, _SCAN = frozenset((0xC0, 0xC1, 0xC2)), 0xDA  # baseline, extended, progressive
_HARMLESS = _FRAMES | {0xC4, 0xDB, 0xDD, 0xE0, 0xEE, 0xFE}  # tables, JFIF, Adobe, comment: no EXIF, no further pictures
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    struct.error,
    zlib.error,
)  # Pillow raises all


class Bad(Exception):
    """A file that gives no image; its text is the reason, in a few words."""


def read(data: bytes) -> Image.Image:
    """The picture in a file's bytes, upright, as mode `L` or `RGB`. Raises Bad with the reason."""
    if not data:
        raise Bad("empty file")
    if data.startswith(JPEG) and (quick := _plain_jpeg(data)) is not None:
        return quick
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of bombs; the latter are refused below
        try:
            image: Image.Image = Image.open(io.BytesIO(data))
        except UnidentifiedImageError:
            raise Bad("not an image") from None
        except Image.DecompressionBombError:
            raise Bad(f"more than {MOST_PIXELS:,} pixels: a decompression bomb?") from None
        except _DAMAGE as error:
            raise Bad(_reason(error)) from None
        if image.width * image.height > MOST_PIXELS:
            raise Bad(f"{image.width}x{image.height}: a decompression bomb?")
        try:
            image.load()
            if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                image = ImageOps.exif_transpose(image)
            return _plain(image)
        except _DAMAGE as error:
            raise Bad(_reason(error)) from None


def _plain_jpeg(data: bytes) -> Image.Image | None:
    """A JPEG without metadata that matter, decoded by Pillow's own decoder but without its reading of the header.

    For small pictures that reading takes twice as long as decoding. None: not such a file, or not sound.
    """
    at, shape = len(JPEG) - 1, None
    while at + 9 < len(data):
        mark, kind, length = _SEGMENT.unpack_from(data, at)
        if kind in _FRAMES:
            shape = _FRAME.unpack_from(data, at + 4)  # bits, rows, columns, channels
        elif kind == _SCAN:
            break
        if mark != 0xFF or kind not in _HARMLESS:
            return None
        at += 2 + length
    mode = {1: "L", 3: "RGB"}.get(shape[3]) if shape is not None and shape[0] == 8 else None
    if shape is None or mode is None or not 0 < shape[1] * shape[2] <= MOST_PIXELS:
        return None
    try:
        return Image.frombytes(mode, (shape[2], shape[1]), data, "jpeg", mode, "")
    except (ValueError, OSError):
        return None  # let Pillow's reader say what is wrong with it


def _reason(error: Exception) -> str:
    return "truncated" if "truncated" in str(error).lower() else f"damaged: {error}"


def _plain(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as `L` or `RGB`."""
    mode = image.mode
    if mode in ("L", "RGB"):
        return image
    if mode == "1":
        return image.convert("L")
    if mode.startswith("I"):  # I;16, I;16B, I: 16 bits, in more of them
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Bad("32-bit integers")
        return Image.fromarray((values >> 8).astype(np.uint8))
    if mode == "F":
        raise Bad("floating-point pixels, whose white is unknown")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        return Image.alpha_composite(white, clear).convert("L" if mode in ("LA", "La") else "RGB")
    return image.convert("RGB")


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, C) of a picture in mode `L` or `RGB`."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)


def fit(image: Image.Image, side: int | None, channels: int) -> NDArray[np.uint8]:
    """A picture at a dataset's size: shorter side resized to `side` (bilinear, antialiased), then the central square.

    An image of that size already is left as it is, to the last bit. side None: no resizing. Returns (H, W, channels).
    """
    image = image.convert("RGB") if channels == 3 and image.mode == "L" else image
    if side is not None and image.size != (side, side):
        scale = side / min(image.size)
        width, height = max(side, round(image.width * scale)), max(side, round(image.height * scale))
        left, top = (width - side) // 2, (height - side) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))
    return pixels(image)
