"""A size allows no claim where cells collapsed, are at chance, or are not settled where that is asked."""

import pandas as pd

from bias_lab import statistics
from tests.report.evidence.studies import Cell, pair, study

SOUND = pair(Cell(0.99, 0.6), Cell(0.99, 0.7))


def at(table: pd.DataFrame, size: int, backbone: str, **columns: object) -> pd.DataFrame:
    """A copy of a table with other values in the rows of one backbone at one size."""
    table = table.copy()
    here = (table["size"] == size) & (table["backbone"] == backbone)
    for name, value in columns.items():
        table[name] = table[name].astype(object).where(~here, value)
    return table


def test_sound_cells_are_not_flagged() -> None:
    assert statistics.unsound(study(SOUND)) == {}
    assert statistics.unsound(study({}, equal=SOUND)) == {}


def test_a_collapsed_run_forbids_a_claim_at_its_size_alone() -> None:
    for table in (study(SOUND), study({}, equal=SOUND)):
        broken = at(table, 1000, "resnet_micro", collapsed=True)
        assert statistics.unsound(broken) == {1000: {"collapsed": ("resnet_micro",)}}


def test_a_backbone_at_chance_forbids_a_claim() -> None:
    low = study({}, equal=pair(Cell(0.2, 0.1), Cell(0.9, 0.7)))
    assert statistics.unsound(low) == {size: {"at_chance": ("vit_micro",)} for size in (100, 1000)}


def test_a_backbone_that_is_no_better_than_the_largest_class_of_the_users_own_images_forbids_a_claim() -> None:
    """Nine of ten test images show one class, so a constant prediction reaches 90 %."""
    own = study(pair(Cell(0.99, 0.895), Cell(0.99, 0.95))).assign(dataset="mine", classes=2)
    assert statistics.unsound(own, comparison="settled") == {}, "above 1 / 2"
    recorded = own.assign(majority=0.9)
    assert statistics.unsound(recorded, comparison="settled") == {
        size: {"at_majority": ("vit_micro",)} for size in (100, 1000)
    }, "it is above chance"
    assert not statistics.headline(recorded).open_sizes
    assert statistics.headline(recorded).sizes[0].majority == 0.9


def test_both_groups_at_a_ceiling_forbid_a_claim() -> None:
    both = study(pair(Cell(1.0, 0.99), Cell(1.0, 0.985)), equal=pair(Cell(1.0, 0.99), Cell(1.0, 0.985)))
    for comparison in ("equal", "settled"):
        flags = statistics.unsound(both, against="resnet", comparison=comparison)
        assert flags == {size: {"ceiling": ("vit", "resnet")} for size in (100, 1000)}
    one = study({}, equal=pair(Cell(1.0, 0.9), Cell(1.0, 0.985)))
    assert statistics.unsound(one) == {}, "one of them can still gain"


def test_cells_that_are_not_settled_forbid_a_claim_about_settled_ones_alone() -> None:
    table = at(study(SOUND, equal=SOUND), 1000, "vit_micro", settled=False)
    assert statistics.unsound(table, comparison="settled") == {1000: {"unsettled": ("vit_micro",)}}
    assert statistics.unsound(table, comparison="equal") == {}


def test_backbones_of_other_groups_do_not_matter() -> None:
    table = study({}, equal={**SOUND, "swin_micro": Cell(0.1, 0.1)})
    assert statistics.unsound(table) == {}
