"""Read one image file with Pillow: what is converted on the way, and what is refused with a reason.

| file | result |
|---|---|
| wrong extension | read by its content |
| grey, grey with alpha | one channel |
| CMYK, YCbCr, LAB, palette | RGB |
| transparency: an alpha channel, palette entries, or one value that is transparent | over white |
| 16 bits a channel | the upper 8 |
| values in the lowest part of the bit depth | as they are, with a remark |
| animated | its first frame |
| EXIF orientation | turned upright |
| damaged text, profile, EXIF or checksum of these | read without it |
| empty, truncated, no image, a folder, a pipe or device, a link out of the dataset | refused |
| no permission, floating point, over 89 million pixels | refused |
"""

import io
import struct
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from bias_lab.data.readers import metadata
from bias_lab.errors import plural

EXTENSIONS = frozenset(".jpg .jpeg .png .gif .bmp .webp .tif .tiff .ppm .pgm .pbm".split())
MOST_PIXELS = 89_478_485  # Pillow's own limit for a decompression bomb: a quarter of a gigabyte in RGB
DARKEST = {8: 7, 16: 15}  # bits of a value → the most that a file uses to be remarked on
USUAL = ("uses 7 of 8 bits", "uses 6 of 8 bits")  # remarks that fit a photograph of a dark scene too
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, struct.error)
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation → how the image is turned
WHITE_IS_ZERO = (262, 0)  # TIFF's field PhotometricInterpretation, and its value
BRIGHTEST = {"L;2": 85, "L;4": 17}  # PNG's raw mode → by how much Pillow multiplies a value


class Unreadable(Exception):
    """Says in a few words why a file gives no image."""


class _DamagedError(Unreadable):
    """A file that may be whole without its metadata."""


def read(data: bytes) -> Image.Image:
    """Return the image in a file's bytes, upright, in mode `L` or `RGB`. Raises Unreadable with the reason."""
    return read_with_remark(data)[0]


def read_with_remark(data: bytes) -> tuple[Image.Image, str]:
    """Return the image as `read` does, and a remark: the part of its bit depth that a file uses, or an empty string."""
    if not data:
        raise Unreadable("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of bombs, which are refused below
        try:
            return _read(data)
        except _DamagedError as error:
            reason = error
        for made in metadata.lighter(data):
            try:
                return _read(made)
            except _DamagedError as error:
                reason = error
    raise reason


def _read(data: bytes) -> tuple[Image.Image, str]:
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise _DamagedError("not an image") from error
    except Image.DecompressionBombError as error:
        raise Unreadable(f"more than {MOST_PIXELS:,} pixels: a decompression bomb?") from error
    except Exception as error:  # Pillow raises errors of many classes
        raise _DamagedError(_reason(error)) from error
    if image.width * image.height > MOST_PIXELS:
        raise Unreadable(f"{image.width}x{image.height}: a decompression bomb?")
    try:
        raw = _raw_mode(image)
        image.load()
        low = _low_bytes(data) if raw == "RGB;16B" and isinstance(image.info.get("transparency"), tuple) else None
        converted, remark = _grey_or_rgb(image, raw, low)
        turn = UPRIGHT.get(_orientation(image))
        return converted if turn is None else converted.transpose(turn), remark
    except Unreadable:
        raise
    except Exception as error:  # as above
        raise _DamagedError(_reason(error)) from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:120]
    return "truncated" if "truncated" in text.lower() else f"damaged: {text or type(error).__name__}"


def _raw_mode(image: Image.Image) -> str:
    """Return how a PNG's values are packed (`L;4`, `RGB;16B`), which its mode no longer says, or an empty string."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    arguments = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return arguments if isinstance(arguments, str) else ""


def _low_bytes(data: bytes) -> NDArray[np.uint8]:
    """Return the lower byte of each value (H, W, 3) of a PNG with 16 bits, which Pillow gives in the other order."""
    image = Image.open(io.BytesIO(data))
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
    return np.asarray(image)


def orientation(data: bytes) -> int:
    """Return the EXIF orientation of a file, 2 to 8 where `read` turns its image, else 1."""
    try:
        value = _orientation(Image.open(io.BytesIO(data)))
    except (Image.DecompressionBombError, *_DAMAGE):  # `read` says what is wrong with it
        return 1
    return value if value in UPRIGHT else 1


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:  # EXIF that can't be read turns nothing
        return 1
    return value if isinstance(value, int) else 1


def _grey_or_rgb(image: Image.Image, raw: str, low: NDArray[np.uint8] | None) -> tuple[Image.Image, str]:
    """Convert any of Pillow's modes to `L` or `RGB`, with white where it is transparent. Return the remark too."""
    mode, key = image.mode, image.info.get("transparency")
    if mode.startswith("I"):  # I;16, I;16B and I hold 16 bits, the last in 32
        return _sixteen_bits(image, key)
    if mode == "F":
        raise Unreadable("floating-point pixels, whose white is unknown")
    if mode == "1":
        image = image.convert("L")
    bits = 16 if ";16" in raw else 8
    if mode in ("1", "L", "RGB"):
        remark = "" if mode == "1" else _remark(_highest(image), bits, shown=8)
        if isinstance(key, int | tuple) and not isinstance(key, bool):
            image = _keyed(image, key, raw, low)
        return image, remark
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or key is not None or _has_clear_colours(image):
        clear = image.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode)).convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        laid = Image.alpha_composite(white, clear).convert("L" if mode in ("LA", "La") else "RGB")
        return laid, _remark(_highest(clear.convert("RGB")), bits, shown=8)
    image = image.convert("RGB")
    return image, _remark(_highest(image), bits, shown=8)


