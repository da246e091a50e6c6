"""Statistics in words: points, percent, bounds and dashes, every row as wide as its heading."""

import pandas as pd

from bias_lab import statistics
from bias_lab.report import tables
from bias_lab.report.evidence import pairwise
from bias_lab.report.pages import Table
from bias_lab.report.sections import starts_of
from tests.planted import CNNS, curve, rows, table
from tests.report.evidence.studies import Cell, pair, study

PAIRS = [(d, s) for d in range(3) for s in range(2)]
SCRATCH = rows(lambda run: curve(run.size) - (0.1 if run.backbone == "vit_micro" else 0), replicates=PAIRS, noise=0.002)
MAE = rows(
    lambda run: curve(run.size) - 0.05,
    backbones=["vit_micro"],
    replicates=PAIRS,
    regime="mae",
    source="pool",
    noise=0.002,
)
MAE_OF_CNNS = dict(replicates=PAIRS, regime="mae", source="pool", noise=0.002)
OWN = rows(lambda run: curve(run.size) - 0.02, backbones=["my.nets:stem"], replicates=PAIRS, noise=0.002)
NOISY = table([*SCRATCH, *rows(lambda run: 0.5, replicates=PAIRS, label_noise=0.2)])
MADE = table([*SCRATCH, *MAE, *OWN])


def column(made: Table, name: str) -> list[str]:
    place = [heading for heading, _ in made.columns].index(name)
    return [row[place].text for row in made.rows]


def everything() -> list[Table]:
    return [
        tables.shortfall(statistics.gaps(MADE), "t"),
        tables.accuracies(MADE),
        tables.efficiency(statistics.sample_efficiency(MADE)),
        tables.curves(statistics.learning_curve(MADE)),
        tables.shares(statistics.recovery(MADE), "t", "regime"),
        tables.shares(statistics.removed(MADE), "t", "backbone"),
        tables.factors(statistics.effects(MADE)),
        tables.variance(statistics.variance_shares(MADE)),
        tables.power(statistics.power(MADE)),
        tables.ranking(statistics.ranking(MADE)),
        pairwise.table([("a", "b", statistics.gaps(MADE))], "t"),
        tables.arms("label_noise", statistics.arms(NOISY, axis="label_noise")),
        tables.moved("label_noise", statistics.moved(NOISY, axis="label_noise")),
    ]


def test_every_row_is_as_wide_as_its_heading() -> None:
    for made in everything():
        assert made.rows, made.title
        assert {len(row) for row in made.rows} == {len(made.columns)}, made.title


def test_the_shortfall_is_in_points_and_says_what_sign_flips_can_reach() -> None:
    made = tables.shortfall(statistics.gaps(MADE), "t")
    assert all(9.5 < float(text) < 10.5 for text in column(made, "points"))
    assert column(made, "n") == ["6"] * 5
    assert column(made, "with test images") == ["–"] * 5
    assert made.note == "Sign flips of 3 draws cannot reach a p below 0.25, however large the difference is."
    frame = statistics.gaps(MADE)
    mixed = frame.assign(units=[5] * 4 + [3], unit=["draw"] * 4 + ["seed"], p_smallest=[0.0625] * 4 + [0.25])
    assert tables.shortfall(mixed, "t").note.startswith("Sign flips of 3 seeds cannot reach a p below 0.25, ")


def test_recovery_in_percent() -> None:
    own = statistics.recovery(MADE).assign(shared=False)  # one pretraining for each replicate
    made = tables.shares(own, "t", "regime")
    assert column(made, "regime") == ["MAE (on pool)"] * 5
    assert all(40 < float(text.split()[0]) < 60 for text in column(made, "share"))
    assert made.note == "At 100 % the gap is closed. Above it, the CNNs are passed."
    open_end = statistics.recovery(MADE).assign(low=float("-inf"), high=float("inf"))
    note = tables.shares(open_end, "t", "regime").note
    assert "Unbounded: the shortfall from scratch cannot be told from 0 there." in note


