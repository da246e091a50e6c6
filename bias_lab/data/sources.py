"""The user's own images: looked at once, identified by their content, split once, and refused in one message. No torch.

`index` is all that planning needs. What it finds lies in the sweep's folder, since the user's may be read-only:
`FOLDER/data/seen.parquet` (what each file held, by path, size and time), `FOLDER/data/split.json` (a split that was
drawn, and is never drawn again) and `FOLDER/data/<fingerprint>.parquet` (the images as runs number them).
"""

import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bias_lab import ledger
from bias_lab.data import subsets
from bias_lab.data.identity import fingerprint
from bias_lab.data.readers import named
from bias_lab.data.readers.decoding import Seen, look_at
from bias_lab.data.readers.listing import HUB, Item, Listing, listing
from bias_lab.errors import UserError

NAMED = 20  # bad files that an error names; all of them then stand in FOLDER/data/bad_images.txt
ROW = ("path", "column", "group", "row", "size", "mtime", "split", "class", "name")
TEST_SHARE, TEST_LEAST = 0.2, 5  # of each class, when a split is drawn


@dataclass(frozen=True, slots=True)
class Index:
    """A user's dataset, as planning knows it. place: plain values for FOLDER/places.json, which `open_images` takes."""

    identity: str  # `folder:<fingerprint>` or `table:<fingerprint>`
    fingerprint: str
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]  # of the training pool
    test_images: int
    own_holdout: bool  # a val/ beside test/
    image_size: int
    channels: int
    place: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def pool(self) -> int:
        return sum(self.class_counts)


def index(
    path: Path, *, folder: Path, image_size: int = 64, skip_bad: bool = False, at_most: int | None = NAMED
) -> Index:
    """Look at a folder of class folders, a CSV, or parquet files, and say what they hold.

    folder: the sweep's; what was found is kept there and reused. image_size: the side that runs will see, in pixels.
    skip_bad: leave images out that can't be read. at_most: so many of those an error names; None: all. Raises UserError
    for images that can't be read (in one message), for one class, an empty class, a class of too few images, or images
    changed under a finished sweep.
    """
    found = listing(path)
    table = _look(found, folder / "data" / "seen.parquet")
    bad = {**found.bad, **dict(table.loc[table.problem != "", ["name", "problem"]].itertuples(index=False, name=None))}
    warnings = found.warnings + _refuse(path, bad, len(table) + len(found.bad), folder, skip_bad, at_most)
    table = table[table.problem == ""]
    _check_classes(path, found, table)
    splits = folder / "data" / "split.json"
    table, how, drawn = _split(table, splits, path)
    table, dropped = _drop_duplicates(table)
    there = set(table["class"].unique())
    classes = tuple(name for name in found.classes if name in there)
    table = _numbered(table, classes)
    mark = fingerprint(zip(*(table[name].to_numpy(object) for name in ("split", "class", "hash")), strict=True))
    _check_unchanged(folder, mark, table, path)
    if drawn:  # not before: what is refused leaves the folder as it was
        about = "class and content hash of each test image; drawn once: images added later go to training"
        ledger.write_json(splits, {"about": about, "test": sorted(map(list, drawn))})
    where = folder / "data" / f"{mark}.parquet"
    with ledger.replacing(where) as temporary:
        table.to_parquet(temporary, index=False)
    pool = table[table.split == "train"]
    channels = 1 if bool(table.grey.all()) else 3
    place = {
        "path": str(path) if str(path).startswith(HUB) else str(Path(path).absolute()),
        "index": str(where.absolute()),
        "fingerprint": mark,
        "classes": list(classes),
        "channels": channels,
        "image_size": image_size,
    }
    return Index(
        identity=f"{found.kind}:{mark}",
        fingerprint=mark,
        classes=classes,
        class_counts=tuple(np.bincount(pool.label, minlength=len(classes)).tolist()),
        test_images=int((table.split == "test").sum()),
        own_holdout=bool((table.split == "holdout").any()),
        image_size=image_size,
        channels=channels,
        place=place,
        warnings=[*warnings, *how, *dropped],
    )


# --- what each file holds --------------------------------------------------------------------------------------------


