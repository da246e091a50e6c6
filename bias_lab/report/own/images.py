"""Read what a sweep keeps of the user's test images: names, predictions, small pictures. No torch."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bias_lab import ledger
from bias_lab.data.readers import image_file
from bias_lab.data.readers.decoding import Reference, fetch

SIDE = 96  # pixels of a picture's longer side
QUALITY = 80
COLUMNS = ("index", "label", "predicted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The test images of one dataset and what runs predicted.

    classes: K names. names: of the T images, '' where the index of the images is gone. references: where they lie.
    labels: (T,). runs: a row of the table for each of R runs. predicted: (R, T).
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    references: tuple[Reference, ...]
    labels: NDArray[np.int64]
    runs: pd.DataFrame
    predicted: NDArray[np.int64]


def places(folder: Path) -> dict[str, Any]:
    """Return dataset → place of the user's own images in a sweep's folder, from its `places.json`."""
    path = Path(folder) / ledger.PLACES
    every = dict(ledger.read_json(path)) if path.is_file() else {}
    return {name: place for name, place in every.items() if isinstance(place, Mapping) and "classes" in place}


def known(folder: Path, place: Mapping[str, Any], rows: pd.DataFrame) -> Known | None:
    """Return what runs predicted, or None where no run of `rows` has kept its predictions.

    place: of the dataset, from `places`. Runs with other test images than the first one are left out.
    """
    kept, predicted, labels = [], [], None
    for at, run_id in enumerate(rows["run_id"]):
        path = ledger.run_folder(folder, str(run_id)) / ledger.PREDICTIONS
        if not path.is_file():
            continue
        table = pd.read_parquet(path, columns=list(COLUMNS)).sort_values("index")
        labels = table["label"].to_numpy(np.int64) if labels is None else labels
        if np.array_equal(table["label"].to_numpy(np.int64), labels):
            kept.append(at)
            predicted.append(table["predicted"].to_numpy(np.int64))
    if labels is None:
        return None
    names, references = named(folder, place, len(labels))
    return Known(
        classes=tuple(place["classes"]),
        names=names,
        references=references,
        labels=labels,
        runs=rows.iloc[kept].reset_index(drop=True),
        predicted=np.stack(predicted),
    )


def index_file(folder: Path, place: Mapping[str, Any]) -> Path | None:
    """Return the file that lists a user's images, where the sweep wrote it or below its moved folder, or None."""
    paths = [Path(str(place.get("index", ""))), Path(folder) / "data" / f"{place.get('fingerprint')}.parquet"]
    return next((path for path in paths if path.is_file()), None)


def named(folder: Path, place: Mapping[str, Any], count: int) -> tuple[tuple[str, ...], tuple[Reference, ...]]:
    """Return the names and places of the `count` test images in the order of runs, empty names if the index is gone."""
    path = index_file(folder, place)
    index = pd.read_parquet(path) if path else pd.DataFrame({"split": []})
    tested = index[index["split"] == "test"]
    if len(tested) != count:
        return ("",) * count, ()
    references = [Reference(*row) for row in tested[list(Reference._fields)].itertuples(index=False, name=None)]
    return tuple(map(str, tested["name"])), tuple(references)


def thumbnails(known: Known, indices: Sequence[int]) -> tuple[list[bytes], int]:
    """Return a JPEG of each of these test images, empty where it can't be read any more, and how many of these are."""
    made = [small(known.references[k]) if known.references else b"" for k in indices]
    return made, made.count(b"")


def small(reference: Reference) -> bytes:
    """Return an image as a JPEG whose longer side has at most `SIDE` pixels, empty if it can't be read."""
    try:
        picture = image_file.read(fetch(reference))
    except (OSError, image_file.Unreadable):  # moved or changed since the sweep, which the page then says
        return b""
    picture = picture.convert("L" if picture.mode == "L" else "RGB")
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
