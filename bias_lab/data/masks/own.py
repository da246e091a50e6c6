"""Index a user's own images with masks: inspect them once, identify them by their content, split them once. No torch.

Files are kept in the sweep's folder as for class folders (`bias_lab.data.own_images`): `FOLDER/data/seen_masks.parquet`
(the inspection of each pair), `FOLDER/data/split_masks.json` (a split that was drawn) and
`FOLDER/data/<fingerprint>.parquet` (the pairs as runs number them).
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bias_lab import ledger
from bias_lab.data.identity import content_hash, fingerprint
from bias_lab.data.masks import listing, mask_file, pairs, presence
from bias_lab.data.own.items import few
from bias_lab.data.own_images import TEST_LEAST, TEST_SHARE, Index, check_readable, check_unchanged
from bias_lab.data.readers import image_file
from bias_lab.data.readers.decoding import Reference, fetch
from bias_lab.data.readers.pixel_store import SPLITS, Content
from bias_lab.errors import UserError, plural

MOST = mask_file.VOID  # classes that fit beside void
KEY = ("image", "mask", "image_size", "image_time", "mask_size", "mask_time")


class Inspection(NamedTuple):
    """Describe one pair. pixels: value → pixels of the mask, as JSON. problem: why it can't be used, or empty."""

    hash: str = ""
    mask_hash: str = ""
    grey: bool = False
    pixels: str = "{}"
    problem: str = ""
    remark: str = ""


def index(path: Path, *, folder: Path, image_size: int = 64, skip_bad: bool = False, lasting: bool = True) -> Index:
    """Return the index of a folder or a table of images with masks (`bias_lab.data.masks.listing`).

    folder: the sweep's, where the inspection is kept and reused. image_size: the side that runs will see, in pixels.
    skip_bad: leave out the pairs that cannot be used. lasting: as for `own_images.index`. Classes are the values that
    training masks hold, in ascending order, and 255 is void. Raises UserError for pairs that cannot be used, a value
    that only test masks hold, a single class, and images that have changed under finished runs.
    """
    listed = listing.listing(path, folder)
    table = _inspect(listed.items, folder / "data" / "seen_masks.parquet")
    bad = {name: problem for name, problem in zip(table.name, table.problem, strict=True) if problem}
    at = folder if lasting else None
    notes = listed.warnings + check_readable(path, bad, len(table), skip_bad=skip_bad, folder=at)
    table = table[table.problem == ""].reset_index(drop=True)
    table = table.assign(values=pd.Series([values_of(text) for text in table.pixels], dtype=object))
    kept = folder / "data" / "split_masks.json"
    table, how, drawn = _split(table, kept, path, said=lasting)
    table, dropped = _drop_duplicates(table, path)
    values = _values(path, table)
    classes = class_names(values, listed.names, path)
    table = table.sort_values(["split", "mask_hash", "hash", "name"], kind="stable").reset_index(drop=True)
    mark = fingerprint(zip(table.split, table.mask_hash, table.hash, strict=True))
    check_unchanged(folder, mark, table, path)
    if drawn:
        about = "content hash of each test image; drawn once: images added later go to training"
        ledger.write_json(kept, {"about": about, "test": drawn})
    notes += [*image_file.on_depth(list(table.name), list(table.remark)), *how, *dropped, *_stray(table), *_void(table)]
    where = folder / "data" / f"{mark}.parquet"
    with ledger.replacing(where) as temporary:
        table.drop(columns="values").to_parquet(temporary, index=False)
    channels = 1 if bool(table.grey.all()) else 3
    place = {
        "path": str(path.absolute()), "index": str(where.absolute()), "fingerprint": mark, "classes": list(classes),
        "channels": channels, "image_size": image_size, "notes": notes, "values": values,
    }  # fmt: skip
    return Index(
        identity=f"{listed.kind}:{mark}",
        fingerprint=mark,
        classes=classes,
        class_counts=(int((table.split == "train").sum()),),
        test_images=int((table.split == "test").sum()),
        own_holdout=bool((table.split == "holdout").any()),
        image_size=image_size,
        channels=channels,
        place=place,
        warnings=notes,
    )


