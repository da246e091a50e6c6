"""A folder becomes one table: every run a row, every state of the folder readable, nothing read twice."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bias_lab import ledger, results
from bias_lab.definition import Run, grid
from bias_lab.errors import UserError
from tests.planted import write_failure, write_plan, write_run

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=0.001)


def test_columns_types_and_values(tmp_path: Path) -> None:
    write_run(tmp_path, ONE, 0.55)
    table = results.collect(tmp_path)
    assert tuple(table.columns) == ledger.COLUMNS
    row = table.iloc[0]
    assert (row["backbone"], row["architecture"], row["family"]) == ("vit_micro", "vit", "transformer")
    assert (row["size"], row["draw"], row["seed"], row["budget"], row["status"]) == (100, 0, 0, 1.0, "finished")
    assert (row["top1"], row["learning_rate"], row["image_size"], row["steps"]) == (0.55, 0.001, 28, 500)
    right = np.unpackbits(np.frombuffer(row["correct"], np.uint8), count=int(row["test_images"]))
    assert right.mean() == row["top1"]
    assert right[0] == 1
    assert right[-1] == 0


def test_a_failed_run_is_a_row_and_keeps_its_reason(tmp_path: Path) -> None:
    name = write_failure(tmp_path, ONE)
    table = results.collect(tmp_path)
    assert table.loc[0, "status"] == "failed"
    assert np.isnan(table.loc[0, "top1"])
    assert table.loc[0, "attempts"] == 1
    assert table.attrs["reasons"] == {name: "diverged: the loss is nan at step 12"}


def test_a_started_run_is_no_row(tmp_path: Path) -> None:
    ledger.write_json(ledger.run_folder(tmp_path, "0" * 12) / ledger.RUN, {"dataset": "x", "backbone": "y", "size": 1})
    assert results.collect(tmp_path).empty


def test_a_pretraining_is_a_row_without_accuracy(tmp_path: Path) -> None:
    write_run(
        tmp_path, Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="pretrain", regime="mae", source="pool")
    )
    row = results.collect(tmp_path).iloc[0]
    assert row["task"] == "pretrain"
    assert np.isnan(row["top1"])
    assert row["correct"] is None
    assert row["loss"] == 0.2


def test_rows_stand_in_the_plan_s_order_and_missing_names_the_rest(tmp_path: Path) -> None:
    runs = grid(ONE, draw=(2, 0, 1))
    write_plan(tmp_path, runs)
    for run in runs[1:]:
        write_run(tmp_path, run)
    table = results.collect(tmp_path)
    assert list(table["draw"]) == [0, 1]
    assert len(results.missing(table)) == 1
    assert table.attrs["experiment"]["labels"][results.missing(table)[0]].endswith("draw 2 seed 0")


def test_the_plan_s_family_wins(tmp_path: Path) -> None:
    own = Run(dataset="fashion_mnist_12k", backbone="mine:net", size=100)
    name = write_run(tmp_path, own)
    assert results.collect(tmp_path).loc[0, "family"] == "other"
    ledger.write_json(
        tmp_path / ledger.EXPERIMENT,
        {
            "experiment": "e",
            "runs": [
                {
                    "run_id": name,
                    "family": "cnn",
                    "run": {"dataset": "fashion_mnist_12k", "backbone": "mine:net", "size": 100},
                }
            ],
        },
    )
    assert results.collect(tmp_path).loc[0, "family"] == "cnn"


def test_the_table_alone_is_enough(tmp_path: Path) -> None:
    write_plan(tmp_path, grid(ONE, draw=(0, 1, 2)))
    write_run(tmp_path, ONE)
    write_failure(tmp_path, grid(ONE, draw=(1,))[0])
    before = results.collect(tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(results.write(tmp_path), alone)
    after = results.collect(alone)
    pd.testing.assert_frame_equal(before, after)
    assert after.attrs["reasons"] == before.attrs["reasons"]
    assert len(results.missing(after)) == 1
    assert after.attrs["experiment"]["question"].startswith("How far")
    assert results.write(alone).is_file()
    assert results.collect(alone).attrs["experiment"] == before.attrs["experiment"]


def test_only_new_results_are_read_and_a_changed_one_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = grid(ONE, draw=(0, 1, 2))
    for run in runs[:2]:
        write_run(tmp_path, run)
    time.sleep(0.02)
    results.write(tmp_path)
    read: list[str] = []
    plain = ledger.read_json
    monkeypatch.setattr(ledger, "read_json", lambda path: (read.append(path.parent.name), plain(path))[1])
    time.sleep(0.02)
    third = write_run(tmp_path, runs[2])
    assert len(results.collect(tmp_path)) == 3
    assert read == [third]
    changed = write_run(tmp_path, runs[0], 0.9)
    assert results.collect(tmp_path).set_index("run_id").loc[changed, "top1"] == 0.9


def test_a_failed_run_that_succeeds_later_is_finished(tmp_path: Path) -> None:
    name = write_failure(tmp_path, ONE)
    results.write(tmp_path)
    (ledger.run_folder(tmp_path, name) / ledger.FAILURE).unlink()
    write_run(tmp_path, ONE)
    table = results.collect(tmp_path)
    assert list(table["status"]) == ["finished"]
    assert table.attrs["reasons"] == {}


def test_a_removed_run_leaves_the_table(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path, run) for run in grid(ONE, draw=(0, 1)))
    results.write(tmp_path)
    shutil.rmtree(ledger.run_folder(tmp_path, first))
    assert list(results.collect(tmp_path)["run_id"]) == [second]


def test_an_empty_folder_with_a_plan_gives_an_empty_table(tmp_path: Path) -> None:
    write_plan(tmp_path, [ONE])
    table = results.collect(tmp_path)
    assert table.empty
    assert tuple(table.columns) == ledger.COLUMNS
    assert len(results.missing(table)) == 1
    assert pd.read_parquet(results.write(tmp_path)).empty


def test_recipes_are_told_by_the_plan(tmp_path: Path) -> None:
    write_plan(tmp_path, [ONE, *grid(ONE, recipe=("strong",), mixup=(0.2,))])
    recipes = results.collect(tmp_path).attrs["experiment"]["recipes"]
    assert recipes["plain"]["mixup"] == [0.0]
    assert recipes["strong"]["mixup"] == [0.2]


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        results.collect(tmp_path / "nowhere")
    (tmp_path / ledger.TABLE).write_bytes(b"not a table")
    with pytest.raises(UserError, match=r"results\.parquet is not a readable table"):
        results.collect(tmp_path)
    pd.DataFrame({"run_id": ["a"]}).to_parquet(tmp_path / ledger.TABLE)
    with pytest.raises(UserError, match="has no column 'experiment'"):
        results.collect(tmp_path)


def test_predictions_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    name = write_run(tmp_path, ONE, 0.25)
    path = ledger.run_folder(tmp_path, name) / ledger.PREDICTIONS
    before = results._correct(path)
    pd.read_parquet(path).iloc[::-1].to_parquet(path, index=False)
    assert results._correct(path) == before
    path.unlink()
    assert results._correct(path) is None


def test_the_tuning_table_is_the_folder_s_and_what_the_plan_used(tmp_path: Path) -> None:
    chosen = dict(dataset="d", backbone="vit_micro", recipe="plain", regime="scratch", size=100, learning_rate=0.001)
    write_plan(tmp_path, [ONE], tuned={"rows": [chosen, chosen | {"size": 1000}]})
    ledger.write_json(tmp_path / ledger.TUNED, {"command": "make tune", "rows": [chosen | {"learning_rate": 0.003}]})
    told = results.collect(tmp_path).attrs["tuned"]
    assert told["command"] == "make tune"
    assert [(row["size"], row["learning_rate"]) for row in told["rows"]] == [(100, 0.003), (1000, 0.001)]
    write_run(tmp_path, ONE)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(results.write(tmp_path), alone)
    assert results.collect(alone).attrs["tuned"] == told


def test_curves_of_watched_runs_and_overlaps_travel_with_the_table(tmp_path: Path) -> None:
    watched = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, monitor=2)
    before = Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="pretrain", regime="mae", source="mine")
    names = [write_run(tmp_path, run) for run in (watched, before, replace(watched, monitor=0))]
    lines = [
        '{"step": 50, "train/loss": 1.0}',
        '{"holdout/top1": 0.5, "step": 50}',
        '{"holdout/top1": 0.625, "step": 100}',
    ]
    for name in names:
        (ledger.run_folder(tmp_path, name) / ledger.METRICS).write_text("\n".join(lines) + "\n")
    path = ledger.run_folder(tmp_path, names[1]) / ledger.RESULT
    result = ledger.read_json(path)
    ledger.write_json(path, {**result, "facts": {**result["facts"], "source_overlap": 3}})
    fresh = results.collect(tmp_path).attrs
    assert fresh["curves"] == {names[0]: [[50, 100], [0.5, 0.625]]}
    assert fresh["overlap"] == {names[1]: 3}
    results.write(tmp_path)
    again = results.collect(tmp_path).attrs  # rows of the cache, not read again
    assert (again["curves"], again["overlap"]) == (fresh["curves"], fresh["overlap"])