def _look(found: Listing, cache: Path) -> pd.DataFrame:
    """A row an image: where it is and what it holds, from the cache where path, size and time are as they were."""
    if not found.items:
        return pd.DataFrame(columns=[*ROW, *Seen._fields])
    rows = pd.DataFrame(dict(zip(ROW, map(list, zip(*map(_row, found.items), strict=True)), strict=True)))
    keys = list(ROW[:6])
    known = pd.read_parquet(cache) if cache.is_file() else pd.DataFrame()
    if not {*Seen._fields} <= {*known.columns}:  # there is none, or it is an earlier version's
        known = pd.DataFrame(columns=[*keys, *Seen._fields])
    known = known[known.problem == ""].drop_duplicates(keys)  # a file that could not be read is always tried again
    rows = rows.merge(known.astype(dict(rows[keys].dtypes)) if len(known) else known, on=keys, how="left")
    new = rows.hash.isna().to_numpy()
    if new.any():
        seen = look_at([found.items[k].reference for k in np.flatnonzero(new)])
        for name, values in zip(Seen._fields, zip(*seen, strict=True), strict=True):
            column = rows[name].to_numpy(object, copy=True)
            column[new] = np.array(values, object)
            rows[name] = column
        rows = rows.astype({"hash": str, "file": str, "grey": bool, "width": int, "height": int, "problem": str})
        with ledger.replacing(cache) as temporary:
            rows[[*keys, *Seen._fields]].to_parquet(temporary, index=False)
    return rows


def _row(item: Item) -> tuple[str, str, int, int, int, int, str, str, str]:
    """An image's ROW."""
    at = item.reference
    try:
        stat = os.stat(at.path)  # noqa: PTH116 - a million of them
        size, mtime = stat.st_size, stat.st_mtime_ns
    except OSError:  # a dangling link, or no permission: `look` finds the reason
        size, mtime = -1, -1
    return at.path, at.column, at.group, at.row, size, mtime, item.split, item.label, item.name


def _refuse(
    path: Path, bad: dict[str, str], total: int, folder: Path, skip_bad: bool, at_most: int | None
) -> list[str]:
    """Raise for images that can't be read, all in one message, or say that they are left out."""
    if not bad:
        return []
    lines = [f"{name} ({reason})" for name, reason in sorted(bad.items())]
    shown = ", ".join(lines[:at_most])
    if at_most is not None and len(lines) > at_most:
        ledger.write_bytes(folder / "data" / "bad_images.txt", ("\n".join(lines) + "\n").encode())
        shown += f", and {len(lines) - at_most} more, listed in {folder / 'data' / 'bad_images.txt'}"
    if skip_bad:
        return [f"left out {len(lines)} of {total} images that can't be read: {shown}"]
    what = f"{len(lines)} of {total} images in {path} can't be read: {shown}"
    raise UserError(what, remedy="mend or remove them, or go on without them by --skip-bad-images")


def _check_classes(path: Path, found: Listing, table: pd.DataFrame) -> None:
    there = set(table["class"].unique())
    if empty := [name for name in found.classes if name not in there]:
        raise UserError(f"{path}: class '{empty[0]}' has no image that can be read")
    if len(there) < 2:
        one = f"one class, '{next(iter(there))}'" if there else "no images"
        raise UserError(f"{path} holds {one}", "two classes or more", "one folder a class, with its images")
    trained = set(table.loc[table.split.isin(["train", ""]), "class"])
    if unknown := sorted(there - trained):
        where = sorted(set(table.loc[table["class"] == unknown[0], "split"]))
        raise UserError(f"{path}: class '{unknown[0]}' stands in {', '.join(where)} but not in train")


# --- splits ----------------------------------------------------------------------------------------------------------


def _split(table: pd.DataFrame, kept: Path, path: Path) -> tuple[pd.DataFrame, list[str], set[tuple[str, str]] | None]:
    """Every image's split: train, test or holdout. What the user gave stays; what they did not is drawn once.

    kept: the file of a split that was drawn. The last that is returned is one drawn now, and to be written there.
    """
    given = set(table.split)
    if "test" in given:
        return table.assign(split=table.split.replace({"val": "holdout", "": "train"})), [], None
    if "val" in given:
        return table.assign(split=table.split.replace({"val": "test", "": "train"})), ["val is the test split"], None
    pairs = list(zip(table["class"].to_numpy(object), table.hash.to_numpy(object), strict=True))
    drawn = None if kept.is_file() else draw_split(pairs)
    test = drawn or {(name, mark) for name, mark in ledger.read_json(kept)["test"]} & set(pairs)
    way = "take a new --out, or remove that file"
    if not test:
        raise UserError(f"none of the images in {path} stands in the split of {kept}", remedy=way)
    if lost := set(table["class"]) - {name for name, _ in test}:
        raise UserError(f"class '{min(lost)}' has no image in the split of {kept}", remedy=way)
    split = ["test" if pair in test else "train" for pair in pairs]
    how = [f"no test split given: {split.count('test')} images drawn for it, kept in {kept}"]
    return table.assign(split=split), how, drawn


