"""Write images with masks into folders, for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def pair(folder: Path, name: str, *, values: tuple[int, ...] = (0, 1, 2), side: tuple[int, int] = (12, 16)) -> None:
    """Write `images/NAME.jpg` and `masks/NAME.png`. Values are upright stripes, and pixels follow the name."""
    rng = np.random.default_rng(list(name.encode()))
    H, W = side
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (H, W, 3)).astype(np.uint8)).save(folder / "images" / f"{name}.jpg")
    mask = np.repeat(np.resize(np.array(values), W)[None], H, axis=0)
    Image.fromarray(mask.astype(np.uint8 if mask.max() < 256 else np.uint16)).save(folder / "masks" / f"{name}.png")


def split_folder(root: Path, train: int = 12, test: int = 4) -> Path:
    """Write train/images, train/masks, test/images and test/masks."""
    for split, count in (("train", train), ("test", test)):
        for k in range(count):
            pair(root / split, f"{split}{k}")
    return root


def flat_folder(root: Path, count: int = 20) -> Path:
    """Write images/ and masks/."""
    for k in range(count):
        pair(root, f"one{k}", values=(0, 1, 2) if k % 2 else (0, 2))
    return root
