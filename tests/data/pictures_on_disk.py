"""Make fixtures: folders of small pictures, and a broken file of every kind."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, *, side: int = 12, mode: str = "RGB") -> Image.Image:
    """Return a small picture that is different for each number."""
    generator = np.random.default_rng(number)
    smooth = np.linspace(0, 120, side)[:, None, None] + generator.integers(0, 100, (1, side, 3))
    noise = generator.integers(0, 30, (side, side, 3))
    return Image.fromarray((smooth + noise).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def class_folders(root: Path, counts: dict[str, int], *, start: int = 0, mode: str = "RGB", side: int = 12) -> Path:
    """Write a folder of that many PNGs for each class. All are different; their numbers begin at `start`."""
    number = start
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            (root / name / f"{number:04d}.png").write_bytes(encoded(picture(number, mode=mode, side=side)))
            number += 1
    return root


def bomb() -> bytes:
    """Return a PNG of a kilobyte whose header claims 30,000 x 30,000 pixels."""
    data = bytearray(encoded(picture(0)))
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def break_ten(folder: Path, outside: Path) -> dict[str, str]:
    """Write a bad file of each kind into a class folder. Returns name → what the reason must contain."""
    good = encoded(picture(900, side=40), "JPEG")
    (folder / "truncated.jpg").write_bytes(good[: len(good) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture", encoding="utf-8")
    (folder / "header_only.png").write_bytes(encoded(picture(1))[:20])
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.png").write_bytes(good)
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    outside.write_bytes(good)
    (folder / "outside.png").symlink_to(outside)
    Image.fromarray(np.random.default_rng(0).random((9, 9)).astype(np.float32)).save(folder / "floats.tiff")
    Image.fromarray(np.full((9, 9), 2**20, np.int32)).save(folder / "wide.tiff")
    return {
        "truncated.jpg": "truncated",
        "empty.png": "empty file",
        "text.jpg": "not an image",
        "header_only.png": "",
        "folder.jpg": "a folder, not a file",
        "bomb.png": "decompression bomb",
        "dangling.png": "not there",
        "outside.png": "a link out of the folder",
        "floats.tiff": "floating-point",
        "wide.tiff": "32-bit",
    }
