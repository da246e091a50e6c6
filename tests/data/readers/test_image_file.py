"""Every odd kind of file has an answer, and the pixels are those that Pillow gives."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bias_lab.data.readers import image_file
from bias_lab.data.readers.image_file import Unreadable, pixels, read, read_with_remark, resize
from tests.data.pictures_on_disk import bomb, encoded, picture


def test_a_picture_is_its_pixels_whatever_the_format() -> None:
    image = picture(3)
    for kind in ("PNG", "BMP", "TIFF", "PPM", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        assert np.array_equal(pixels(read(encoded(image, kind, **options))), np.asarray(image))


def test_grey_has_one_channel_and_grey_with_alpha_too() -> None:
    assert pixels(read(encoded(picture(0, mode="L")))).shape == (12, 12, 1)
    assert pixels(read(encoded(picture(0, mode="LA")))).shape == (12, 12, 1)
    assert pixels(read(encoded(picture(0, mode="1")))).shape == (12, 12, 1)


def test_cmyk_jpegs_become_rgb() -> None:
    image = picture(5, side=16)
    resized = pixels(read(encoded(image.convert("CMYK"), "JPEG", quality=95)))
    assert resized.shape == (16, 16, 3)
    assert np.abs(resized.astype(int) - np.asarray(image)).mean() < 12


def test_sixteen_bits_keep_their_upper_eight() -> None:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    assert np.array_equal(pixels(read(encoded(Image.fromarray(values))))[:, :, 0], np.arange(256).reshape(16, 16))


def test_transparency_lies_over_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert pixels(read(encoded(image))).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_a_palette_with_a_transparent_entry_too() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert pixels(read(encoded(image, "GIF", transparency=0)))[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_an_animation_is_its_first_frame() -> None:
    first, second = picture(1).convert("P"), picture(2).convert("P")
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert np.array_equal(pixels(read(data)), np.asarray(first.convert("RGB")))


def test_exif_orientation_turns_the_picture_upright() -> None:
    image = picture(4, side=10).crop((0, 0, 10, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    assert np.array_equal(pixels(read(encoded(image, "PNG", exif=exif))), np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"GIF", "not an image"),
        (b"hello", "not an image"),
        (encoded(picture(0, side=40), "JPEG")[:600], "truncated"),
        (encoded(picture(0, side=40))[:300], ""),
        (bomb(), "decompression bomb"),
    ],
)
def test_what_is_no_picture_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as bad:
        read(data)
    assert reason in str(bad.value)
    assert "\n" not in str(bad.value)


def test_every_truncation_is_an_answer_and_no_crash() -> None:
    """A file that is cut at any byte gives a picture of the right size or is Unreadable, nothing else."""
    for kind in ("PNG", "GIF", "BMP", "JPEG"):
        data = encoded(picture(2, side=8), kind)
        for length in range(0, len(data), 3):
            try:
                assert read(data[:length]).size == (8, 8)
            except Unreadable:
                continue


def test_a_flipped_byte_is_an_answer_and_no_crash() -> None:
    data = encoded(picture(2, side=8))
    for place in range(8, len(data), 2):
        broken = bytearray(data)
        broken[place] ^= 0xFF
        try:
            read(bytes(broken))
        except Unreadable:
            continue


def test_resize_leaves_an_image_of_that_size_alone() -> None:
    image = picture(1)
    assert np.array_equal(resize(image, 12, 3), np.asarray(image))


def test_resize_scales_the_shorter_side_and_takes_the_centre() -> None:
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste("blue", (20, 0, 40, 20))
    resized = resize(wide, 10, 3)
    assert resized.shape == (10, 10, 3)
    assert resized[5, 5].tolist() == [0, 0, 255]
    assert resize(wide.rotate(90, expand=True), 10, 3).shape == (10, 10, 3)


def test_resize_gives_grey_three_channels_where_asked() -> None:
    resized = resize(picture(1, mode="L"), 8, 3)
    assert resized.shape == (8, 8, 3)
    assert np.array_equal(resized[..., 0], resized[..., 2])
    assert resize(picture(1, mode="L"), 8, 1).shape == (8, 8, 1)


def test_the_list_of_extensions_covers_what_pillow_calls_the_formats() -> None:
    known = Image.registered_extensions()
    assert set(known) >= image_file.EXTENSIONS


def test_reading_needs_no_seek_back_to_the_file() -> None:
    """`read` takes bytes, so that the rows of a parquet file and the files of a folder are read alike."""
    assert np.array_equal(pixels(read(io.BytesIO(encoded(picture(7))).read())), np.asarray(picture(7)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"quality": 100, "subsampling": 0}, {"quality": 20, "progressive": True}])
def test_a_jpeg_is_turned_upright(mode: str, options: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (33, 17, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    turned = encoded(Image.fromarray(noise).convert(mode), "JPEG", exif=exif, **options)
    upright = encoded(Image.fromarray(noise).convert(mode), "JPEG", **options)
    assert np.array_equal(pixels(read(turned)), np.rot90(pixels(read(upright)), -1))


def test_a_jpeg_that_claims_to_be_huge_is_not_decoded() -> None:
    data = bytearray(encoded(picture(0), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(Unreadable, match="bomb"):
        read(bytes(data))


# --- transparency ----------------------------------------------------------------------------------------------------

GREYS = np.array([[0, 85, 170, 255]] * 3, np.uint8)  # those of 2 bits, 4 bits and 8 bits


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: list[bytes], *chunks: bytes) -> bytes:
    """Return a PNG of packed rows. colour: 0 grey, 2 RGB, 3 palette. chunks: those before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *chunks, pixels, chunk(b"IEND", b"")])


