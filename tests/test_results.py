"""Folders and table files are read as one typed study: every state of a folder, old tables, several parts."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bias_lab import ledger, results, schema
from bias_lab.definition import Run, grid
from bias_lab.errors import UserError
from tests import planted
from tests.planted import write_failure, write_plan, write_run

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=0.001)


def test_columns_types_and_values(tmp_path: Path) -> None:
    write_run(tmp_path, ONE, 0.55)
    table = results.read(tmp_path).table
    assert tuple(table.columns) == tuple(schema.COLUMNS)
    assert {name: str(kind) for name, kind in table.dtypes.items()} == {
        name: schema.PANDAS[column.kind] for name, column in schema.COLUMNS.items()
    }
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
    found = results.read(tmp_path)
    assert found.table.loc[0, "status"] == "failed"
    assert np.isnan(found.table.loc[0, "top1"])
    assert found.table.loc[0, "attempts"] == 1
    assert found.reasons == {name: "diverged: the loss is nan at step 12"}


def test_a_started_run_is_no_row(tmp_path: Path) -> None:
    ledger.write_json(ledger.run_folder(tmp_path, "0" * 12) / ledger.RUN, {"dataset": "x", "backbone": "y", "size": 1})
    assert results.read(tmp_path).table.empty


def test_a_pretraining_is_a_row_without_accuracy(tmp_path: Path) -> None:
    write_run(
        tmp_path, Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="pretrain", regime="mae", source="pool")
    )
    row = results.read(tmp_path).table.iloc[0]
    assert row["task"] == "pretrain"
    assert np.isnan(row["top1"])
    assert row["correct"] is None
    assert row["loss"] == 0.2


def test_rows_stand_in_the_plan_s_order_and_missing_names_the_rest(tmp_path: Path) -> None:
    runs = grid(ONE, draw=(2, 0, 1))
    write_plan(tmp_path, runs)
    for run in runs[1:]:
        write_run(tmp_path, run)
    found = results.read(tmp_path)
    assert list(found.table["draw"]) == [0, 1]
    (missing,) = found.missing()
    assert found.plan.labels[missing].endswith("draw 2 seed 0")


def test_the_plan_s_family_wins(tmp_path: Path) -> None:
    own = Run(dataset="fashion_mnist_12k", backbone="mine:net", size=100)
    name = write_run(tmp_path, own)
    assert results.read(tmp_path).table.loc[0, "family"] == "other"
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
    assert results.read(tmp_path).table.loc[0, "family"] == "cnn"


def test_the_table_alone_is_enough(tmp_path: Path) -> None:
    write_plan(tmp_path, grid(ONE, draw=(0, 1, 2)))
    write_run(tmp_path, ONE)
    write_failure(tmp_path, grid(ONE, draw=(1,))[0])
    before = results.read(tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(results.write(tmp_path), alone)
    for after in (results.read(alone), results.read(alone / ledger.TABLE)):
        pd.testing.assert_frame_equal(before.table, after.table)
        assert (after.plan, after.reasons) == (before.plan, before.reasons)
        assert len(after.missing()) == 1
        assert after.plan.question.startswith("How far")
    assert results.read(results.write(alone)).plan == before.plan


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
    assert len(results.read(tmp_path).table) == 3
    assert read == [third]
    changed = write_run(tmp_path, runs[0], 0.9)
    assert results.read(tmp_path).table.set_index("run_id").loc[changed, "top1"] == 0.9


def test_a_failed_run_that_succeeds_later_is_finished(tmp_path: Path) -> None:
    name = write_failure(tmp_path, ONE)
    results.write(tmp_path)
    (ledger.run_folder(tmp_path, name) / ledger.FAILURE).unlink()
    write_run(tmp_path, ONE)
    found = results.read(tmp_path)
    assert list(found.table["status"]) == ["finished"]
    assert found.reasons == {}


def test_a_removed_run_leaves_the_table(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path, run) for run in grid(ONE, draw=(0, 1)))
    results.write(tmp_path)
    shutil.rmtree(ledger.run_folder(tmp_path, first))
    assert list(results.read(tmp_path).table["run_id"]) == [second]


def test_an_empty_folder_with_a_plan_gives_an_empty_table(tmp_path: Path) -> None:
    write_plan(tmp_path, [ONE])
    found = results.read(tmp_path)
    table = found.table
    assert table.empty
    assert tuple(table.columns) == tuple(schema.COLUMNS)
    assert len(found.missing()) == 1
    assert pd.read_parquet(results.write(tmp_path)).empty


def test_recipes_are_told_by_the_plan(tmp_path: Path) -> None:
    write_plan(tmp_path, [ONE, *grid(ONE, recipe=("strong",), mixup=(0.2,))])
    recipes = results.read(tmp_path).plan.recipes
    assert recipes["plain"]["mixup"] == [0.0]
    assert recipes["strong"]["mixup"] == [0.2]


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        results.read(tmp_path / "nowhere")
    (tmp_path / ledger.TABLE).write_bytes(b"not a table")
    with pytest.raises(UserError, match=r"results\.parquet is not a readable table"):
        results.read(tmp_path)
    pd.DataFrame({"run_id": ["a"]}).to_parquet(tmp_path / ledger.TABLE)
    with pytest.raises(UserError, match="has no column 'experiment'"):
        results.read(tmp_path)


def test_the_tuning_table_is_the_folder_s_and_what_the_plan_used(tmp_path: Path) -> None:
    chosen = dict(dataset="d", backbone="vit_micro", recipe="plain", regime="scratch", size=100, learning_rate=0.001)
    write_plan(tmp_path, [ONE], tuned={"rows": [chosen, chosen | {"size": 1000}]})
    ledger.write_json(tmp_path / ledger.TUNED, {"command": "make tune", "rows": [chosen | {"learning_rate": 0.003}]})
    told = results.read(tmp_path).tuned
    assert told["command"] == "make tune"
    assert [(row["size"], row["learning_rate"]) for row in told["rows"]] == [(100, 0.003), (1000, 0.001)]
    write_run(tmp_path, ONE)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(results.write(tmp_path), alone)
    assert results.read(alone).tuned == told


def test_own_data_keep_the_name_of_their_place_and_not_its_path(tmp_path: Path) -> None:
    run = Run(dataset="folder:1", backbone="vit_micro", size=100)
    write_plan(tmp_path, [run])
    write_run(tmp_path, run)
    places = {"folder:1": {"path": "/home/me/flowers"}, "manifest:2": {"rows": 3}}
    ledger.write_json(tmp_path / ledger.PLACES, places)
    results.write(tmp_path)
    alone = shutil.copy(tmp_path / ledger.TABLE, tmp_path / "alone.parquet")
    assert results.open_results(tmp_path).plan.names == {"folder:1": "flowers"}
    assert results.open_results(alone).plan.names == {"folder:1": "flowers"}
    assert results.open_results(alone, results.Results(table=results.empty())).plan.names == {"folder:1": "flowers"}
    assert b"/home/me" not in Path(alone).read_bytes()


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
    fresh = results.read(tmp_path)
    assert fresh.curves == {names[0]: [[50, 100], [0.5, 0.625]]}
    overlap = fresh.table.set_index("run_id")["source_overlap"]
    assert overlap[names[1]] == 3
    assert overlap.drop(names[1]).isna().all()
    results.write(tmp_path)
    again = results.read(tmp_path)  # rows of the table file, not read again
    assert again.curves == fresh.curves
    pd.testing.assert_frame_equal(again.table, fresh.table)


# --- old tables and parts of a study ----------------------------------------------------------------------------------

COMMITTED = sorted((Path(__file__).parents[1] / "docs" / "results").glob("**/results.parquet"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_a_committed_table_that_kept_its_plan_in_attrs_is_read(path: Path) -> None:
    found = results.read(path)
    assert tuple(found.table.columns) == tuple(schema.COLUMNS)
    assert found.table["backbone"].notna().all()
    assert found.plan.question.endswith("?")
    assert found.plan.command.startswith("bias-lab ")
    assert set(found.plan.run_ids) >= set(found.table["run_id"])
    assert found.missing() == []
    assert found.table.attrs == {}


def old_table(folder: Path, rows: list[dict[str, object]], **attrs: object) -> Path:
    """Write a table as versions before the schema did: the required columns, the rest in pandas' attrs."""
    table = pd.DataFrame.from_records(rows, columns=schema.REQUIRED)
    table.attrs = attrs
    table.to_parquet(folder / ledger.TABLE, index=False)
    return folder / ledger.TABLE