def draw_split(pairs: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """A stratified test split of (class, content hash) pairs: 20 % of each class, at least 5, by hash order.

    Equal images of one class stay together. Raises UserError for a class that is too small to be split.
    """
    distinct = sorted(set(pairs))
    names = sorted({name for name, _ in distinct})
    labels = np.array([names.index(name) for name, _ in distinct], np.int64)
    mark = fingerprint(("", name, content) for name, content in distinct)
    test: set[tuple[str, str]] = set()
    for name, group in zip(names, subsets.by_class(f"split {mark}", labels, 0), strict=True):
        count = max(TEST_LEAST, round(TEST_SHARE * len(group)))
        if len(group) <= count:
            raise UserError(
                f"class '{name}' has {len(group)} different images: too few to be split",
                f"at least {TEST_LEAST + 1}",
                "add images, or give the split as train/ and test/",
            )
        test.update(distinct[i] for i in group[:count])
    return test


def _drop_duplicates(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Leave training images out that stand in the test or hold-out split too, whatever their class (no leaks)."""
    elsewhere = set(table.loc[table.split != "train", "hash"])
    held = set(table.loc[table.split == "test", "hash"])
    twice = ((table.split == "train") & table.hash.isin(elsewhere)) | (
        (table.split == "holdout") & table.hash.isin(held)
    )
    kept = table[~twice]
    said = []
    if twice.any():
        names = ", ".join(table.loc[twice, "name"].head(3))
        said.append(f"{int(twice.sum())} images stand in two splits and are left out of the first: {names}, …")
    both = table.groupby("hash")["class"].nunique()
    if (both > 1).any():
        said.append(f"{int((both > 1).sum())} images stand in more than one class")
    if lost := set(table["class"]) - set(kept.loc[kept.split == "train", "class"]):
        raise UserError(f"class '{min(lost)}': every training image stands in the test split too")
    return kept, said


def _numbered(table: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """The table as runs number it: each split's images by (class, content hash).

    By content, since a run names its images by their fingerprint, in which names play no part: renamed or unpacked
    elsewhere, equal runs must draw equal images, and a store is opened by who has the fingerprint alone.
    """
    number = {name: k for k, name in enumerate(classes)}
    table = table.assign(label=table["class"].map(number))
    return table.sort_values(["split", "label", "hash", "name"], kind="stable").reset_index(drop=True)


# --- changes ---------------------------------------------------------------------------------------------------------


def _check_unchanged(folder: Path, mark: str, table: pd.DataFrame, path: Path) -> None:
    """Raise if the folder holds finished runs on other images: their rows would stand beside new ones as if equal."""
    for old in sorted((folder / "data").glob("*.parquet")):
        if old.stem in (mark, "seen") or not _finished_on(folder, old.stem):
            continue
        before = pd.read_parquet(old, columns=["name", "hash", "split"])
        raise UserError(
            f"the images in {path} are not those of the finished runs in {folder}: {difference(before, table)}",
            remedy=f"bring the old images back, or take a new --out (with {folder / 'data' / 'split.json'} copied to "
            "its data/, the test images stay)",
        )


def _finished_on(folder: Path, mark: str) -> bool:
    """Whether a run of the folder that used these images is finished."""
    for run in (folder / "runs").glob("*"):
        if ledger.state(folder, run.name) == "finished":
            dataset = ledger.read_run(folder, run.name).dataset
            if dataset.endswith(f":{mark}"):
                return True
    return False


def difference(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """What changed between two indices, in words: images added, removed, changed or moved to another split."""
    old, new = dict(zip(before.name, before.hash, strict=True)), dict(zip(after.name, after.hash, strict=True))
    changed = [name for name in old if name in new and old[name] != new[name]]
    kinds = {"added": sorted(new.keys() - old.keys()), "removed": sorted(old.keys() - new.keys()), "changed": changed}
    parts = [
        f"{len(names)} {kind} ({names[0]}{', …' if len(names) > 1 else ''})" for kind, names in kinds.items() if names
    ]
    moved = Counter(before.split) != Counter(after.split)
    return ", ".join(parts) or ("images moved between splits" if moved else "another order of classes")


def check(name: str, *, data_root: str | None = None) -> list[str]:
    """What `bias-lab datasets check` says of a dataset by name, or of the user's own folder or table."""
    if Path(name).exists():
        with tempfile.TemporaryDirectory() as folder:
            found = index(Path(name), folder=Path(folder), at_most=None)  # a list in that folder would be gone
        return [
            f"{len(found.classes)} classes, {found.pool:,} training and {found.test_images:,} test images",
            *(line for line in found.warnings if "kept in" not in line),
        ]
    return named.check(name, data_root=data_root)
