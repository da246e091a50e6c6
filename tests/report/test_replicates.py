"""The report says what replicates share: one pretraining, wherever an interval is printed, and training images."""

from pathlib import Path
from typing import Any

import pytest

from bias_lab import results
from bias_lab.definition import Run
from bias_lab.report import report
from bias_lab.report.findings import findings, split
from bias_lab.report.pages import Cell, markdown
from bias_lab.report.replicates import captioned, draws, flags, footnote, mark
from bias_lab.report.sentences import GIVEN
from bias_lab.report.wandb_summary import study_of
from bias_lab.results import Results
from tests.planted import row, rows, table
from tests.statistics.test_recovery import THREE, after, from_scratch

RECOVERY = ("Share of the shortfall that a regime recovers", "What each start gains, and what it costs")


def study(*, shared: bool = False, untrained: bool = False) -> Results:
    return Results(table=table([*from_scratch(), *after("mae", 0.6, shared=shared, untrained=untrained)]))


def test_a_mark_stands_after_numbers_alone_and_has_its_footnote() -> None:
    assert mark(Cell("1.0 to 2.0", 1.0), {"shared": True}) == Cell("1.0 to 2.0 †", 1.0)
    assert mark(Cell("1.0 to 2.0", 1.0), {"shared": False}) == mark(Cell("1.0 to 2.0", 1.0), {})
    assert mark(Cell("–"), {"shared": True}) == Cell("–")
    assert mark(Cell("not determined"), {"shared": True}) == Cell("not determined")
    assert footnote(["1.0", "1.0 to 2.0 †"]) == "†: given one pretraining, the same for all replicates."
    assert footnote(["1.0"]) == ""


@pytest.mark.parametrize("shared", [True, False])
def test_a_shared_pretraining_is_said_wherever_an_interval_is_printed(shared: bool, tmp_path: Path) -> None:
    data = study(shared=shared)
    told = findings(data)
    assert (f"%, {GIVEN})" in told.answers[0][1]) is shared
    shown = {made.title: made for section in told.sections for made in section.tables if made.rows}
    for title in (*RECOVERY, "Accuracy of every cell"):
        assert ("†: given one pretraining" in shown[title].note) is shared, title
        assert ("†" in markdown(shown[title])) is shared
    assert "†" not in markdown(shown["The CNN family minus plain ViT, from scratch"])
    charts = {chart.name: chart.caption for section in told.sections for chart in section.charts}
    assert {name: GIVEN in caption for name, caption in charts.items()} == {"accuracy": shared, "shortfall": shared}
    results.save(data, 0, tmp_path / "results.parquet")
    assert (GIVEN in report.summary(tmp_path / "results.parquet")) is shared  # at the end of a sweep
    dashboard = study_of(data)
    assert dashboard.summary.get(GIVEN, "") == ("vit_micro mae" if shared else "")
    assert (GIVEN in dashboard.answers[0] or GIVEN in dashboard.figures["figures/accuracy"][1]) is shared


def test_a_pretraining_that_did_not_train_is_not_named_as_a_method() -> None:
    told = findings(study(untrained=True))
    assert "MAE" not in told.answers[0][1]
    caution = next(text for text in told.caveats if "did not train" in text)
    assert caution.startswith("MAE did not train vit_micro (on pool)")
    assert caution.endswith("6 of 6 runs start from such a pretraining, and say nothing about the method.")
    shown = [made for section in told.sections for made in section.tables if made.title in RECOVERY]
    assert [made.rows[0][0 if made.title == RECOVERY[0] else 1].text for made in shown] == [
        "MAE (on pool), not all trained"
    ] * 2
    lines = [line.label for section in told.sections for chart in section.charts for line in chart.series]
    assert "ViT + mae, not all trained" in lines
    dashboard = study_of(study(untrained=True), figures=False)
    assert dashboard.summary["pretraining did not train"] == "vit_micro mae"
    assert not any(key.startswith("recovery/") for key in dashboard.logged_keys())
    trained = findings(study())
    assert "MAE (on pool) recovers " in trained.answers[0][1]
    assert not any("did not train" in text for text in trained.caveats)