@pytest.mark.parametrize(
    ("depth", "row", "key", "clear"),
    [
        (1, b"\x30", 1, [2, 3]),  # values 0 0 1 1
        (1, b"\x30", 0, [0, 1]),
        (2, b"\x1b", 2, [2]),  # values 0 1 2 3
        (4, b"\x05\xaf", 5, [1]),  # values 0 5 10 15
        (8, bytes([0, 85, 170, 255]), 85, [1]),
        (16, struct.pack(">4H", 0, 0x5555, 0x5556, 0xFFFF), 0x5555, [1]),
    ],
)
def test_one_transparent_grey_is_white_whatever_the_depth(depth: int, row: bytes, key: int, clear: list[int]) -> None:
    plain = pixels(read(png(4, 1, depth, 0, [row])))[0, :, 0]
    keyed = pixels(read(png(4, 1, depth, 0, [row], chunk(b"tRNS", struct.pack(">H", key)))))[0, :, 0]
    assert keyed.tolist() == [255 if place in clear else value for place, value in enumerate(plain)]


@pytest.mark.parametrize("depth", [8, 16])
def test_one_transparent_colour_is_white_and_its_neighbours_are_not(depth: int) -> None:
    """A value of 16 bits is compared as a whole, although its upper byte alone is shown."""
    colours = [(10, 20, 30), (10, 20, 31), (11, 20, 30)]
    form = ">3B" if depth == 8 else ">3H"
    row = b"".join(struct.pack(form, *colour) for colour in colours)
    made = pixels(read(png(3, 1, depth, 2, [row], chunk(b"tRNS", struct.pack(">3H", *colours[0])))))[0]
    shown = [[255] * 3, *([list(colour) for colour in colours[1:]] if depth == 8 else [[0] * 3, [0] * 3])]
    assert made.tolist() == shown


@pytest.mark.parametrize("alphas", [b"\x00", b"\xff\x00", b"\x80\xff\x40"])
def test_a_palette_may_have_an_alpha_for_each_entry(alphas: bytes) -> None:
    palette = bytes([10, 20, 30, 200, 100, 50, 1, 2, 3])
    made = pixels(read(png(3, 1, 8, 3, [bytes([0, 1, 2])], chunk(b"PLTE", palette), chunk(b"tRNS", alphas))))[0]
    for entry in range(3):
        alpha = alphas[entry] if entry < len(alphas) else 255
        colour = np.array(list(palette[3 * entry : 3 * entry + 3]))
        assert np.abs(made[entry] - (colour * alpha + 255 * (255 - alpha)) / 255).max() <= 1