def check(path: Path, *, skip_bad: bool = False) -> list[str]:
    """Return the lines of `bias-lab datasets check` on a folder or a table of images with masks.

    skip_bad: as for `index`. Raises as `index`.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = index(path, folder=Path(folder), skip_bad=skip_bad, lasting=False)
    named = ", ".join(f"{name} ({value})" for name, value in zip(found.classes, found.place["values"], strict=True))
    counts = f"{found.class_counts[0]:,} training and {found.test_images:,} test images"
    return [
        f"masks of {len(found.classes)} classes, {counts}",
        f"classes, with their values in the masks: {named}",
        *found.warnings,
        "to train on them: bias-lab train --task segment --data PATH, or bias-lab sweep segmentation --data PATH",
    ]


def content(place: dict[str, Any], side: tuple[int, int], channels: int) -> Content:
    """Describe the store of the pairs that `index` found."""
    table = pd.read_parquet(place["index"])
    splits = {
        split: pairs.Files(
            list(part.image),
            list(part["mask"]),
            tuple(place["values"]),
            hashes=list(zip(part.mask_hash, part.hash, strict=True)),
        )
        for split in SPLITS
        if len(part := table[table.split == split])
    }
    raw = pairs.Masked(splits=splits, classes=place["classes"])
    return pairs.content(place["path"], raw, side, channels, mark=place["fingerprint"])


# --- inspection ------------------------------------------------------------------------------------------------------


def _inspect(items: list[listing.Item], cache: Path) -> pd.DataFrame:
    """Return a row for each pair, cached while paths, sizes and times stay the same."""
    rows = pd.DataFrame([(*_key(item), item.split, item.name) for item in items], columns=[*KEY, "split", "name"])
    known = {}
    if cache.is_file():
        seen = pd.read_parquet(cache)
        if {*KEY, *Inspection._fields} <= {*seen.columns}:
            held = seen[seen.problem == ""]
            found = held[list(Inspection._fields)].itertuples(index=False, name=None)
            known = dict(zip(held[list(KEY)].itertuples(index=False, name=None), found, strict=True))
    keys = list(rows[list(KEY)].itertuples(index=False, name=None))
    described = [known.get(key) or inspect(item) for key, item in zip(keys, items, strict=True)]
    rows[list(Inspection._fields)] = pd.DataFrame(described, columns=Inspection._fields)
    if any(key not in known for key in keys):
        with ledger.replacing(cache) as temporary:
            rows[[*KEY, *Inspection._fields]].to_parquet(temporary, index=False)
    return rows


def _key(item: listing.Item) -> tuple[Any, ...]:
    sizes: list[int] = []
    for path in (item.image, item.mask):
        try:
            stat = os.stat(path)  # noqa: PTH116 - a Path is slower, and there may be a million files
            sizes += [stat.st_size, stat.st_mtime_ns]
        except OSError:  # a dangling link, which the inspection reports
            sizes += [-1, -1]
    return item.image, item.mask, *sizes


def inspect(item: listing.Item) -> Inspection:
    """Decode one pair and describe it."""
    try:
        data = fetch(Reference(item.image))
        image, remark = image_file.read_with_remark(data)
    except image_file.Unreadable as error:
        return Inspection(problem=str(error))
    try:
        mask = mask_file.read(fetch(Reference(item.mask)))
    except image_file.Unreadable as error:
        return Inspection(problem=f"its mask {Path(item.mask).name} is {error}")
    if problem := _misfit(image.size, mask, image_file.orientation(data)):
        return Inspection(problem=problem)
    held, counts = np.unique(mask, return_counts=True)
    pixels = json.dumps(dict(zip(map(str, held.tolist()), counts.tolist(), strict=True)))
    mark = content_hash(image_file.pixels(image))
    return Inspection(mark, mask_file.value_hash(mask), image.mode == "L", pixels, remark=remark)


def _misfit(size: tuple[int, int], mask: NDArray[np.int64], orientation: int) -> str:
    """Return why a mask (H, W) does not belong to an image, or ''. size: (width, height) of the image, upright."""
    H, W = mask.shape
    if size != (W, H):
        turned = size == (H, W)
        remedy = "one of them is turned, perhaps by its EXIF orientation: save both upright" if turned else ""
        return f"it has {size[0]}x{size[1]} px, and its mask {W}x{H}: {remedy or 'save both at one size'}"
    if orientation > 1 and (orientation < 5 or W == H):  # 5 to 8 swap the sides, so that the sizes tell
        return f"its EXIF orientation {orientation} turns it, and perhaps not its mask: save both upright"
    if mask.min() < 0 or mask.max() > 65_535:
        return f"its mask holds the value {mask.min() if mask.min() < 0 else mask.max()}, not 0 to 65535"
    return ""


def values_of(text: str) -> dict[int, int]:
    """Return value → pixels of a mask without void, from `Inspection.pixels`.

    >>> values_of('{"0": 5, "255": 3}')
    {0: 5}
    """
    return {int(value): pixels for value, pixels in json.loads(text).items() if int(value) != mask_file.VOID}


# --- splits and classes ----------------------------------------------------------------------------------------------


def _split(table: pd.DataFrame, kept: Path, path: Path, *, said: bool) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return the table with each pair's split, lines for the user, and the test images' hashes if they were drawn.

    Where some pairs are given as training images, the test split is drawn from the others. said: whether `kept` stays.
    """
    given = set(table.split)
    if "test" in given:
        return table.assign(split=table.split.replace({"val": "holdout", "": "train"})), [], []
    if "val" in given:
        renamed = table.assign(split=table.split.replace({"val": "test", "": "train"}))
        return renamed, ["val is used as the test split"], []
    is_open = table.split.eq("") if {"", "train"} <= given else pd.Series(True, index=table.index)
    drawn = [] if kept.is_file() else draw_split(table[is_open], path)
    test = set(drawn or ledger.read_json(kept)["test"])
    split = ["test" if can and mark in test else "train" for can, mark in zip(is_open, table.hash, strict=True)]
    if "test" not in split:
        remedy = "give a new --out, or remove that file"
        raise UserError(f"none of the images in {path} is in the split of {kept}", remedy=remedy)
    how = f"no test split was given: {split.count('test')} images were drawn for it"
    return table.assign(split=split), [f"{how}, which {kept} lists" if said else how], drawn


