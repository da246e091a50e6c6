"""What a sweep keeps of the user's test images: their names in the order of runs, predictions, small pictures."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from bias_lab import ledger, results
from bias_lab.report.own import images
from tests.report.own.own_images_on_disk import CLASSES, TESTED, labels, write, write_runs


def read(out: Path) -> images.Known:
    (place,) = images.places(out).values()
    known = images.known(out, place, results.read(out).table)
    assert known is not None
    return known


def test_names_and_predictions_are_in_the_order_of_the_test_images(tmp_path: Path) -> None:
    out, run = write(tmp_path)
    write_runs(out, run)
    known = read(out)
    assert known.classes == CLASSES
    assert [name.split("/")[0] for name in known.names] == [CLASSES[k] for k in labels()]
    assert known.predicted.shape == (4, TESTED)
    wrong = known.runs["backbone"].eq("vit_micro").to_numpy()
    assert (known.predicted[wrong] == 1).all()
    assert (tmp_path / "mine" / known.names[0]).is_file()


def test_a_run_with_other_test_images_is_left_out(tmp_path: Path) -> None:
    out, run = write(tmp_path)
    write_runs(out, run)
    name = str(results.read(out).table["run_id"].iloc[3])
    path = ledger.run_folder(out, name) / ledger.PREDICTIONS
    pd.read_parquet(path).assign(label=0).to_parquet(path, index=False)
    assert len(read(out).runs) == 3


def test_pictures_are_small_and_empty_where_the_files_are_gone(tmp_path: Path) -> None:
    out, run = write(tmp_path)
    write_runs(out, run)
    known = read(out)
    made, gone = images.thumbnails(known, [0, 1])
    assert (Image.open(io.BytesIO(made[0])).size, gone) == ((96, 72), 0)
    original = np.asarray(Image.open(tmp_path / "mine" / known.names[0]).convert("L").resize((8, 6)), float)
    small = np.asarray(Image.open(io.BytesIO(made[0])).convert("L").resize((8, 6)), float)
    assert np.abs(original - small).mean() < 6
    (tmp_path / "mine" / known.names[0]).unlink()
    assert images.thumbnails(known, [0, 1])[1] == 1


def test_a_moved_sweep_finds_its_index_and_one_without_index_has_no_names(tmp_path: Path) -> None:
    out, run = write(tmp_path)
    write_runs(out, run)
    moved = out.rename(tmp_path / "moved")
    assert read(moved).names[0].startswith("bird/")
    for path in (moved / "data").glob("*.parquet"):
        path.unlink()
    known = read(moved)
    assert set(known.names) == {""}
    assert images.thumbnails(known, [0])[1] == 1


def test_a_folder_without_own_images(tmp_path: Path) -> None:
    assert images.places(tmp_path) == {}
    ledger.write_json(tmp_path / ledger.PLACES, {"file:abc": "weights.pt"})
    assert images.places(tmp_path) == {}
