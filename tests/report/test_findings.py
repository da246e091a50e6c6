"""What the report says in every state of a sweep; own backbones, longer cells, other recipes, several datasets."""

from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import pytest

from bias_lab.catalogue import TASKS
from bias_lab.definition import Run
from bias_lab.report.findings import facts, findings, split
from bias_lab.report.pages import Report, Section
from bias_lab.report.report import html, markdown
from bias_lab.report.sentences import removed as removed_in_words
from bias_lab.results import Results, StudyPlan
from bias_lab.statistics import conditions, removed
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
    report = findings(Results(table=table([*rows(accuracy), *mae])))
    assert report.answers[0][1].startswith("Plain ViT falls short of the CNN family at N = 100")
    assert "At 100 labels, MAE (on pool) recovers " in report.answers[0][1]
    assert "Holm-corrected" in report.answers[0][2]
    assert report.status == "complete: 30 of 30 runs"
    assert report.complete
    assert names(report)[:4] == ["figure", "shortfall", "parts", "recovery"]
    assert [line.label for line in section(report, "shortfall").charts[0].series] == ["ViT", "ViT + mae"]
    assert "own" not in names(report)


def test_runs_that_another_metric_evaluates_are_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report compares accuracies. A task with a metric of its own stops no report and is averaged with no other."""
    monkeypatch.setitem(TASKS, "regress", replace(TASKS["classify"], name="regress", metric="ece", metric_words="R²"))
    monkeypatch.setattr(conditions, "TESTED", ("classify", "regress"))
    alone = table(rows(accuracy)).assign(task="regress", top1=float("nan"))
    report = findings(Results(table=alone))
    told = "The sections leave out 24 runs of the task regress, which is evaluated in R². They compare test accuracy."
    assert report.caveats[0] == told
    both = pd.concat([table(rows(accuracy)), alone.assign(run_id=alone["run_id"] + "x")], ignore_index=True)
    assert findings(Results(table=both)).answers == findings(Results(table=table(rows(accuracy)))).answers


def test_a_task_with_masks_is_compared_in_its_own_metric_which_is_said() -> None:
    masks = [
        one
        | {"task": "segment", "miou": one["top1"], "train_miou": one["train_top1"], "top1": None, "train_top1": None}
        for one in rows(accuracy)
    ]
    report = findings(Results(table=table(masks)))
    plain = findings(Results(table=table(rows(accuracy))))
    assert report.answers == plain.answers
    assert (plain.metric, report.metric) == ("accuracy", "mIoU")
    assert "accura" not in markdown(report).lower().replace("figures/accuracy.svg", "")
    assert markdown(plain).lower().count("accura") > 4
    assert "mean test mIoU" in html(report)
    assert "accura" not in html(report).lower().replace('id="accuracy', "")
    assert names(report) == names(plain)


def test_nothing_yet() -> None:
    plan = StudyPlan(run_ids=("a", "b"), question="Why?", labels={"a": "one", "b": "two"})
    report = findings(Results(table=table([]), plan=plan))
    assert (report.question, report.status, report.complete) == ("Why?", "missing: 2 of 2 runs", False)
    assert report.answers == (("", "No run is finished yet, so nothing can be concluded.", ""),)
    assert len(section(report, "undone").tables[0].rows) == 2


def test_failed_and_missing_are_counted_apart() -> None:
    made = table(
        [*rows(accuracy), row(Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=7), status="failed")]
    )
    name = made.loc[made["status"] == "failed", "run_id"].iloc[0]
    plan = StudyPlan(run_ids=(*made["run_id"], "z"))
    assert (
        findings(Results(table=made, plan=plan, reasons={name: "diverged: nan"})).status
        == "missing: 1 of 26 runs · failed: 1 of 26, 1 diverged"
    )


@pytest.mark.parametrize("keep", [1, 2, 7])
def test_any_number_of_first_rows_gives_a_report(keep: int) -> None:
    made: list[dict[str, Any]] = sorted(rows(accuracy), key=lambda r: (r["size"], r["draw"], r["backbone"]))
    assert findings(Results(table=table(made[:keep]))).answers


def test_pretraining_and_tuning_runs_alone() -> None:
    pre = row(Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="pretrain", regime="mae"), top1=None)
    tune = row(Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="tune", size=100), top1=None)
    report = findings(Results(table=table([pre, tune])))
    assert "nothing can be concluded" in report.answers[0][1]
    assert "budgets" in names(report)


def test_two_datasets_are_answered_apart() -> None:
    other = [r | {"dataset": "cifar10", "image_size": 32} for r in rows(lambda run: 0.5)]
    report = findings(Results(table=table([*rows(accuracy), *other])))
    assert [about for about, _, _ in report.answers] == ["cifar10", "fashion_mnist_12k"]
    assert {"cifar10-figure", "fashion-mnist-12k-figure"} <= set(names(report))
    assert len({chart.name for part in report.sections for chart in part.charts}) == 4
    sides = [r | {"image_size": 32} for r in rows(lambda run: 0.5)]
    assert [name for name, _ in split(table([*rows(accuracy), *sides]))] == [
        "fashion_mnist_12k, 28 px",
        "fashion_mnist_12k, 32 px",
    ]


def test_own_data_are_called_as_their_place_is() -> None:
    mine = "folder:820eb6759ffbaf0b"
    made = table([one | {"dataset": mine, "regime": "supervised", "source": mine} for one in rows(accuracy)])
    row = dict(backbone="vit_micro", regime="supervised", source=mine, recipe="plain", size=100, learning_rate=0.1)
    tuned = {"rows": [row | {"dataset": mine, "trials": []}]}
    plan = StudyPlan(names={mine: "flowers"}, run_ids=("z",), labels={"z": f"vit_micro supervised {mine}"})
    text = str(findings(Results(table=made, plan=plan, tuned=tuned)))
    assert "supervised pretraining (on flowers)" in text
    assert "vit_micro supervised flowers" in text
    assert mine not in text
    same = replace(plan, names={mine: "cifar10"})
    assert f"supervised pretraining (on cifar10 ({mine}))" in str(findings(Results(table=made, plan=same)))


def test_an_own_backbone_is_told_first_with_its_interval() -> None:
    own = rows(lambda run: curve(run.size) - 0.04, backbones=["my.nets:stem"], noise=0.001)
    made = table([*rows(accuracy, noise=0.001), *own])
    text = removed_in_words(removed(made))[0]
    assert text.startswith("my.nets:stem removes 60 % of the shortfall (95 % CI ")
    assert text.endswith(" at N = 100.")
    assert section(findings(Results(table=made)), "own").tables[0].rows


def test_the_note_and_the_tuning_table_are_carried() -> None:
    chosen = dict(backbone="vit_micro", regime="scratch", recipe="plain", size=100, learning_rate=0.1, trials=[])
    shown = table(rows(accuracy, backbones=["vit_micro", *CNNS]))
    plan = StudyPlan(note="Given one pretraining.")
    report = findings(Results(table=shown, plan=plan, tuned={"rows": [chosen]}))
    assert report.note == "Given one pretraining"
    assert section(report, "tuning").tables[0].rows


def test_a_control_without_parameters_is_no_backbone() -> None:
    trained = [one | {"parameters": 300_000 + 100_000 * (one["backbone"] in CNNS)} for one in rows(lambda run: 0.6)]
    pixels = [one | {"parameters": 0} for one in rows(lambda run: 0.6, backbones=["pixels"], protocol="linear_probe")]
    (line,) = facts(table([*trained, *pixels]))
    assert "4 backbones of 0.30 to 0.40 M parameters" in line


def test_the_time_of_interrupted_runs_is_a_lower_bound() -> None:
    made = table([one | {"seconds": 60.0} for one in rows(lambda run: 0.6)])
    minutes = len(made)
    assert facts(made)[0].endswith(f", {minutes} minutes of one worker's time.")
    made.loc[0, "attempts"] = 2
    assert facts(made)[0].endswith(f", at least {minutes} minutes of one worker's time.")


def test_trials_of_learning_rates_are_counted_apart_from_runs() -> None:
    runs = rows(lambda run: 0.6)
    trials = [one | {"task": "tune", "run_id": f"{one['run_id']}t"} for one in runs[:3]]
    assert facts(table(runs))[0].startswith(f"{len(runs)} runs, ")
    assert facts(table([*runs, *trials]))[0].startswith(f"{len(runs)} runs and 3 trials, ")
    tuned_alone = [one | {"backbone": "mlp_micro"} for one in trials]
    assert facts(table([*runs, *tuned_alone]))[0].startswith(f"{len(runs)} runs and 3 trials, 4 backbones")
