"""Index a user's own images: inspect them once, identify them by their content and split them once. No torch.

Planning needs `index` alone. The result is kept in the sweep's folder, since the user's may be read-only:
`FOLDER/data/seen.parquet` (the inspection of each file, by path, size and time), `FOLDER/data/split.json` (a split that
was drawn, and is never drawn again) and `FOLDER/data/<fingerprint>.parquet` (the images as runs number them).
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
from bias_lab.data.own import labels
from bias_lab.data.own.items import Item, Listing, few
from bias_lab.data.own.rows import USUAL, Columns
from bias_lab.data.readers import image_file, named
from bias_lab.data.readers.decoding import Inspection, inspect_all
from bias_lab.data.readers.listing import HUB, listing
from bias_lab.errors import UserError, plural

NAMED = 8  # unreadable files that a message names (FOLDER/data/bad_images.txt lists all of them)
ROW = ("path", "column", "group", "row", "size", "mtime", "split", "class", "name")
TEST_SHARE, TEST_LEAST = 0.2, 5  # of each class, when a split is drawn


@dataclass(frozen=True, slots=True)
class Index:
    """Describe a user's dataset for planning. place: values for FOLDER/places.json, which `open_images` takes."""

    identity: str  # `folder:<fingerprint>` or `table:<fingerprint>`
    fingerprint: str
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]  # of the training pool
    test_images: int
    own_holdout: bool  # there is a val/ next to test/
    image_size: int
    channels: int
    place: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def pool(self) -> int:
        return sum(self.class_counts)


def index(
    path: Path,
    *,
    folder: Path,
    image_size: int = 64,
    skip_bad: bool = False,
    lasting: bool = True,
    columns: Columns = USUAL,
) -> Index:
    """Return the index of a folder of class folders, a CSV, or parquet files.

    folder: the sweep's, where the inspection is kept and reused. image_size: the side that runs will see, in pixels.
    skip_bad: leave out the images that cannot be read. lasting: whether the folder stays, to list all of those.
    columns: those of a table that the user named.
    Raises UserError for unreadable images, a single class, a class of too few images, or images that have changed.
    """
    listed = listing(path, folder, columns)
    table = _inspect(listed, folder / "data" / "seen.parquet")
    bad = {**listed.bad, **dict(table.loc[table.problem != "", ["name", "problem"]].itertuples(index=False, name=None))}
    count = len(table) + len(listed.bad)
    unreadable = check_readable(path, bad, count, skip_bad=skip_bad, folder=folder if lasting else None)
    table = table[table.problem == ""]
    _check_classes(path, listed, table)
    splits = folder / "data" / "split.json"
    table, how, drawn = _split(table, splits, path)
    table, dropped = _drop_duplicates(table)
    present = set(table["class"])
    classes = tuple(name for name in listed.classes if name in present)
    table = _numbered(table, classes)
    mark = fingerprint(zip(*(table[name].to_numpy(object) for name in ("split", "class", "hash")), strict=True))
    check_unchanged(folder, mark, table, path)
    if drawn:  # written after all checks, so that an error leaves the folder as it was
        about = "class and content hash of each test image; drawn once: images added later go to training"
        ledger.write_json(splits, {"about": about, "test": sorted(map(list, drawn))})
    notes = [*listed.warnings, *unreadable, *_dark(table), *how, *dropped, *_untested(table)]
    channels = 1 if bool(table.grey.all()) else 3
    place = {
        "path": str(path) if str(path).startswith(HUB) else str(Path(path).absolute()),
        "index": str(_write_table(table, folder / "data" / f"{mark}.parquet").absolute()),
        "fingerprint": mark,
        "classes": list(classes),
        "channels": channels,
        "image_size": image_size,
        "notes": notes,  # each run's record keeps them
    }
    counts = tuple(np.bincount(table.label[table.split == "train"], minlength=len(classes)).tolist())
    tested, held = int((table.split == "test").sum()), bool((table.split == "holdout").any())
    identity = f"{listed.kind}:{mark}"
    return Index(identity, mark, classes, counts, tested, held, image_size, channels, place, notes)


def _dark(table: pd.DataFrame) -> list[str]:
    """Return a line on the images that use a part of their bit depth."""
    return image_file.on_depth(list(table.name), list(table.remark))


def _write_table(table: pd.DataFrame, path: Path) -> Path:
    with ledger.replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
    return path


# --- inspection ------------------------------------------------------------------------------------------------------


