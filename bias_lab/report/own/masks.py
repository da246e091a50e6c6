"""Report on masks class by class, and name a user's test images: from the table and the index of the images. No torch.

A dataset by name has the table too, since which class is found decides whether a mean IoU is of use.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bias_lab import catalogue
from bias_lab.report.own import images
from bias_lab.report.pages import Cell, Section, Table, points, word
from bias_lab.rows import SCORES, unpack_scores
from bias_lab.statistics.conditions import finished

ARM = ["backbone", "head"]
TOLD_APART = ["regime", "source", "recipe", "optimizer", "priors", "patch", "samples_seen"]  # where they vary


def of_folder(folder: Path, table: pd.DataFrame) -> tuple[Section, ...]:
    """Return a section with the IoU of each class for each dataset with masks, at its largest size.

    folder: of a sweep, where the names of a user's classes are. table: of the sweep, with a row for each run.
    """
    rows = finished(table)
    if SCORES not in rows:
        return ()
    tested = [catalogue.TASKS[str(task)].evaluated_on == "test" for task in rows["task"]]
    rows = rows[rows[SCORES].notna().to_numpy(dtype=bool) & np.array(tested, dtype=bool)]
    places, made = images.places(folder), []
    several = rows["dataset"].nunique() > 1
    for dataset, part in rows.groupby("dataset", sort=False):
        found = class_table(part[part["size"] == part["size"].max()], classes_of(str(dataset), places))
        title = f"IoU of each class: {dataset}" if several else "IoU of each class"
        text = f"These are runs with {int(part['size'].max()):,} labels. Each class has one IoU over all test images."
        slug = f"{dataset}-".replace(":", "-") if several else ""
        made.append(Section(name=f"{slug}class-iou", title=title, text=(text,), tables=(found,), folded=True))
    return tuple(made)


def classes_of(dataset: str, places: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a dataset's classes, () where they are not known."""
    if dataset in places:
        return tuple(map(str, places[dataset]["classes"]))
    known = catalogue.DATASETS.get(dataset)
    return tuple(known.class_names) if known else ()


def class_table(rows: pd.DataFrame, classes: tuple[str, ...]) -> Table:
    """Return the IoU of each class in percent, the mean over runs of each arm, the worst class of all arms first.

    rows: runs of one dataset and size. classes: their names, numbers without any.
    """
    K = int(rows["classes"].iloc[0])
    names = classes if len(classes) == K else tuple(map(str, range(K)))
    apart = [name for name in TOLD_APART if name in rows and rows.groupby(ARM)[name].nunique(dropna=False).max() > 1]
    arms = {key: class_ious(part) for key, part in rows.groupby([*ARM, *apart], sort=False, dropna=False)}
    columns = [("class", "")] + [(heading(key, apart), "mean IoU of its runs, %") for key in arms]
    every = np.stack(list(arms.values()))  # (arms, K)
    mean = np.where(
        np.isnan(every).all(0), np.inf, np.nan_to_num(every).sum(0) / np.maximum((~np.isnan(every)).sum(0), 1)
    )
    order = np.argsort(mean, kind="stable")
    lines = [(word(names[k]), *(points(ious[k]) if ious[k] == ious[k] else Cell("–") for ious in every)) for k in order]
    note = "–: neither a test mask nor a prediction holds the class."
    return Table(title="IoU, %", columns=tuple(columns), rows=tuple(lines), note=note if np.isnan(every).any() else "")


def heading(arm: tuple[Any, ...], apart: list[str]) -> str:
    """Return an arm in words: 'vit_micro, own head', with the fields that tell arms of one head apart.

    arm: values of `ARM` and of `apart`.
    """
    backbone, head, *values = arm
    told = dict(zip(apart, values, strict=True))
    seen = told.pop("samples_seen", None)
    words = [
        str(backbone),
        catalogue.head_words(str(head)),
        *(str(v) for v in told.values() if pd.notna(v) and v != ""),
    ]
    return ", ".join(words if seen is None else [*words, f"{int(seen):,} images seen"])


def class_ious(rows: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Return the mean over runs of each class's IoU, (K,), NaN for a class that no test mask or prediction holds."""
    runs = []
    for packed, K in zip(rows[SCORES], rows["classes"], strict=True):
        both, either = unpack_scores(packed, int(K)).sum(0).T
        runs.append(np.where(either > 0, both / np.maximum(either, 1), np.nan))
    found = np.stack(runs)
    there = ~np.isnan(found)
    return np.where(there.any(0), np.nansum(found, axis=0) / np.maximum(there.sum(0), 1), np.nan)


def names(folder: Path, dataset: str) -> tuple[str, ...]:
    """Return the file names of a user's test images in the order of runs, () for others, or where the index is gone."""
    place = images.places(folder).get(dataset)
    if place is None:
        return ()
    path = images.index_file(folder, place)
    index = pd.read_parquet(path, columns=["split", "name"]) if path else pd.DataFrame({"split": [], "name": []})
    return tuple(map(str, index.loc[index["split"] == "test", "name"]))
