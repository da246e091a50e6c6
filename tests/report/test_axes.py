"""Any field of a run, or of its pretraining, is an axis that the report names, draws and compares."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bias_lab import schema, statistics
from bias_lab.definition import Run, run_id
from bias_lab.report import axes, report
from bias_lab.report.findings import findings, split
from bias_lab.report.pages import Report, Section
from bias_lab.report.sentences import value_words
from bias_lab.results import Results, StudyPlan
from bias_lab.tracking import mapping
from tests.planted import curve, row, rows, table
from tests.test_schema import OTHER

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=0.002)
PAIR = ("vit_micro", "resnet_micro")
REPLICATES = ((0, 0), (1, 1), (2, 2))
CELLS = {
    "dataset",
    "image_size",
    "image_width",
    "backbone",
    "size",
    "regime",
    "protocol",
    "source",
}  # every table tells them apart
VARYING = sorted(set(OTHER) - {"draw", "seed", "blocks", "task", "monitor", "pretraining"} - CELLS)


def section(found: Report, name: str) -> Section:
    return next(part for part in found.sections if part.name == name)


def planted(runs: list[Run], accuracy: Callable[[Run], float]) -> list[dict[str, Any]]:
    """Return a row for each run and replicate, a little apart from one replicate to the next."""
    found = []
    for run in runs:
        for draw, seed in REPLICATES:
            one = replace(run, draw=draw, seed=seed)
            found.append(row(one, top1=accuracy(one) + 0.002 * draw * (1 + (run.backbone == "vit_micro"))))
    return found


def level(run: Run) -> float:
    return 0.6 if run.backbone == "vit_micro" else 0.75


@pytest.mark.parametrize("name", VARYING)
def test_any_field_of_a_run_is_an_axis(name: str) -> None:
    """The field alone varies: the text names both values, and so do labels, config, figure and legend."""
    runs = [replace(ONE, backbone=backbone) for backbone in PAIR]
    others = [replace(run, **{name: OTHER[name]}) for run in runs]
    records = planted(runs, level) + planted(others, lambda run: level(run) - 0.05)
    if name == "learning_rate":
        records = [one | {"learning_rate": one["learning_rate"]} for one in records]
    shown = table(records)
    assert statistics.axes(shown) == [name]
    found = findings(Results(table=shown))
    part = section(found, name)
    values = [value_words(name, value) for value in statistics.values(shown, name)]
    assert len(set(values)) == 2
    page = report.markdown(found)
    assert all(words in page for words in values)
    assert any(values[1].replace("no ", "", 1) in text for text in part.text)
    assert [words for words, _ in part.charts[0].legend] == values
    assert len({dash for _, dash in part.charts[0].legend}) == 2
    assert len({line.label for line in part.charts[0].series}) == 4
    assert {line.label for line in part.charts[1].series} == set(values)
    every = [*runs, *others]
    assert len(set(schema.labels(every).values())) == 4
    configs = [mapping.config_of(one) | mapping.summary_of(one) for one in (records[0], records[len(records) // 2])]
    assert {key for key in configs[0] | configs[1] if configs[0].get(key) != configs[1].get(key)} > {"run_id"}


@pytest.mark.parametrize(("name", "value"), [("mask_ratio", 0.5), ("samples_seen", 64_000), ("drop_path", 0.1)])
def test_any_field_of_a_pretraining_is_an_axis(name: str, value: Any) -> None:
    before = replace(ONE, task="pretrain", regime="mae", source="pool", size=0, mask_ratio=0.75)
    other = replace(before, **{name: value})
    after = [replace(ONE, regime="mae", source="pool", pretraining=run_id(run)) for run in (before, other)]
    records = planted([replace(ONE, backbone=backbone) for backbone in PAIR], level)
    records += planted(after[:1], lambda run: 0.70) + planted(after[1:], lambda run: 0.66)
    records += [row(run, samples_seen=run.samples_seen) for run in (before, other)]
    shown = table(records)
    found = findings(Results(table=shown, plan=StudyPlan(labels=schema.labels([before, other, *after]))))
    part = section(found, f"pretraining_{name}")
    values = [value_words(part.name, one) for one in statistics.values(split(shown)[0][1], part.name)]
    page = report.markdown(found)
    assert all(words in page for words in values)
    assert part.text[0].startswith("After MAE (on pool) with a pretraining ")
    assert "the accuracy of vit_micro falls by 4.0 points" in " ".join(part.text)
    assert len({line.label for line in part.charts[0].series}) == 2


def noisy(gap: float) -> list[dict[str, Any]]:
    """Return a lead of 0.15 on clean labels and of `gap` with a fifth of them wrong."""
    clean = rows(level, backbones=PAIR, sizes=(100, 1000), noise=0.002)
    return clean + rows(
        lambda run: 0.7 - gap * (run.backbone == "vit_micro"), backbones=PAIR, sizes=(100, 1000), noise=0.002,
        label_noise=0.2, seed=1,
    )  # fmt: skip


def test_a_value_under_which_a_backbone_collapsed_makes_no_claim() -> None:
    made = table(noisy(0.13))
    noise = made["label_noise"] > 0
    broken = made.assign(collapsed=noise & (made["backbone"] == "vit_micro") & (made["size"] == 100))
    found = findings(Results(table=broken))
    told = " ".join(section(found, "label_noise").text)
    assert "With label noise 0.2, nothing is claimed at N = 100: runs of vit_micro at N = 100 collapsed" in told
    assert "With label noise 0.2, ResNet" in told
    assert not re.search(r"(smaller|larger) than with [^.]* at 100 labels", told)
    assert "nothing is claimed at N = 100:" in found.answers[0][1]


def test_the_difference_is_told_with_its_interval() -> None:
    found = findings(Results(table=table(noisy(0.13))))
    part = section(found, "label_noise")
    told = " ".join(part.text)
    assert "With label noise 0.2, ResNet still leads plain ViT at N = 100 and 1,000. At 100 labels the lead is " in told
    assert "With label noise 0.2, ResNet's lead does not change by a third at 100 labels: it is " in told
    assert "points smaller than with label noise 0 (95 % CI " in told
    assert "At 1,000 labels it does not: it is " in told
    assert "the accuracy of vit_micro changes" not in told
    assert "With label noise 0.2, the accuracy of resnet_micro falls by 5." in told
    assert "ResNet still leads plain ViT" in found.answers[0][1]  # every cell varies, so the study is about it
    assert found.answers[0][2].endswith("Claims by label noise are Holm-corrected over 4 comparisons.")
    assert part.title == "Does the shortfall depend on the label noise?"
    assert [len(each.rows) for each in part.tables] == [4, 4]


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        (0.1, "The data leave open whether the lead changes by a third or more."),
        (0.06, "That is more than a third of the lead."),
    ],
)
def test_a_lead_that_changes_by_a_third_is_not_said_to_hold(gap: float, words: str) -> None:
    found = findings(Results(table=table(noisy(gap))))
    for told in (" ".join(section(found, "label_noise").text), found.answers[0][1]):
        assert "With label noise 0.2, ResNet leads plain ViT at N = 100 and 1,000." in told
        assert "still" not in told
        assert "does not change" not in told
    assert "points smaller than with label noise 0 at 100 labels (95 % CI " in " ".join(
        section(found, "label_noise").text
    )
    assert words in " ".join(section(found, "label_noise").text)


def test_a_third_of_a_lead_that_is_not_shown_is_no_measure() -> None:
    level = rows(lambda run: 0.6, backbones=PAIR, sizes=(100,), noise=0.002)
    other = rows(lambda run: 0.6, backbones=PAIR, sizes=(100,), noise=0.002, label_noise=0.2, seed=1)
    told = axes.change_of_lead("label_noise", statistics.arms(table([*level, *other]), axis="label_noise"))
    assert "does not change" not in told[0]
    assert "third" not in told[0]


def test_a_lead_that_is_gone_is_not_claimed() -> None:
    told = " ".join(section(findings(Results(table=table(noisy(0.0)))), "label_noise").text)
    assert "With label noise 0.2, no difference between plain ViT and ResNet is shown at N = 100 and 1,000." in told
    assert "still lead" not in told


@pytest.mark.parametrize(("change", "expected"), [(0.0, 1), (0.05, 2)])
def test_a_control_is_drawn_once_where_a_value_does_not_change_it(change: float, expected: int) -> None:
    control = replace(ONE, backbone="pixels", protocol="linear_probe")
    runs = [
        replace(one, intervention=arm)
        for one in (*(replace(ONE, backbone=name) for name in PAIR), control)
        for arm in ("", "permute_pixels")
    ]
    made = planted(runs, lambda run: level(run) + change * bool(run.intervention))
    chart = axes.findings_of(table(made), "intervention").section.charts[0]
    names = [line.label for line in chart.series if line.label.startswith("pixels")]
    assert names == ["pixels (linear probe)", "pixels (linear probe), pixels permuted"][:expected]


def test_where_some_cells_alone_vary_the_same_cells_are_compared() -> None:
    """Two backbones at one size have a longer run: their lead is compared, and the top of the report is silent."""
    usual = rows(lambda run: curve(run.size) - 0.1 * (run.backbone == "vit_micro"), sizes=(100, 1000), noise=0.002)
    longer = rows(lambda run: curve(100), backbones=PAIR, sizes=(100,), noise=0.002, budget=3.0, seed=1)
    found = findings(Results(table=table([*usual, *longer])))
    part = section(found, "budget")
    assert part.text[0] == "This compares resnet_micro and vit_micro, which have runs with each of the values."
    assert "budget" not in found.answers[0][1]
    assert [cell.text for cell in part.tables[0].rows[0]][:2] == ["budget 1x", "100"]
    assert len(part.tables[0].rows) == 2
    assert [each.name for each in found.sections].index("budget") > 1


def test_one_replicate_claims_nothing() -> None:
    single = [one for one in noisy(0.1) if one["draw"] == 0 or not one["label_noise"]]
    view = split(table(single))[0][1]
    lead = axes.lead_by_value("label_noise", statistics.arms(view, axis="label_noise"))
    assert lead == ["With label noise 0.2, nothing is claimed at N = 100 and 1,000, since there is only one replicate."]
