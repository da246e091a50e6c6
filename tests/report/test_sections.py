"""Locality, starts, pairs without a plain ViT, epochs, and leaks that were allowed, in the report of one dataset."""

import math
from typing import Any

import pytest

from bias_lab.definition import Run
from bias_lab.report.cautions import cautions
from bias_lab.report.findings import findings
from bias_lab.report.pages import Report, Section
from bias_lab.report.sections import lines_of_starts
from bias_lab.report.sentences import recovered
from bias_lab.results import Results
from bias_lab.statistics import gaps, recovery
from tests.planted import curve, row, rows, table
from tests.statistics.test_contrasts import FOUR, PAIR, photographs, study


def section(report: Report, name: str) -> Section:
    return next(part for part in report.sections if part.name == name)


def test_locality_says_that_the_lead_is_gone_and_who_moved() -> None:
    report = findings(Results(table=table(study())))
    sentence = report.answers[0][1]
    assert sentence.startswith("Plain ViT falls short of ResNet at N = 100 and 1,000")
    assert "With pixels permuted, no difference between plain ViT and ResNet is shown at N = 100 and 1,000" in sentence
    assert "With patches of 4 × 4 pixels permuted, ResNet leads plain ViT at N = 100 and 1,000." in sentence
    arms = section(report, "intervention")
    assert "With pixels permuted, the accuracy of resnet_micro falls by " in " ".join(arms.text)
    assert [chart.name for chart in arms.charts] == ["intervention", "intervention-shortfall"]
    words = ["images as they are", "pixels permuted", "patches of 4 × 4 pixels permuted"]
    assert [line.label for line in arms.charts[1].series] == words == [text for text, _ in arms.charts[0].legend]
    assert len({line.dash for line in arms.charts[1].series}) == 3
    assert [len(made.rows) for made in arms.tables] == [6, 8]


def test_one_replicate_of_an_intervention_claims_nothing() -> None:
    single = [one for one in study(sizes=(100,)) if one["draw"] == 0 or one["intervention"] != "permute_pixels"]
    sentence, method = findings(Results(table=table(single))).answers[0][1:]
    assert "With pixels permuted, nothing is claimed at N = 100, since there is only one replicate." in sentence
    assert "With pixels permuted, no difference" not in sentence
    assert method.endswith("Claims by intervention are Holm-corrected over 2 comparisons.")


def test_weights_say_how_much_of_the_shortfall_is_left() -> None:
    report = findings(Results(table=table(photographs())))
    assert "Where both start from weights, ResNet's lead over plain ViT is " in report.answers[0][1]
    assert " % of the lead from scratch (95 % CI " in report.answers[0][1]
    titles = [made.title for made in section(report, "recovery").tables]
    assert titles[1:] == [
        "What each start gains", "The shortfall where both have the same kind of start",
    ]  # fmt: skip


def regimes(gap: float) -> list[dict[str, Any]]:
    """ViT `gap` below the CNN; MAE, SimMIM and DINO win back 80, 50 and 20 % of 0.2."""
    made = rows(lambda run: 0.7 - gap * (run.backbone == "vit_micro"), backbones=PAIR, sizes=(100,), replicates=FOUR)
    for place, (regime, share) in enumerate((("mae", 0.8), ("simmim", 0.5), ("dino", 0.2))):
        made += rows(lambda run, s=share: 0.5 + 0.2 * s, backbones=["vit_micro"], sizes=(100,), replicates=FOUR,
                     regime=regime, source="pool", seed=place + 1)  # fmt: skip
    return made


def test_many_starts_are_told_by_size_best_first() -> None:
    told = recovered(recovery(table(regimes(0.2))))
    assert told[0].startswith("At 100 labels, MAE (on pool) recovers ")
    assert " % of the shortfall (95 % CI " in told[0]
    assert told[1].startswith("SimMIM (on pool) recovers ")
    assert told[2].startswith("DINO (on pool) recovers ")


def test_a_share_of_a_shortfall_that_is_not_there_is_not_told() -> None:
    found = recovery(table(regimes(0.0)))
    unsettled = found[found["low"].abs() == math.inf]
    assert recovered(unsettled) == []


def claim(run: Run) -> float:
    return {"mobilenetv3_micro": 0.8, "efficientvit_micro": 0.6, "mobilevit_micro": 0.8}[run.backbone]


def test_without_a_plain_vit_pairs_are_told() -> None:
    made = rows(claim, backbones=["mobilenetv3_micro", "efficientvit_micro", "mobilevit_micro"], sizes=(300,))
    made += rows(lambda run: 0.85, backbones=["mobilenetv3_micro", "efficientvit_micro"], sizes=(300,), regime="simmim",
                 source="pool", seed=1)  # fmt: skip
    report = findings(Results(table=table(made)))
    sentence, method = report.answers[0][1:]
    assert sentence.startswith("efficientvit_micro falls short of mobilenetv3_micro at N = 300 by ")
    assert "No difference between mobilevit_micro and mobilenetv3_micro is shown at N = 300" in sentence
    assert "After SimMIM, no difference between efficientvit_micro and mobilenetv3_micro" in sentence
    assert "Holm-corrected over 3 comparisons" in method
    assert section(report, "shortfall").title == "Pair by pair"
    assert all(line.bold for line in section(report, "figure").charts[0].series)