def test_a_study_without_a_plain_vit_claims_nothing_about_a_start_that_did_not_train() -> None:
    names = ("mobilenetv3_micro", "efficientvit_micro")
    plain = rows(lambda run: 0.7 if run.backbone == names[0] else 0.5, backbones=names, sizes=(100, 1000),
                 replicates=THREE)  # fmt: skip
    begun = [one for name in names for one in after("simmim", 0.7, backbone=name, untrained=True)]
    told = findings(Results(table=table([*plain, *begun])))
    assert "SimMIM" not in told.answers[0][1]
    assert any("SimMIM did not train efficientvit_micro and mobilenetv3_micro" in text for text in told.caveats)


def test_flags_of_rows_from_scratch_are_off() -> None:
    (_, view), *_ = split(table(from_scratch()))
    assert flags(view) == {"shared": False, "untrained": False}


def test_a_chart_of_own_pretrainings_keeps_its_caption() -> None:
    (_, view), *_ = split(study(shared=True).table)
    chart = next(chart for section in findings(study()).sections for chart in section.charts)
    assert captioned(chart, view).caption == f"{chart.caption} After a pretraining that replicates share, " + (
        "intervals are given one pretraining."
    )
    assert captioned(chart, split(study().table)[0][1]) == chart


# --- training images -------------------------------------------------------------------------------------------------


def replicated(*sizes: int, **fields: Any) -> str:
    made = rows(lambda run: 0.5, sizes=sizes, replicates=THREE, **fields)
    return draws(split(table(made))[0][1])


def test_draws_that_overlap_say_by_how_much() -> None:
    assert replicated(100, 3000) == (
        "Draws overlap: on average two of them have in common 1 % of their images at N = 100 and 30 % of their images "
        "at N = 3,000."
    )
    assert replicated(50).endswith("less than 1 % of their images at N = 50.")


def test_disjoint_blocks_share_nothing() -> None:
    assert replicated(100, 1000, blocks=3) == (
        "Draws are disjoint blocks of the training set, so replicates share no training image."
    )


def test_on_the_whole_training_set_replicates_differ_by_seed_alone() -> None:
    assert replicated(1000, 10_000) == (
        "Draws overlap: on average two of them have in common 10 % of their images at N = 1,000. At N = 10,000 "
        "replicates have the whole training set, so they differ by seed alone."
    )


def test_an_own_training_set_has_a_size_that_the_table_does_not_hold() -> None:
    made = [one | {"dataset": "folder:abc"} for one in rows(lambda run: 0.5, sizes=(100,), replicates=THREE)]
    assert "the share N / size of the training set" in draws(split(table(made))[0][1])


def test_one_draw_has_nothing_to_share() -> None:
    made = rows(lambda run: 0.5, sizes=(100,), replicates=[(0, 0), (0, 1)])
    assert draws(split(table(made))[0][1]) == ""
    lone = table([row(Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100), top1=0.5)])
    assert draws(split(lone)[0][1]) == ""


def test_seeds_on_one_draw_beside_several_draws_are_said_and_marked() -> None:
    apart = rows(lambda run: 0.5 + run.seed / 100, sizes=(30, 90), replicates=THREE, blocks=3)
    lone = rows(lambda run: 0.5 + run.seed / 100, sizes=(294,), replicates=[(0, 0), (0, 1), (0, 2)])
    data = Results(table=table([*apart, *lone]))
    told = findings(data)
    assert draws(split(data.table)[0][1]) == (
        "Draws are disjoint blocks of the training set at N = 30 and 90, so replicates share no training image. "
        "At N = 294 replicates have one draw, so they differ by seed alone."
    )
    assert "Replicates share one draw of images at N = 294, so intervals there hold for those images alone." in (
        told.caveats
    )
    captions = [chart.caption for section in told.sections for chart in section.charts]
    assert captions
    assert all(text.endswith("At N = 294 they are over seeds on one draw of images.") for text in captions)
    shown = {made.title: made for section in told.sections for made in section.tables}
    counted = [row[4].text for row in shown["The CNN family minus plain ViT, from scratch"].rows]
    assert counted == ["3", "3", "3 seeds"]


def test_the_report_says_it_beside_how_it_was_tested() -> None:
    method = findings(Results(table=table(from_scratch()))).answers[0][2]
    assert method.startswith("Draws overlap: on average two of them have in common 1 % of their images at N = 100")
    assert "Student's t" in method
