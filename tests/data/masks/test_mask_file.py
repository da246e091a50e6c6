"""Test which files are read as masks, and what is refused with which words."""

import io

import numpy as np
import pytest
from PIL import Image

from bias_lab.data.masks import mask_file
from bias_lab.data.readers import image_file
from bias_lab.data.readers.image_file import Unreadable

VALUES = np.array([[0, 1, 7], [255, 3, 3]])


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def palette() -> Image.Image:
    image = Image.fromarray(VALUES.astype(np.uint8), "P")
    image.putpalette([k * 5 % 256 for k in range(768)])
    return image


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (saved(Image.fromarray(VALUES.astype(np.uint8))), VALUES),
        (saved(Image.fromarray((VALUES * 100).astype(np.uint16))), VALUES * 100),
        (saved(palette()), VALUES),
        (saved(palette(), transparency=0), VALUES),
        (saved(Image.fromarray(VALUES.astype(np.uint8)), "TIFF"), VALUES),
        (saved(Image.fromarray(VALUES == 0)), VALUES == 0),
    ],
    ids=["grey", "16 bits", "palette", "clear palette", "tiff", "one bit"],
)
def test_masks_keep_their_values(data: bytes, values: np.ndarray) -> None:
    assert np.array_equal(mask_file.read(data), values)


def test_four_bits_of_grey_are_not_scaled() -> None:
    """Pillow multiplies such values by 17. The file is written by hand, since Pillow does not write it."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\x12")) + chunk(b"IEND", b"")
    )
    assert mask_file.read(data).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"nothing", "not a mask that can be read"),
        (saved(Image.new("RGB", (3, 2))), "a colour mask"),
        (saved(Image.new("RGBA", (3, 2))), "a colour mask"),
        (saved(Image.new("LA", (3, 2))), "a colour mask"),
        (saved(Image.new("L", (3, 2)), "JPEG"), "JPEG"),
        (saved(Image.new("F", (3, 2)), "TIFF"), "mode F"),
        (saved(Image.new("L", (3, 2)), "GIF", save_all=True, append_images=[Image.new("L", (3, 2), 9)]), "animated"),
        (saved(Image.new("L", (99, 99), 3))[:60], "not a mask that can be read"),
    ],
)
def test_other_files_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        mask_file.read(data)


def test_huge_masks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_file, "MOST_PIXELS", 5)
    with pytest.raises(Unreadable, match="bomb"):
        mask_file.read(saved(Image.new("L", (3, 2))))


def test_values_become_class_numbers_and_others_void() -> None:
    assert mask_file.numbered(VALUES, np.array([0, 3, 7])).tolist() == [[0, 255, 2], [255, 1, 1]]


@pytest.mark.parametrize("side", [(16, 16), (24, 32), (40, 40), (50, 40)])
def test_a_mask_is_resized_and_cut_as_its_image(side: tuple[int, int]) -> None:
    """An image whose levels are blocks of the mask's classes shows the same classes at the same places."""
    mask = np.kron(np.array([[0, 1, 2], [2, 0, 1]], np.uint8), np.ones((40, 40), np.uint8))
    image = image_file.resize(Image.fromarray(mask * 100), side, 1)[..., 0]
    small = mask_file.resize(mask, side)
    assert small.shape == side
    assert set(np.unique(small).tolist()) <= {0, 1, 2}
    assert (np.rint(image / 100) == small).mean() > 0.8
    assert (np.rint(image / 100) == np.roll(small, 3, axis=1)).mean() < 0.8  # a shifted mask is seen