def test_an_old_table_gives_its_plan_and_every_column(tmp_path: Path) -> None:
    before = planted.row(replace(ONE, task="pretrain", regime="mae", source="mine"))
    lost = planted.row(replace(ONE, draw=1), status="failed", top1=None)
    path = old_table(
        tmp_path,
        [planted.row(ONE), before, lost],
        experiment={"question": "Why?", "planned": [planted.row(ONE)["run_id"], "gone"], "labels": {"gone": "a run"}},
        tuned={"rows": [{"backbone": "vit_micro"}]},
        reasons={lost["run_id"]: "diverged: nan"},
        overlap={before["run_id"]: 3},
        curves={},
    )
    found = results.read(path)
    assert (found.plan.question, found.missing()) == ("Why?", ["gone"])
    assert found.plan.labels == {"gone": "a run"}
    assert found.reasons == {lost["run_id"]: "diverged: nan"}
    assert found.tuned["rows"] == [{"backbone": "vit_micro"}]
    assert list(found.table["source_overlap"].dropna()) == [3]
    assert found.table["label_noise"].isna().all()
    assert found.table["pretraining"].tolist() == ["", "", ""]


def test_parts_of_a_study_are_read_as_one(tmp_path: Path) -> None:
    """Two folders and a table file: a run that was finished in any part counts once, as finished."""
    runs = grid(ONE, draw=(0, 1, 2))
    one, other = tmp_path / "one", tmp_path / "other"
    write_plan(one, runs[:2], command="bias-lab sweep a.py")
    write_plan(other, runs[1:], command="bias-lab sweep b.py", question="")
    write_run(one, runs[0], 0.4)
    name = write_failure(one, runs[1])
    write_run(other, runs[1], 0.6)
    found = results.open_results(one, results.write(other))
    assert found.table["run_id"].is_unique
    assert dict(zip(found.table["draw"], found.table["top1"], strict=True)) == {0: 0.4, 1: 0.6}
    assert found.reasons == {}
    assert [found.plan.labels[missing] for missing in found.missing()] == [schema.label(runs[2])]
    assert found.plan.command == "bias-lab sweep a.py; bias-lab sweep b.py"
    assert found.plan.question.startswith("How far")
    assert results.open_results(results.read(one)).reasons[name].startswith("diverged")
    with pytest.raises(UserError, match="no results were given"):
        results.open_results()


def test_a_kill_between_two_writes_leaves_a_table_that_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table file is replaced whole: after a kill the old one stands, and the next reading adds what came since."""
    runs = grid(ONE, draw=(0, 1))
    write_run(tmp_path, runs[0])
    before = results.write(tmp_path).read_bytes()
    write_run(tmp_path, runs[1])
    with monkeypatch.context() as patched:
        patched.setattr(results.pq, "write_table", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            results.write(tmp_path)
    assert (tmp_path / ledger.TABLE).read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
    assert len(results.read(tmp_path).table) == 2


def test_a_table_file_that_lacks_a_column_is_read_again_from_the_folders(tmp_path: Path) -> None:
    """A version that knows more columns fills them from `result.json`; without folders they hold no values."""
    write_run(tmp_path, replace(ONE, label_noise=0.2))
    path = results.write(tmp_path)
    arrow = results.pq.read_table(path)
    results.pq.write_table(arrow.drop_columns(["label_noise"]), path)
    assert results.read(path).table["label_noise"].isna().all()
    assert results.read(tmp_path).table["label_noise"].tolist() == [0.2]
