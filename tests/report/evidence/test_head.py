"""The first screen: three tiles, and the architecture that plain ViT is compared with."""

import pandas as pd

from bias_lab.report.evidence.head import against, leading, of_view, problems_of, tiles
from bias_lab.statistics import headline
from tests.planted import CNNS, rows, table
from tests.report.evidence.studies import Cell, pair, study


def test_tiles_tell_settled_from_equal_images() -> None:
    view = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7)), equal=pair(Cell(0.6, 0.5), Cell(0.9, 0.7)), sizes=(100,))
    settled, equal, recovers = tiles(view, headline(view))
    assert (settled.label, settled.value[:1], equal.label, equal.value[:1]) == (
        "Shortfall, settled", "1", "Shortfall at equal images", "2",
    ) or abs(float(settled.value.split()[0]) - 10) < 0.7  # fmt: skip
    assert abs(float(equal.value.split()[0]) - 20) < 0.7
    assert settled.note.startswith("against the CNN family, at 100 labels (95 % CI ")
    assert recovers.value == "–"


def test_the_start_that_recovers_most_has_a_tile() -> None:
    pairs = [(d, d) for d in range(4)]
    made = rows(lambda run: 0.7 - 0.2 * (run.backbone == "vit_micro"), sizes=(100,), replicates=pairs, noise=0.002)
    for regime, top1 in (("mae", 0.66), ("simmim", 0.6)):
        made += rows(lambda run, x=top1: x, backbones=["vit_micro"], sizes=(100,), replicates=pairs, regime=regime,
                     source="pool", noise=0.002)  # fmt: skip
    view = table(made)
    last = tiles(view, headline(view))[2]
    assert last.value.endswith(" %")
    assert 70 < int(last.value.split()[0]) < 90
    assert last.note.startswith("MAE (on pool), at 100 labels")


def test_resnet_is_compared_or_else_the_first_cnn() -> None:
    made = table(rows(lambda run: 0.7, sizes=(100,)))
    assert against(made) == "resnet"
    assert against(made[made["backbone"] != CNNS[0]]) == "efficientnet"


def test_a_size_at_which_the_hold_out_had_a_choice_of_recipes_leads() -> None:
    cells = pair(Cell(0.9, 0.6), Cell(0.9, 0.7), CNNS[:1])
    plain = study(cells, sizes=(100, 1000, 3000), recipe="plain", holdout_top1=0.6, pixels=0.3)
    strong = study(cells, sizes=(1000,), recipe="strong", holdout_top1=0.7)
    both = pd.concat([plain, strong], ignore_index=True)
    assert [leading(headline(made)).size for made in (plain, both)] == [100, 1000]
    told = of_view(both, "", "desk")
    assert told.headline.startswith("At 1,000 labels")
    further = [text[:14] for text in told.support if text.startswith("At ") and "labels" in text]
    assert further == ["At 100 labels ", "At 3,000 label"], "both others are named"


def test_problems_are_in_the_order_in_which_they_are_told() -> None:
    changes = {"vit_micro": {"settled": False}, "resnet_micro": {"collapsed": True}}
    view = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7), CNNS[:1]), sizes=(100,), changes=changes)
    found = problems_of(view, headline(view).sizes)
    assert found == {"unsettled": {"vit_micro": [100]}, "collapsed": {"resnet_micro": [100]}}


def test_runs_that_were_made_for_another_question_have_no_banner() -> None:
    alone = table(rows(lambda run: 0.7, backbones=["swin_micro"], sizes=(100,)))
    assert not of_view(alone, "", "laptop")
    assert not of_view(table(rows(lambda run: 0.7, sizes=(100,))), "", "single runs")
    assert of_view(alone, "", "smoke").banner, "a smoke study always carries its banner"