def _inspect(listed: Listing, cache: Path) -> pd.DataFrame:
    """Return a row for each image: its place and its inspection, cached while path, size and time stay the same."""
    if not listed.items:
        return pd.DataFrame(columns=[*ROW, *Inspection._fields])
    rows = pd.DataFrame(dict(zip(ROW, map(list, zip(*map(_row, listed.items), strict=True)), strict=True)))
    keys = list(ROW[:6])
    known = pd.read_parquet(cache) if cache.is_file() else pd.DataFrame()
    if not {*Inspection._fields} <= {*known.columns}:  # it is absent, or an earlier version's
        known = pd.DataFrame(columns=[*keys, *Inspection._fields])
    known = known[known.problem == ""].drop_duplicates(keys)  # an unreadable file is always tried again
    rows = rows.merge(known.astype(dict(rows[keys].dtypes)) if len(known) else known, on=keys, how="left")
    new = rows.hash.isna().to_numpy()
    if new.any():
        inspected = inspect_all([listed.items[k].reference for k in np.flatnonzero(new)])
        for name, values in zip(Inspection._fields, zip(*inspected, strict=True), strict=True):
            column = rows[name].to_numpy(object, copy=True)
            column[new] = np.array(values, object)
            rows[name] = column
        rows = rows.astype(
            {"hash": str, "file": str, "grey": bool, "width": int, "height": int, "problem": str, "remark": str}
        )
        with ledger.replacing(cache) as temporary:
            rows[[*keys, *Inspection._fields]].to_parquet(temporary, index=False)
    return rows


def _row(item: Item) -> tuple[str, str, int, int, int, int, str, str, str]:
    """Return an image's values for the columns of ROW."""
    where = item.reference
    try:
        stat = os.stat(where.path)  # noqa: PTH116 - a Path is slower, and there may be a million files
        size, mtime = stat.st_size, stat.st_mtime_ns
    except OSError:  # a dangling link, or no permission (the inspection reports the reason)
        size, mtime = -1, -1
    return where.path, where.column, where.group, where.row, size, mtime, item.split, item.label, item.name


def check_readable(
    path: Path, bad: dict[str, str], total: int, *, skip_bad: bool, folder: Path | None, at_most: int = NAMED
) -> list[str]:
    """Raise UserError for unreadable images, all in one message. With `skip_bad`, return a line on them instead.

    bad: name → reason. at_most: how many a message names. If there are more, FOLDER/data/bad_images.txt lists all.
    folder: None keeps no such list.
    """
    if not bad:
        return []
    lines = [f"{name} ({reason})" for name, reason in sorted(bad.items())]
    shown = ", ".join(lines[:at_most])
    if len(lines) > at_most:
        shown += f", and {len(lines) - at_most:,} more"
        if folder:
            ledger.write_bytes(folder / "data" / "bad_images.txt", ("\n".join(lines) + "\n").encode())
            shown += f", listed in {folder / 'data' / 'bad_images.txt'}"
    if skip_bad:
        return [f"{len(lines)} of {total} images can't be read and are left out: {shown}"]
    what = f"{len(lines)} of {total} images in {path} can't be read: {shown}"
    raise UserError(what, remedy="repair or remove them, or leave them out with --skip-bad-images")


def _check_classes(path: Path, listed: Listing, table: pd.DataFrame) -> None:
    present = set(table["class"].unique())
    if empty := [name for name in listed.classes if name not in present]:
        raise UserError(f"{path}: class '{empty[0]}' has no image that can be read")
    if len(present) < 2:
        one = f"one class, '{next(iter(present))}'" if present else "no images"
        remedy = listed.hint or "each class needs one folder with its images"
        raise UserError(f"{path} holds {one}", "two or more are needed", remedy)
    trained = set(table.loc[table.split.isin(["train", ""]), "class"])
    if unknown := sorted(present - trained):
        where = sorted(set(table.loc[table["class"] == unknown[0], "split"]))
        hint = labels.nearest(unknown[0], trained)
        raise UserError(
            f"{path}: class '{unknown[0]}' is in {', '.join(where)} but not in train",
            hint and f"train {hint.removeprefix('it ')}",
            "give every split the same classes",
        )


# --- splits ----------------------------------------------------------------------------------------------------------


def _split(table: pd.DataFrame, kept: Path, path: Path) -> tuple[pd.DataFrame, list[str], set[tuple[str, str]] | None]:
    """Return the table with each image's split (train, test or holdout), lines for the user, and the images drawn.

    A split that the user gave stays. Otherwise it is drawn once. kept: the file of a split that was drawn. The last
    item is None unless the split was drawn now, to be written there.
    """
    given = set(table.split)
    if "test" in given:
        return table.assign(split=table.split.replace({"val": "holdout", "": "train"})), [], None
    if "val" in given:
        renamed = table.assign(split=table.split.replace({"val": "test", "": "train"}))
        return renamed, ["val is used as the test split"], None
    pairs = list(zip(table["class"].to_numpy(object), table.hash.to_numpy(object), strict=True))
    drawn = None if kept.is_file() else draw_split(pairs)
    test = drawn or {(labels.clean(name), mark) for name, mark in ledger.read_json(kept)["test"]} & set(pairs)
    way = "give a new --out, or remove that file"
    if not test:
        raise UserError(f"none of the images in {path} is in the split of {kept}", remedy=way)
    if lost := set(table["class"]) - {name for name, _ in test}:
        raise UserError(f"class '{min(lost)}' has no image in the split of {kept}", remedy=way)
    split = ["test" if pair in test else "train" for pair in pairs]
    how = [f"no test split was given: {split.count('test')} images were drawn for it, which {kept} lists"]
    return table.assign(split=split), how, drawn


