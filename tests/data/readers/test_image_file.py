"""Every odd kind of file has an answer, and the pixels are those that Pillow gives."""

import io

import numpy as np
import pytest
from PIL import Image

from bias_lab.data.readers import image_file
from bias_lab.data.readers.image_file import Unreadable, pixels, read, resize
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