def test_curves_are_averaged_over_the_last_third_beside_the_test() -> None:
    made = rows(claim, backbones=["mobilenetv3_micro", "efficientvit_micro"], sizes=(300,), noise=0.0, monitor=6)
    for one in made:
        one |= {"steps": 600, "samples_seen": 18_000}
    levels = {
        "mobilenetv3_micro": [0.1, 0.4, 0.5, 0.6, 0.72, 0.76],
        "efficientvit_micro": [0.1, 0.2, 0.3, 0.4, 0.5, 0.56],
    }
    curves = {one["run_id"]: [[100 * k for k in range(1, 7)], levels[one["backbone"]]] for one in made}
    part = section(findings(Results(table=table(made), curves=curves)), "epochs")
    line = next(line for line in part.charts[0].series if line.label == "mobilenetv3")
    assert [point.x for point in line.points] == pytest.approx([10, 20, 30, 40, 50, 60])  # epochs of 300 images
    assert not part.charts[0].log
    cells = {row[0].text: [cell.text for cell in row] for row in part.tables[0].rows}
    assert cells["mobilenetv3_micro"][3] == "74.0"  # epochs 50 and 60
    assert cells["mobilenetv3_micro"][5:7] == ["4.0", "80.0"]
    assert cells["mobilenetv3_micro"][8] == "+6.0"
    assert not [name for name in findings(Results(table=table(made))).sections if name.name == "epochs"]


def two_sources(**fields: Any) -> list[dict[str, Any]]:
    """Scratch, and after MAE on two sources: 0.9 and 0.7 for the one, 0.6 and 0.7 for the other."""
    made = rows(claim, backbones=["mobilenetv3_micro", "efficientvit_micro"], sizes=(300,), noise=0.001, **fields)
    for source, level in (("pool", 0.9), ("fractals", 0.6)):
        for name, at in (("efficientvit_micro", level), ("mobilenetv3_micro", 0.7)):
            made += rows(lambda run, at=at: at, backbones=[name], sizes=(300,), regime="mae", source=source,
                         noise=0.001, **fields)  # fmt: skip
    return made


def test_pairs_and_lines_keep_their_sources_apart() -> None:
    report = findings(Results(table=table(two_sources())))
    sentence = report.answers[0][1]
    assert "After MAE (on pool), efficientvit_micro is ahead of mobilenetv3_micro at N = 300 by 20." in sentence
    assert "After MAE (on fractals), efficientvit_micro falls short of mobilenetv3_micro" in sentence
    lines = {line.label: line.points[0].y for line in section(report, "figure").charts[0].series}
    assert lines["efficientvit + mae, pool"] == pytest.approx(0.9, abs=0.01)
    assert lines["efficientvit + mae, fractals"] == pytest.approx(0.6, abs=0.01)


def test_epochs_keep_their_sources_apart() -> None:
    made = [one | {"steps": 600, "samples_seen": 18_000} for one in two_sources(monitor=6)]
    curves = {one["run_id"]: [[500, 600], [one["top1"], one["top1"]]] for one in made}
    part = section(findings(Results(table=table(made), curves=curves)), "epochs")
    lines = {line.label: line.points[-1].y for line in part.charts[0].series}
    assert lines["efficientvit + mae, fractals"] == pytest.approx(0.6, abs=0.01)
    cells = {(row[0].text, row[1].text): row[6].text for row in part.tables[0].rows}
    assert float(cells["efficientvit_micro", "MAE (on pool)"]) == pytest.approx(90, abs=1)


def test_an_overlap_that_was_let_pass_is_shown() -> None:
    photos = [one | {"dataset": "stl10"} for one in photographs()]
    assert cautions(table(photos), {})[0].startswith(
        "Overlap allowed: weights (resnet_micro) and stl10 share images of"
    )
    assert not [told for told in cautions(table(photographs()), {}) if "Overlap" in told]
    before = row(Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="pretrain", regime="mae", source="mine"))
    shown = table([*rows(lambda run: curve(run.size)), before | {"source_overlap": 12}])
    assert (
        findings(Results(table=shown))
        .caveats[0]
        .startswith("Overlap allowed: mine, the source of vit_micro's pretraining (mae), hol")
    )


def test_the_line_of_each_start_knows_the_recipes_of_its_sizes() -> None:
    made = rows(lambda run: curve(run.size), sizes=(100, 1000))
    made += rows(lambda run: 0.7, backbones=["vit_micro"], sizes=(100, 1000), regime="mae", source="pool")
    view = table(made).assign(comparison="settled", settled=True)
    view.loc[view["size"] == 100, "recipe"] = "strong"
    lines = list(lines_of_starts(view, gaps(view, comparison="settled")))
    assert len(lines) == 2, "from scratch and after MAE"
    for _, found, label in lines:
        assert label in ("ViT", "ViT + mae")
        assert dict(zip(found["size"], found["recipe"], strict=True)) == {100: "strong", 1000: "plain"}
