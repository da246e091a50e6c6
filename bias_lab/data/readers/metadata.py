"""Leave out what an image file says beside its pixels, so that damage there costs no image whose pixels are whole.

| format | left out | kept, since pixels depend on it |
|---|---|---|
| PNG | text, profiles, times, animation; checksums of ancillary chunks are made anew | transparency (tRNS) |
| JPEG | comments and application segments | JFIF (APP0) and Adobe's colour transform (APP14) |
| TIFF | every field that does not describe the pixels | 31 fields |
| WebP | ICCP, EXIF and XMP chunks | the image, its alpha channel, the frames |

EXIF is kept in a first attempt, because it may hold the orientation.
"""

import struct
import zlib
from collections.abc import Callable, Iterator

PNG, JPEG, RIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF"
START_OF_SCAN, APP0, APP1, APP14, APP15, COMMENT = 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
TIFF_FIELDS = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323)
    + (324, 325, 338, 339, 347, 512, 513, 514, 529, 530, 532)
)
ORIENTATION = 274  # TIFF and EXIF
LEAST_KEY = {0: 2, 2: 6, 3: 1}  # PNG colour type → the fewest bytes of its tRNS chunk


def lighter(data: bytes) -> Iterator[bytes]:
    """Yield a file's bytes with fewer and fewer metadata. Nothing is yielded for a format that is not listed above."""
    strip = _stripper(data)
    if strip is None:
        return
    before = data
    for keep_exif in (True, False):
        try:
            made = strip(data, keep_exif)
        except (struct.error, IndexError):  # the structure itself is cut off
            return
        if made != before:
            before = made
            yield made


def _stripper(data: bytes) -> Callable[[bytes, bool], bytes] | None:
    if data.startswith(PNG):
        return _png
    if data.startswith(JPEG):
        return _jpeg
    if data.startswith(RIFF) and data[8:12] == b"WEBP":
        return _webp
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff
    return None


def _png(data: bytes, keep_exif: bool) -> bytes:
    kept, at, colour = [PNG], len(PNG), data[25]
    while at + 12 <= len(data):
        (length,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        end = at + 12 + length
        content = data[at + 8 : end - 4]
        ancillary = bool(kind[:1].islower())
        if not ancillary:
            kept.append(data[at:end])
        elif (kind == b"eXIf" and keep_exif) or (kind == b"tRNS" and length >= LEAST_KEY.get(colour, 1)):
            kept.append(data[at : at + 8] + content + struct.pack(">I", zlib.crc32(kind + content)))
        at = end
    return b"".join([*kept, data[at:]])


def _jpeg(data: bytes, keep_exif: bool) -> bytes:
    kept, at = [JPEG], 2
    while True:
        at = data.find(b"\xff", at)  # bytes between segments are skipped, as every decoder does
        while at >= 0 and data[at + 1] == 0xFF:
            at += 1
        if at < 0:
            return b"".join(kept)
        marker = data[at + 1]
        if marker == START_OF_SCAN:
            return b"".join([*kept, data[at:]])
        if marker == 0 or 0xD0 <= marker <= 0xD9:  # no segment
            at += 2
            continue
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        exif = keep_exif and marker == APP1 and data[at + 4 : at + 10] == b"Exif\0\0"
        if exif or marker in (APP0, APP14) or not (APP0 <= marker <= APP15 or marker == COMMENT):
            kept.append(data[at:end])
        at = max(end, at + 4)


def _webp(data: bytes, keep_exif: bool) -> bytes:
    left_out = (b"ICCP", b"XMP ") if keep_exif else (b"ICCP", b"XMP ", b"EXIF")
    kept, at = [], 12
    while at + 8 <= len(data):
        kind, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        end = at + 8 + length + length % 2
        chunk = data[at:end]
        if kind == b"VP8X":  # its flags say which chunks follow: 0x20 ICCP, 0x08 EXIF, 0x04 XMP
            chunk = chunk[:8] + bytes([chunk[8] & (0xDB if keep_exif else 0xD3)]) + chunk[9:]
        if kind not in left_out:
            kept.append(chunk)
        at = end
    body = b"WEBP" + b"".join(kept)
    return RIFF + struct.pack("<I", len(body)) + body


def _tiff(data: bytes, keep_exif: bool) -> bytes:
    """Return the file with the first directory rewritten in its place, without the fields that are left out."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    entries = [data[at + 2 + 12 * k : at + 14 + 12 * k] for k in range(count)]
    fields = TIFF_FIELDS if keep_exif else TIFF_FIELDS - {ORIENTATION}
    kept = [each for each in entries if struct.unpack_from(f"{order}H", each)[0] in fields]
    made = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return data[:at] + made + data[at + len(made) :]