def _has_clear_colours(image: Image.Image) -> bool:
    return image.palette is not None and image.palette.mode.endswith("A")


def _highest(image: Image.Image) -> int:
    return int(pixels(image).max(initial=0))


def _remark(highest: int, bits: int, *, shown: int) -> str:
    """Return a remark if values reach only a part of their range. shown: bits of `highest`, the upper ones of `bits`.

    An image that is black as a whole says nothing about its range, unless its lower bits are not shown.
    """
    used = highest.bit_length() + (bits - shown)
    if used > DARKEST[bits] or (highest == 0 and bits == shown):
        return ""
    return f"uses {'at most ' if highest == 0 else ''}{used} of {bits} bits"


def _sixteen_bits(image: Image.Image, key: object) -> tuple[Image.Image, str]:
    values = np.asarray(image).astype(np.int64)
    if values.min(initial=0) < 0:
        raise Unreadable("negative numbers as pixels")
    if values.max(initial=0) > 65535:
        raise Unreadable("32-bit integers")
    remark = _remark(int(values.max(initial=0)), 16, shown=16)
    field, zero = WHITE_IS_ZERO
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(field) == zero:
        values = 65535 - values
    upper = (values >> 8).astype(np.uint8)
    if isinstance(key, int):
        upper[values == key] = 255
    return Image.fromarray(upper), remark


def _keyed(image: Image.Image, key: int | tuple[int, ...], raw: str, low: NDArray[np.uint8] | None) -> Image.Image:
    """Return the image with white where its pixels have the value that is transparent. low: the lower bytes if any."""
    values = np.array(image)
    wanted = np.asarray(key) * BRIGHTEST.get(raw, 1)
    if low is not None:
        clear = ((values == wanted >> 8) & (low == (wanted & 255))).all(-1)
    else:
        clear = values == wanted if values.ndim == 2 else (values == wanted).all(-1)
    values[clear] = 255
    return Image.fromarray(values)


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels (H, W, C) of an image in mode `L` or `RGB`."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)


def resize(image: Image.Image, side: int | tuple[int, int] | None, channels: int) -> NDArray[np.uint8]:
    """Return the central part of an image that was resized to cover (H, W): (H, W, channels).

    side: H and W in pixels, one number for a square, None for no resizing. The resizing is bilinear and antialiased. An
    image of that size stays as it is, bit by bit.
    """
    image = image.convert("RGB") if channels == 3 and image.mode == "L" else image
    if side is None:
        return pixels(image)
    return pixels(cover(image, (side, side) if isinstance(side, int) else side, Image.Resampling.BILINEAR))


def cover(image: Image.Image, side: tuple[int, int], how: Image.Resampling) -> Image.Image:
    """Return the central part of an image that was resized, with its aspect kept, to cover (H, W)."""
    H, W = side
    if image.size == (W, H):
        return image
    scale = max(H / image.height, W / image.width)
    width, height = max(W, round(image.width * scale)), max(H, round(image.height * scale))
    left, top = (width - W) // 2, (height - H) // 2
    return image.resize((width, height), how).crop((left, top, left + W, top + H))


def on_depth(names: Sequence[str], remarks: Sequence[str]) -> list[str]:
    """Return a line for the user if images use a part of their bit depth. names and remarks: an item an image.

    A few dark photographs are usual, so six or seven of eight bits are reported only if no image uses more.
    """
    dark = [(name, remark) for name, remark in zip(names, remarks, strict=True) if remark]
    if len(dark) < len(names):
        dark = [(name, remark) for name, remark in dark if remark not in USUAL]
    if not dark:
        return []
    shown = ", ".join(f"{name} {remark}" for name, remark in dark[:3]) + (", …" if len(dark) > 3 else "")
    stay = "stays" if len(dark) == 1 else "stay"
    what = f"{len(dark):,} of {plural(len(names), 'image')} {stay} dark, since their values reach a part of the range"
    return [f"{what} ({shown}): scale the values to the whole range if that is not meant"]