def draw_split(table: pd.DataFrame, path: Path) -> list[str]:
    """Draw a test split of 20 % of the images, at least 5, in which every class keeps its share. Return their hashes.

    An image is left in training if it alone holds a value there, and another takes its place. Raises UserError for too
    few images.
    """
    distinct = table.drop_duplicates("hash").sort_values("hash")
    count = max(TEST_LEAST, round(TEST_SHARE * len(distinct)))
    if len(distinct) <= count:
        what = f"{path} has {len(distinct)} different images, too few to be split"
        raise UserError(what, f"at least {TEST_LEAST + 1} are needed", "give the split as train/ and test/")
    values = sorted(set().union(*distinct["values"]))
    held = np.array([[value in row for value in values] for row in distinct["values"]], bool).reshape(len(distinct), -1)
    mark = fingerprint(("", mask, image) for mask, image in zip(distinct.mask_hash, distinct.hash, strict=True))
    order = presence.order(f"split {mark}", held, 0)
    test = [int(order[(k + 1) * len(order) // count - 1]) for k in range(count)]  # evenly, and not the rarest first
    left = held.sum(0)
    chosen: list[int] = []
    for place in dict.fromkeys([*test, *map(int, order[::-1])]):
        if len(chosen) < count and (left[held[place]] > 1).all():
            left = left - held[place]
            chosen.append(place)
    if len(chosen) < TEST_LEAST:
        what = f"{path}: {len(chosen)} of {len(distinct)} images can be test images, since the others hold rare values"
        why = f"a value that one training mask alone holds must stay there, and {TEST_LEAST} test images are needed"
        raise UserError(what, why, "save a number for each class, not for each object, or give train/ and test/")
    return sorted(distinct.hash.iloc[place] for place in chosen)


def _drop_duplicates(table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Leave out the training images that are in the test or hold-out split too, whatever their masks (no leaks)."""
    elsewhere, held = set(table.hash[table.split != "train"]), set(table.hash[table.split == "test"])
    twice = (table.split == "train") & table.hash.isin(elsewhere)
    twice |= (table.split == "holdout") & table.hash.isin(held)
    kept = table[~twice]
    if not (kept.split == "train").any():
        what = f"every training image of {path} is in the test or validation split too"
        raise UserError(what, remedy="give another split") if len(table) else UserError(f"{path} holds no usable pair")
    lines = []
    if twice.any():
        count = plural(int(twice.sum()), "image")
        lines.append(f"left out as duplicates of test or validation images: {count} ({few(list(table.name[twice]))})")
    if (again := kept.duplicated(["split", "hash"])).any():
        count = plural(int(again.sum()), "image")
        lines.append(f"kept, though duplicates of images of their split: {count} ({few(list(kept.name[again]))})")
    return kept, lines


def _values(path: Path, table: pd.DataFrame) -> list[int]:
    """Return the values of the classes, ascending: those of training masks. Raises UserError for unusable ones."""
    is_train = table.split == "train"
    trained = set().union(*table["values"][is_train])
    for split, name, held in zip(table.split, table.name, table["values"], strict=True):
        if unknown := sorted(held.keys() - trained):
            pixels = plural(held[unknown[0]], "pixel")
            where = f"{path}: the mask of {name} ({split}) holds the value {unknown[0]} ({pixels})"
            remedy = f"correct it, use {mask_file.VOID} for pixels without a class, or train on images that show it"
            raise UserError(f"{where}, which no training mask holds", remedy=remedy)
    if len(trained) > MOST:
        what = f"{path}: the masks hold {len(trained)} values"
        raise UserError(
            what, f"at most {MOST} classes are possible", "save a number for each class, not for each object"
        )
    if len(trained) < 2:
        one = f"one class, the value {min(trained)}" if trained else "no class"
        has_void = any(str(mask_file.VOID) in json.loads(text) for text in table.pixels[is_train])
        why = f"{mask_file.VOID} is read as void, which is no class; " if has_void else ""
        remedy = f"save the pixels of the second class as {min({0, 1} - trained)}" if has_void and trained else ""
        raise UserError(f"{path}: the training masks hold {one}", f"{why}two or more are needed", remedy)
    return sorted(trained)


def _stray(table: pd.DataFrame) -> list[str]:
    """Return a line for each value that one mask alone holds, which may be a mistake of drawing."""
    lines = []
    for value in sorted(set().union(*table["values"])):
        holders = [(name, held[value]) for name, held in zip(table.name, table["values"], strict=True) if value in held]
        if len(holders) == 1 and len(table) > 1:
            name, pixels = holders[0]
            lines.append(f"the value {value} is in one mask alone: {name} ({plural(pixels, 'pixel')})")
    return lines


def _void(table: pd.DataFrame) -> list[str]:
    """Return a line on the pixels that are void, since a class that is stored as 255 would be lost silently."""
    held = [json.loads(text) for text in table.pixels]
    void = [pixels.get(str(mask_file.VOID), 0) for pixels in held]
    if not any(void):
        return []
    share = sum(void) / sum(sum(pixels.values()) for pixels in held)
    masks = plural(sum(map(bool, void)), "mask")
    return [f"{mask_file.VOID} is void: {100 * share:.2g} % of all pixels, in {masks}, count nowhere"]


def class_names(values: list[int], lines: list[str], path: Path) -> tuple[str, ...]:
    """Return the name of each class. lines: of classes.txt, without them a class is called by its value.

    A line is `VALUE NAME`, or a name alone: then there is one for each class in ascending order, or one for each value
    from 0. Raises UserError if the lines do not fit the values.

    >>> class_names([0, 7], ["sky", "road"], Path("x")), class_names([0, 7], [], Path("x"))
    (('sky', 'road'), ('0', '7'))
    >>> class_names([0, 2], ["2 road", "0 sky"], Path("x")), class_names([0, 2], ["a", "b", "c"], Path("x"))
    (('sky', 'road'), ('a', 'c'))
    """
    if not lines:
        return tuple(map(str, values))
    parts = [line.replace(":", " ").replace(",", " ").split(maxsplit=1) for line in lines]
    if all(len(part) == 2 and part[0].isdecimal() for part in parts):
        named = {int(value): name.strip() for value, name in parts}
    elif len(lines) == len(values):
        named = dict(zip(values, lines, strict=True))
    else:
        named = dict(enumerate(lines))
    if lost := [value for value in values if value not in named]:
        what = f"{path}: {listing.CLASSES} has {plural(len(lines), 'line')} and no name for the value {lost[0]}"
        raise UserError(what, "a line is VALUE NAME, or a name for each class in ascending order of its value")
    names = tuple(named[value] for value in values)
    if len(set(names)) < len(names):
        raise UserError(f"{path}: {listing.CLASSES} gives one name to two classes", remedy="name each class once")
    return names