def draw_split(pairs: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Draw a stratified test split of (class, content hash) pairs: 20 % of each class, at least 5, by hash order.

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
                f"class '{name}' has {len(group)} different images, too few to be split",
                f"at least {TEST_LEAST + 1} are needed",
                "add images, or give the split as train/ and test/",
            )
        test.update(distinct[i] for i in group[:count])
    return test


def _drop_duplicates(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Leave out the training images that are in the test or hold-out split too, whatever their class (no leaks).

    Returns the table and lines for the user.
    """
    elsewhere = set(table.loc[table.split != "train", "hash"])
    held = set(table.loc[table.split == "test", "hash"])
    twice = ((table.split == "train") & table.hash.isin(elsewhere)) | (
        (table.split == "holdout") & table.hash.isin(held)
    )
    kept = table[~twice]
    lines = []
    if twice.any():
        count = plural(int(twice.sum()), "image")
        lines.append(f"left out as duplicates of test or validation images: {count} ({few(list(table.name[twice]))})")
    again = kept.duplicated(["split", "class", "hash"])
    if again.any():
        count = plural(int(again.sum()), "image")
        lines.append(
            f"kept, though duplicates of images of their split and class: {count} ({few(list(kept.name[again]))})"
        )
    both = table.groupby("hash")["class"].nunique()
    if (both > 1).any():
        lines.append(f"in more than one class: {plural(int((both > 1).sum()), 'image')}")
    if lost := set(table["class"]) - set(kept.loc[kept.split == "train", "class"]):
        what = f"class '{min(lost)}': every training image is in the test or validation split too"
        raise UserError(what, remedy="add other training images, or give another split")
    return kept, lines


def _untested(table: pd.DataFrame) -> list[str]:
    """Return a line on the classes without a test image."""
    untested = sorted(set(table["class"]) - set(table.loc[table.split == "test", "class"]))
    if not untested:
        return []
    classes = "class" if len(untested) == 1 else "classes"
    return [f"no test image shows the {classes} {few([repr(name) for name in untested], 5)}"]


def _numbered(table: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Sort the table as runs number it: each split's images by (class, content hash).

    A run names its images by their fingerprint, which does not depend on file names. After a renaming, equal runs must
    draw equal images, and a store must open with the fingerprint alone.
    """
    number = {name: k for k, name in enumerate(classes)}
    table = table.assign(label=table["class"].map(number))
    return table.sort_values(["split", "label", "hash", "name"], kind="stable").reset_index(drop=True)


# --- changes ---------------------------------------------------------------------------------------------------------


def check_unchanged(folder: Path, mark: str, table: pd.DataFrame, path: Path) -> None:
    """Raise UserError if the folder holds finished runs on other images, which new ones would be compared with."""
    for old in sorted((folder / "data").glob("*.parquet")):
        if old.stem in (mark, "seen") or not _finished_on(folder, old.stem):
            continue
        before = pd.read_parquet(old, columns=["name", "hash", "split"])
        raise UserError(
            f"the images in {path} are not those of the finished runs in {folder}: {difference(before, table)}",
            remedy="restore the old images, or give a new --out (to keep the test images, copy "
            f"{folder / 'data' / 'split.json'} to its data/)",
        )


def _finished_on(folder: Path, mark: str) -> bool:
    """Return whether the folder has a finished run on these images."""
    for run in (folder / "runs").glob("*"):
        if ledger.state(folder, run.name) == "finished":
            dataset = ledger.read_run(folder, run.name).dataset
            if dataset.endswith(f":{mark}"):
                return True
    return False


def difference(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """Return the difference of two indices in words: images added, removed, changed or moved to another split."""
    old, new, both = set(before.name), set(after.name), before.merge(after, on="name", suffixes=("", "_now"))
    kinds = {"added": sorted(new - old), "removed": sorted(old - new)}
    for kind, column in (("changed", "hash"), ("with another mask", "mask_hash")):
        kinds[kind] = list(both.name[both[column] != both[f"{column}_now"]]) if f"{column}_now" in both else []
    held = {kind: names for kind, names in kinds.items() if names}
    parts = [f"{len(names)} {kind} ({names[0]}{', …' if len(names) > 1 else ''})" for kind, names in held.items()]
    moved = Counter(before.split) != Counter(after.split)
    return ", ".join(parts) or ("images moved between splits" if moved else "another order of classes")


def check(name: str, *, data_root: str | None = None, skip_bad: bool = False, columns: Columns = USUAL) -> list[str]:
    """Return the lines of `bias-lab datasets check` on a dataset by name, or on the user's own folder or table.

    skip_bad, columns: as for `index`. Raises UserError as `index` does, and for columns of a dataset by name.
    """
    if Path(name).exists():
        with tempfile.TemporaryDirectory() as folder:
            own = index(Path(name), folder=Path(folder), skip_bad=skip_bad, lasting=False, columns=columns)
        return [
            f"{len(own.classes)} classes, {own.pool:,} training and {own.test_images:,} test images",
            *(line for line in own.warnings if folder not in line),
        ]
    if any(columns):
        raise UserError("--path-column and --label-column are given without a table", remedy="name a table to check")
    return named.check(name, data_root=data_root)
