"""Damage beside the pixels costs no image: text, profiles, EXIF, animation, checksums of ancillary chunks."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bias_lab.data.readers import metadata
from bias_lab.data.readers.image_file import Unreadable, pixels, read
from tests.data.pictures_on_disk import encoded, picture

RIGHT = np.asarray(picture(5, side=24))


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    right = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", right if checksum is None else checksum)


@pytest.mark.parametrize(
    "odd",
    [
        chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 3_000_000)),
        chunk(b"iTXt", b"key\0\1\0\0\0" + zlib.compress(b"a" * 3_000_000)),
        chunk(b"tEXt", b"a\0b", checksum=1),
        chunk(b"zTXt", b"a\0\7no compression"),
        chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * 100)[:20]),
        chunk(b"iCCP", b"name\0\3" + b"x" * 30),
        chunk(b"iCCP", b"", checksum=1),
        chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff", checksum=7),
        chunk(b"eXIf", b"nonsense"),
        chunk(b"pHYs", b"\0"),
        chunk(b"gAMA", b"\0"),
        chunk(b"sRGB", b""),
        chunk(b"cHRM", b"\0" * 3),
        chunk(b"acTL", struct.pack(">II", 0, 0)),
        chunk(b"acTL", b""),
        chunk(b"fcTL", b"\0" * 3),
        chunk(b"tIME", b"\0"),
        chunk(b"tRNS", b""),  # too short for a colour
        chunk(b"abCd", b"unknown", checksum=3),
    ],
)
def test_an_odd_chunk_of_a_png_costs_no_pixels(odd: bytes) -> None:
    data = encoded(picture(5, side=24))
    assert np.array_equal(pixels(read(data[:33] + odd + data[33:])), RIGHT)


def test_a_transparent_value_counts_although_its_checksum_is_wrong() -> None:
    data = encoded(Image.fromarray(np.array([[3, 9]], np.uint8)))
    made = data[:33] + chunk(b"tRNS", struct.pack(">H", 3), checksum=1) + data[33:]
    assert pixels(read(made))[0, :, 0].tolist() == [255, 9]


def test_the_checksum_of_the_pixels_still_counts() -> None:
    data = bytearray(encoded(picture(5, side=24)))
    at = data.index(b"IDAT")
    data[at + 20] ^= 0xFF
    with pytest.raises(Unreadable):
        read(bytes(data))


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


@pytest.mark.parametrize(
    "odd",
    [
        segment(0xE1, b"Exif\0\0"),
        segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta"),
        segment(0xE2, b"ICC_PROFILE\0\1\1" + b"\0" * 9),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff"),
        segment(0xE2, b"MPF\0"),
        segment(0xED, b"Photoshop 3.0\x008BIM\xff"),
        segment(0xFE, b"\xff\xfe comment"),
        segment(0xE1, b"Exif\0\0MM\0*")[:-6] + b"no length of its own",  # the length is too short
    ],
)
def test_an_odd_segment_of_a_jpeg_costs_no_pixels(odd: bytes) -> None:
    data = encoded(picture(5, side=24), "JPEG", quality=95)
    assert np.array_equal(pixels(read(data[:2] + odd + data[2:])), pixels(read(data)))


def test_orientation_is_kept_where_exif_can_be_read_and_something_else_cannot() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(5, side=24), exif=exif)
    odd = data[:33] + chunk(b"zTXt", b"a\0\7") + data[33:]
    assert np.array_equal(pixels(read(odd)), np.rot90(RIGHT, -1))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_turns_nothing(value: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert np.array_equal(pixels(read(encoded(picture(5, side=24), exif=exif))), RIGHT)


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_odd_field_of_a_tiff_costs_no_pixels(order: str) -> None:
    """A field of EXIF points outside the file, and a date has an impossible type."""
    image = picture(5, side=24)
    strip = image.tobytes()
    kept = [(256, 4, 24), (257, 4, 24), (258, 3, 8), (259, 3, 1), (262, 3, 2), (273, 4, 8), (277, 3, 3), (278, 4, 24)]
    odd = [(279, 4, len(strip)), (306, 99, 7), (34665, 4, 2**31), (34675, 7, 2**31)]
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 3 if tag == 258 else 1)
        + (
            struct.pack(f"{order}I", 8 + len(strip) + 256)
            if tag == 258
            else struct.pack(f"{order}HH" if kind == 3 else f"{order}I", *((value, 0) if kind == 3 else (value,)))
        )
        for tag, kind, value in kept + odd
    )
    magic = b"II*\0" if order == "<" else b"MM\0*"
    start = magic + struct.pack(f"{order}I", 8 + len(strip)) + strip
    directory = struct.pack(f"{order}H", len(kept + odd)) + entries + bytes(4)
    data = start + directory.ljust(256, b"\0") + struct.pack(f"{order}3H", 8, 8, 8)
    assert np.array_equal(pixels(read(data)), RIGHT)
    (least,) = list(metadata.lighter(data))
    assert Image.open(io.BytesIO(least)).tag_v2.keys().isdisjoint({306, 34665, 34675})
    assert np.array_equal(pixels(read(least)), RIGHT)


@pytest.mark.parametrize("kind", [b"EXIF", b"XMP ", b"ICCP"])
def test_an_odd_chunk_of_a_webp_costs_no_pixels(kind: bytes) -> None:
    options = {b"EXIF": {"exif": Image.Exif().tobytes()}, b"XMP ": {"xmp": b"x"}, b"ICCP": {"icc_profile": b"x"}}
    data = encoded(picture(5, side=24), "WEBP", lossless=True, **options[kind])
    place = data.index(kind) + 4
    odd = data[:place] + b"\xf0\xff\xff\x7f" + data[place + 4 :] if kind != b"ICCP" else data
    assert np.array_equal(pixels(read(odd)), RIGHT)
    *_, least = metadata.lighter(data)
    assert kind not in least
    assert np.array_equal(pixels(read(least)), RIGHT)


def test_nothing_is_left_out_of_other_formats_and_of_what_has_nothing() -> None:
    for kind in ("BMP", "GIF", "PPM"):
        assert list(metadata.lighter(encoded(picture(5), kind))) == []
    assert list(metadata.lighter(encoded(picture(5)))) == []
    for data in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"II*\0", b"RIFF\0\0\0\0WEBP", b"\xff\xd8\xff"):
        assert all(len(made) <= len(data) + 8 for made in metadata.lighter(data))
