"""Planted studies with settled cells, cells at equal images and controls, whose true numbers are given by a test."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bias_lab.definition import Run
from tests.planted import CNNS, row, table

SIZES = (100, 1000)
EQUAL, SETTLED = 16_000, 64_000  # images seen


class Cell(NamedTuple):
    """The true training accuracy and test accuracy of one backbone."""

    train: float
    test: float


def study(
    cells: Mapping[str, Cell],
    *,
    equal: Mapping[str, Cell] | None = None,
    pixels: float | None = None,
    sizes: tuple[int, ...] = SIZES,
    draws: int = 5,
    noise: float = 0.004,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    **fields: Any,
) -> pd.DataFrame:
    """A table of runs from scratch with normal noise, the same truth at each size.

    cells: backbone -> truth of its settled cells, none if empty. equal: the same at equal images. pixels: test accuracy
    of the linear classifier on pixels, None for none. changes: backbone -> columns of its settled rows. fields: of
    every run, or columns of every settled row.
    """
    random = np.random.default_rng(0)
    made = []

    def add(backbone: str, truth: Cell, seen: int, **columns: Any) -> None:
        for size in sizes:
            for draw in range(draws):
                run = Run(dataset="fashion_mnist_12k", backbone=backbone, size=size, draw=draw, seed=draw,
                          samples_seen=seen, protocol=columns.get("protocol", "finetune"))  # fmt: skip
                found = {name: min(1.0, value + noise * random.standard_normal())
                         for name, value in (("train_top1", truth.train), ("top1", truth.test))}  # fmt: skip
                made.append(row(run, **found, **{k: v for k, v in columns.items() if k != "protocol"}))

    for backbone, truth in cells.items():
        about = dict(settled=True, holdout_top1=truth.test, holdout_gain=0.002) | dict(fields)
        add(backbone, truth, SETTLED, comparison="settled", **(about | dict((changes or {}).get(backbone, {}))))
    for backbone, truth in (equal or {}).items():
        add(backbone, truth, EQUAL, comparison="equal")
    if pixels is not None:
        add("pixels", Cell(pixels, pixels), EQUAL, protocol="linear_probe", comparison="")
    return table(made)


def pair(vit: Cell, cnn: Cell, cnns: tuple[str, ...] = CNNS) -> dict[str, Cell]:
    """A plain ViT, and CNNs that are all alike."""
    return {"vit_micro": vit, **dict.fromkeys(cnns, cnn)}