def test_a_share_whose_interval_is_too_wide_is_not_determined() -> None:
    wide = statistics.recovery(MADE).assign(recovery=10.44, low=-0.1, high=2.0, shared=False)
    made = tables.shares(wide, "t", "regime")
    assert set(column(made, "share")) == set(column(made, "95 % CI")) == {"not determined"}
    assert "Not determined: the interval of the share is wider than 200 % or has no ends" in made.note
    just = tables.shares(wide.assign(low=0.0), "t", "regime")
    assert column(just, "95 % CI") == ["0 to 200 %"] * 5
    assert "Not determined" not in just.note
    unbounded = tables.shares(wide.assign(low=float("-inf"), high=float("inf")), "t", "regime")
    assert column(unbounded, "share") == ["not determined"] * 5
    alike = statistics.likewise(table([*SCRATCH, *MAE, *rows(lambda run: 0.9, backbones=CNNS, **MAE_OF_CNNS)]))
    assert "not determined" in column(tables.likewise(alike.assign(left_low=-1.0, left_high=2.0)), "left")


def test_what_is_left_says_that_a_loss_of_the_cnns_is_in_it() -> None:
    said = {}
    for change in (0.05, -0.05):
        after = rows(lambda run, by=change: curve(run.size) + by, backbones=CNNS, **MAE_OF_CNNS)  # type: ignore[misc]
        both = table([*SCRATCH, *MAE, *after])
        (*_, left), _ = starts_of(both, both)
        said[change] = "Where a start costs the CNNs accuracy, " in left.note
    assert said == {0.05: False, -0.05: True}


def test_bounds_and_unbounded_intervals_are_words() -> None:
    made = tables.efficiency(statistics.sample_efficiency(MADE))
    assert column(made, "times the labels")[-1] == "> 1×"
    assert column(made, "plain ViT needs")[-1] == "> 10,000"
    assert tables.percents(float("-inf"), float("inf")).text == "unbounded"


def test_empty_statistics_give_empty_tables() -> None:
    none = table([])
    assert not tables.shortfall(statistics.gaps(none), "t").rows
    assert not tables.factors(statistics.effects(none)).rows
    assert not tables.power(statistics.power(none)).rows
    assert not tables.variance(statistics.variance_shares(none)).rows
    assert not tables.accuracies(none).rows


def test_identical_replicates_have_no_interval() -> None:
    same = rows(lambda run: 2 / 3, replicates=PAIRS, noise=0.0)
    for made in (tables.accuracies(table(same)), tables.ranking(statistics.ranking(table(same)))):
        assert set(column(made, "95 % CI")) == {"not determined (identical)"}
        assert "Not determined (identical): all replicates are the same there, so " in made.note
    assert "ot determined" not in tables.accuracies(MADE).note


def test_accuracies_name_train_accuracy_slope_and_collapse() -> None:
    one = table([r | {"collapsed": True, "loss_slope": -0.2, "train_top1": 0.8} for r in SCRATCH[:6]])
    made = tables.accuracies(one)
    assert (column(made, "train, %"), column(made, "loss slope"), column(made, "collapsed")) == (
        ["80.0"],
        ["−0.200"],
        ["6"],
    )


def test_recipes_are_named_where_cells_have_several() -> None:
    few = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7), ("resnet_micro",)), pixels=0.5, sizes=(100,))
    many = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7), ("resnet_micro",)), sizes=(1000,)).assign(recipe="strong")
    made = tables.accuracies(pd.concat([few, many], ignore_index=True))
    named = dict(
        zip(zip(column(made, "backbone"), column(made, "N"), strict=True), column(made, "recipe"), strict=True)
    )
    assert named == {
        ("resnet_micro", "100"): "plain", ("resnet_micro", "1,000"): "strong", ("pixels", "100"): "–",
        ("vit_micro", "100"): "plain", ("vit_micro", "1,000"): "strong",
    }  # fmt: skip
    assert column(made, "N")[:2] == ["100", "1,000"], "sorted by size first"
    assert "recipe" not in [heading for heading, _ in tables.accuracies(few).columns]