def test_transparency_means_the_same_in_every_mode() -> None:
    """A picture whose left half is clear, in each mode that can hold it, is one image."""
    grey = np.array(picture(3, mode="L"))
    grey[grey == 7] = 8
    mask = np.full(grey.shape, 255, np.uint8)
    mask[:, :6] = 0
    right = np.where(mask == 0, 255, grey)
    keyed = np.where(mask == 0, 7, grey).astype(np.uint8)
    alpha = Image.fromarray(mask)
    colour = Image.merge("RGB", [Image.fromarray(grey)] * 3)
    keyed_colour = Image.merge("RGB", [Image.fromarray(keyed)] * 3)
    palette = Image.fromarray(keyed)
    palette.putpalette([level for level in range(256) for _ in range(3)], "RGB")
    grey_alpha = Image.merge("LA", (Image.fromarray(grey), alpha))
    for data in (
        encoded(Image.fromarray(keyed), transparency=7),
        encoded(Image.fromarray(keyed.astype(np.uint16) * 257), transparency=7 * 257),
        encoded(grey_alpha),
        encoded(grey_alpha, "TIFF"),
    ):
        assert np.array_equal(pixels(read(data))[..., 0], right)
    for data in (
        encoded(keyed_colour, transparency=(7, 7, 7)),
        encoded(Image.merge("RGBA", (*colour.split(), alpha))),
        encoded(Image.merge("RGBA", (*colour.split(), alpha)), "WEBP", lossless=True),
        encoded(Image.merge("RGBA", (*colour.split(), alpha)), "TIFF"),
        encoded(palette, transparency=7),
        encoded(palette, transparency=bytes([255] * 7 + [0])),
        encoded(palette, "GIF", transparency=7),
    ):
        made = pixels(read(data))
        assert all(np.array_equal(made[..., band], right) for band in range(made.shape[2]))


def test_a_tiff_whose_zero_is_white_is_turned_round() -> None:
    values = np.array([[0, 65535, 256]], np.uint16)
    data = encoded(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    assert pixels(read(data))[0, :, 0].tolist() == [255, 0, 254]


# --- bit depth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "remark"),
    [
        (np.full((4, 4), 1, np.uint8), "uses 1 of 8 bits"),
        (np.full((4, 4), 15, np.uint8), "uses 4 of 8 bits"),
        (np.full((4, 4, 3), 31, np.uint8), "uses 5 of 8 bits"),
        (np.full((4, 4), 128, np.uint8), ""),
        (np.full((4, 4), 0, np.uint8), ""),  # black as a whole
        (np.full((4, 4), 159, np.uint16), "uses 8 of 16 bits"),
        (np.full((4, 4), 1023, np.uint16), "uses 10 of 16 bits"),
        (np.full((4, 4), 4095, np.uint16), "uses 12 of 16 bits"),
        (np.full((4, 4), 32768, np.uint16), ""),
        (np.array([[False, True]]), ""),
    ],
)
def test_a_file_that_uses_a_part_of_its_depth_gets_a_remark(values: np.ndarray, remark: str) -> None:
    for kind in ("PNG", "TIFF"):
        image, said = read_with_remark(encoded(Image.fromarray(values), kind))
        assert said == remark
    if values.dtype == np.uint8 and values.ndim == 3:
        assert np.array_equal(pixels(image), values)


def test_sixteen_bits_of_colour_are_remarked_on_too() -> None:
    for value, remark in ((4095, "uses 12 of 16 bits"), (159, "uses at most 8 of 16 bits"), (40_000, "")):
        assert read_with_remark(png(1, 1, 16, 2, [struct.pack(">3H", value, value, value)]))[1] == remark


def test_the_line_on_depth_names_files_and_leaves_out_a_few_dark_photographs() -> None:
    names = ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert image_file.on_depth(names, [""] * 5) == []
    assert image_file.on_depth(names, ["", "uses 7 of 8 bits", "", "", "uses 6 of 8 bits"]) == []
    (line,) = image_file.on_depth(names, ["uses 7 of 8 bits"] * 5)
    assert line.startswith("5 of 5 images stay dark, since their values reach a part of the range (a.png uses 7 of 8")
    (line,) = image_file.on_depth(names, ["", "", "uses 8 of 16 bits", "uses 7 of 8 bits", ""])
    assert "1 of 5 images stays dark" in line
    assert "(c.png uses 8 of 16 bits)" in line
