"""Read datasets with masks in the formats they are published in. Nothing is resized here. No torch."""

from pathlib import Path
from typing import Protocol

from bias_lab.catalogue import Dataset
from bias_lab.data.masks import drawn
from bias_lab.data.masks.pairs import Files, Masked
from bias_lab.errors import UserError

FRAMES = 10  # test frames of a stretch of video that count as one group


class Reader(Protocol):
    """Read a dataset with masks. row: its row of the catalogue. folder: its files. side: (H, W), for drawn images."""

    def __call__(self, row: Dataset, folder: Path, side: tuple[int, int], /) -> Masked: ...


def read_drawn(row: Dataset, _folder: Path, side: tuple[int, int]) -> Masked:
    """Draw the procedural dataset. There are no files."""
    return drawn.dataset(row.pool, row.test_images, side)


def read_camvid(row: Dataset, folder: Path, _side: tuple[int, int]) -> Masked:
    """Read CamVid as SegNet's authors split it: train/ is the pool and test/ the test split. val/ is not used.

    Masks lie in trainannot/ and testannot/ with the names of the images. The value 11 is void. The published split
    cuts through driving sequences, so neighbouring frames are alike: test frames form groups, stretches of ten frames
    of one sequence. A sequence is the part of a file's name before its frame number. For each sequence from which no
    training image comes, `test_parts` says which test images show it.
    """
    splits, sequences = {}, {}
    for split in ("train", "test"):
        images = sorted([*(folder / split).glob("*.jpg"), *(folder / split).glob("*.png")])
        masks = [folder / f"{split}annot" / f"{path.stem}.png" for path in images]
        if not images or (lost := [path for path in masks if not path.is_file()]):
            what = f"{lost[0]} is not there" if images else f"{folder / split} holds no images"
            raise UserError(f"{row.name}: {what}", remedy=f"fetch {row.fetch} again")
        splits[split] = Files([*map(str, images)], [*map(str, masks)], tuple(range(row.classes)))
        sequences[split] = [path.stem.rpartition("_")[0] for path in images]
    apart = sorted(set(sequences["test"]) - set(sequences["train"]))
    return Masked(
        splits=splits,
        classes=row.class_names,
        test_groups=stretches(sequences["test"]),
        test_parts={name: [one == name for one in sequences["test"]] for name in apart},
    )


def stretches(sequences: list[str], length: int = FRAMES) -> list[int]:
    """Return the group of each frame, in order: `length` frames of one sequence after another.

    >>> stretches(["a", "a", "a", "b", "a"], 2)
    [0, 0, 1, 2, 3]
    """
    groups: list[int] = []
    group, held = -1, length
    for place, name in enumerate(sequences):
        if held == length or name != sequences[place - 1]:
            group, held = group + 1, 0
        groups.append(group)
        held += 1
    return groups


def read_pet_trimaps(row: Dataset, folder: Path, _side: tuple[int, int]) -> Masked:
    """Read trimaps of Oxford-IIIT Pet: `trainval/images/BREED/ID.jpg` and `trainval/trimaps/BREED/ID.png`, and `test/`.

    The values are 1 for a pet, 2 for the background, and 3 for the border, which is void.
    """
    splits = {}
    for split, name in (("train", "trainval"), ("test", "test")):
        images = sorted((folder / name / "images").rglob("*.jpg"))
        at = folder / name / "images"
        masks = [folder / name / "trimaps" / path.relative_to(at).with_suffix(".png") for path in images]
        if not images or (lost := [path for path in masks if not path.is_file()]):
            what = f"{lost[0]} is not there" if images else f"{at} holds no images"
            raise UserError(f"{row.name}: {what}", remedy=f"fetch {row.fetch} again")
        splits[split] = Files([*map(str, images)], [*map(str, masks)], (1, 2), (1, 0))
    return Masked(splits=splits, classes=row.class_names)
