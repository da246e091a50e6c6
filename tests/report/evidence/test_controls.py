"""Controls: what they are called, what they say, and how far they lie above plain ViT."""

import pandas as pd

from bias_lab.definition import Run
from bias_lab.report.evidence import controls
from tests.planted import row, table
from tests.report.evidence.studies import Cell, pair, study


def view() -> pd.DataFrame:
    base = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7), ("resnet_micro",)), pixels=0.65, sizes=(100,))
    made = base.to_dict("records")
    for draw in range(5):
        common = dict(dataset="fashion_mnist_12k", size=100, draw=draw, seed=draw, samples_seen=64_000)
        for backbone, fields, top1 in (
            ("mlp_micro", {}, 0.63), ("vit_micro_wide", {}, 0.61), ("vit_micro", dict(priors="mean_pooling"), 0.62),
            ("vit_micro", dict(protocol="linear_probe"), 0.55),
        ):  # fmt: skip
            how = "" if "protocol" in fields else "settled"
            made.append(
                row(Run(backbone=backbone, **common, **fields), top1=top1 + 0.001 * draw, comparison=how, settled=True)
            )
    return table(made)


def test_every_kind_of_control_is_found_in_order() -> None:
    found = controls.found(view(), ("settled",))
    assert [one.words for one in found] == [
        "pixels, linear probe", "mlp_micro", "vit_micro untrained, linear probe", "vit_micro with mean pooling",
        "vit_micro_wide",
    ]  # fmt: skip
    assert [one.comparison for one in found] == [
        "any", "with each cell settled", "any", "with each cell settled", "with each cell settled",
    ]  # fmt: skip


def test_the_table_has_the_distance_to_plain_vit_and_what_each_says() -> None:
    made = view()
    section = controls.section(made, controls.found(made, ("settled",)))
    (shown,) = section.tables
    heads = [name for name, _ in shown.columns]
    lines = {line[0].text: [cell.text for cell in line] for line in shown.rows}
    above = heads.index("above ViT")
    assert abs(float(lines["pixels, linear probe"][above]) - 5) < 0.7
    assert float(lines["vit_micro untrained, linear probe"][above].replace("−", "-")) < -4
    assert lines["mlp_micro"][heads.index("what it says")] == controls.NETWORK
    assert section.text[0].startswith("Pixels, linear probe: 6")
    assert section.text[0].endswith(controls.PIXELS)


def test_without_controls_there_is_no_section() -> None:
    bare = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7)), sizes=(100,))
    assert not controls.section(bare, controls.found(bare, ("settled",)))
