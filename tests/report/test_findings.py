"""What the report says in every state of a sweep; own backbones, longer cells, other recipes, several datasets."""

from functools import partial
from typing import Any

import pytest

from bias_lab.definition import Run
from bias_lab.report.findings import findings, own_told, prolonged, recipes, split
from bias_lab.report.pages import Report, Section
from bias_lab.statistics import removed
from tests import planted
from tests.planted import CNNS, curve, row, table

rows = partial(planted.rows, sizes=(100, 1000))
PLANTED = {"vit_micro": -0.1}


def accuracy(run: Run) -> float:
    return curve(run.size) + PLANTED.get(run.backbone, 0.0) + (0.05 if run.recipe == "strong" else 0)


def section(report: Report, name: str) -> Section:
    return next(part for part in report.sections if part.name == name)


def names(report: Report) -> list[str]:
    return [part.name for part in report.sections]


def test_a_finished_sweep() -> None:
    mae = rows(lambda run: curve(run.size) - 0.04, backbones=["vit_micro"], regime="mae", source="pool")
    report = findings(table([*rows(accuracy), *mae]))
    assert report.answers[0][1].startswith("Plain ViT falls short of the CNN family at N = 100")
    assert "MAE (on pool) wins back " in report.answers[0][1]
    assert "Holm-corrected" in report.answers[0][2]
    assert report.status == "complete: 30 of 30 runs"
    assert report.complete
    assert names(report)[:3] == ["figure", "shortfall", "recovery"]
    assert [line.label for line in section(report, "shortfall").charts[0].series] == ["ViT", "ViT + mae"]
    assert "own" not in names(report)


def test_nothing_yet() -> None:
    made = table([])
    made.attrs["experiment"] = {"planned": ["a", "b"], "question": "Why?", "labels": {"a": "one", "b": "two"}}
    report = findings(made)
    assert (report.question, report.status, report.complete) == ("Why?", "missing: 2 of 2 runs", False)
    assert report.answers == (("", "No finished run yet: nothing can be said.", ""),)
    assert len(section(report, "undone").tables[0].rows) == 2


def test_failed_and_missing_are_counted_apart() -> None:
    made = table(
        [*rows(accuracy), row(Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=7), status="failed")]
    )
    name = made.loc[made["status"] == "failed", "run_id"].iloc[0]
    made.attrs = {"experiment": {"planned": [*made["run_id"], "z"]}, "reasons": {name: "diverged: nan"}}
    assert findings(made).status == "missing: 1 of 26 runs · failed: 1 of 26, 1 diverged"


@pytest.mark.parametrize("keep", [1, 2, 7])
def test_any_number_of_first_rows_gives_a_report(keep: int) -> None:
    made: list[dict[str, Any]] = sorted(rows(accuracy), key=lambda r: (r["size"], r["draw"], r["backbone"]))
    assert findings(table(made[:keep])).answers


def test_pretraining_and_tuning_runs_alone() -> None:
    pre = row(Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="pretrain", regime="mae"), top1=None)
    tune = row(Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="tune", size=100), top1=None)
    report = findings(table([pre, tune]))
    assert "nothing can be said" in report.answers[0][1]
    assert "budgets" in names(report)


def test_two_datasets_are_answered_apart() -> None:
    other = [r | {"dataset": "cifar10", "image_size": 32} for r in rows(lambda run: 0.5)]
    report = findings(table([*rows(accuracy), *other]))
    assert [about for about, _, _ in report.answers] == ["cifar10", "fashion_mnist_12k"]
    assert {"cifar10-figure", "fashion-mnist-12k-figure"} <= set(names(report))
    assert len({chart.name for part in report.sections for chart in part.charts}) == 4
    sides = [r | {"image_size": 32} for r in rows(lambda run: 0.5)]
    assert [name for name, _ in split(table([*rows(accuracy), *sides]))] == [
        "fashion_mnist_12k, 28 px",
        "fashion_mnist_12k, 32 px",
    ]


def test_an_own_backbone_is_told_first_with_its_interval() -> None:
    own = rows(lambda run: curve(run.size) - 0.04, backbones=["my.nets:stem"], noise=0.001)
    made = table([*rows(accuracy, noise=0.001), *own])
    assert own_told(removed(made))[0].startswith("my.nets:stem removes 60 % of the shortfall at N = 100 (95 % interval")
    assert section(findings(made), "own").tables[0].rows


def longer(gain: float, **kind: Any) -> list[dict[str, Any]]:
    return rows(
        lambda run: accuracy(run) + (gain if run.backbone == "vit_micro" else 0),
        backbones=["vit_micro", "resnet_micro"], sizes=[100], budget=3.0, noise=0.002, seed=9, **kind,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [(0.01, "more steps do not change the verdict"), (0.11, "the verdict at this size rests on the budget")],
)
def test_whether_more_steps_would_change_the_answer(gain: float, verdict: str) -> None:
    made, told = prolonged(table([*rows(accuracy, noise=0.002), *longer(gain)]))
    assert verdict in told[0]
    assert len(told) == 1
    assert [r[0].text for r in made[0].rows][:2] == ["resnet_micro at 3× minus at 1×", "vit_micro at 3× minus at 1×"]


def test_one_longer_replicate_decides_nothing() -> None:
    _, told = prolonged(table([*rows(accuracy, noise=0.002), *longer(0.01, replicates=[(0, 0)])]))
    assert "one replicate can't say" in told[0]
    assert prolonged(table(rows(accuracy))) == ((), ())


def test_a_claim_is_said_to_hold_under_both_recipes_or_one() -> None:
    kind: dict[str, Any] = dict(backbones=["vit_micro", "resnet_micro"], sizes=[1000], recipe="strong", noise=0.002)
    made = table([*rows(accuracy, noise=0.002), *rows(accuracy, **kind)])
    _, told = recipes(made, split(made)[0][1])
    assert told[0].startswith("At N = 1,000 the shortfall against resnet_micro is ")
    assert told[0].endswith("(n = 3): it holds under both.")
    level = table([*rows(accuracy, noise=0.002), *rows(lambda run: 0.8, **kind)])
    assert recipes(level, split(level)[0][1])[1][0].endswith("it is shown under plain alone.")


def test_the_note_and_the_tuning_table_are_carried() -> None:
    made = table(rows(accuracy, backbones=["vit_micro", *CNNS]))
    chosen = dict(backbone="vit_micro", regime="scratch", recipe="plain", size=100, learning_rate=0.1, trials=[])
    made.attrs = {"experiment": {"note": "Given one pretraining."}, "tuned": {"rows": [chosen]}}
    report = findings(made)
    assert report.note == "Given one pretraining"
    assert section(report, "tuning").tables[0].rows
    assert made.attrs["experiment"] == {"note": "Given one pretraining."}  # the table given is left as it was
