"""The split into heads and encoders in words and tables, and the shortfall on parts of the test images."""

import numpy as np
import pandas as pd

from bias_lab.report.evidence import heads
from bias_lab.report.findings import findings, split
from bias_lab.report.pages import Table
from bias_lab.report.wandb_summary import study_of
from bias_lab.results import Results
from bias_lab.statistics.masks.groups import pack_parts
from bias_lab.tracking import dashboard
from tests.planted import Run, row, table

LEVELS = {
    ("", "vit_micro"): 0.20, ("", "resnet_micro"): 0.40, ("matched", "vit_micro"): 0.25,
    ("matched", "resnet_micro"): 0.35, ("matched", "swin_micro"): 0.30,
}  # fmt: skip
T, K = 20, 2


def study(*, scores: bool = True) -> pd.DataFrame:
    random, made = np.random.default_rng(0), []
    for (head, backbone), level in LEVELS.items():
        for draw in range(3):
            run = Run(task="segment", dataset="camvid", backbone=backbone, size=90, draw=draw, seed=draw, head=head)
            union = random.integers(100, 200, (T, K))
            both = np.rint(union * (level + 0.002 * random.normal(size=union.shape))).astype(int)
            packed = np.stack([both, union], axis=2).astype("<u4").tobytes()
            told = dict(scores=packed, classes=K, test_images=T, test_groups=",".join(map(str, np.arange(T) // 4)))
            told["test_parts"] = pack_parts({"Seq05VD": np.arange(T) >= 12})
            miou = float((both.sum(0) / union.sum(0)).mean())
            values = dict(miou=miou, train_miou=0.6, top1=None, train_top1=None, comparison="equal")
            made.append(row(run, **values, **(told if scores else {})))
    return table(made)


def cells(shown: Table) -> list[list[str]]:
    return [[cell.text for cell in line] for line in shown.rows]


def test_the_report_says_what_is_of_heads_and_what_is_of_encoders() -> None:
    report = findings(Results(table=study()))
    section = next(part for part in report.sections if part.name == "heads")
    said = " ".join(section.text)
    assert "At equal images, at 90 labels the shortfall with own heads is 2" in said
    assert "With the matched decoder on both sides it is " in said
    assert "points (95 % CI " in said
    assert "Not shown" not in said
    effects, by_head = section.tables
    assert [line[:3] for line in cells(effects)] == [
        ["at equal images", "all", "90"], ["at equal images", "Seq05VD", "90"],
    ]  # fmt: skip
    numbers = [float(text) for text in cells(effects)[0][3::2][:3]]
    assert numbers[0] == np.round(numbers[1] + numbers[2], 1)
    assert [round(number) for number in numbers] == [20, 10, 10]
    assert {line[1]: line[4] != "–" for line in cells(by_head)} == {
        "resnet_micro": True, "swin_micro": True, "vit_micro": False,
    }  # fmt: skip
    assert not any("accurac" in meaning for shown in section.tables for _, meaning in shown.columns)


def test_a_backbone_with_the_matched_decoder_is_not_compared_with_own_heads() -> None:
    report = findings(Results(table=study()))
    others = next(part for part in report.sections if part.name == "cells")
    assert not any(cell.text == "swin_micro" for shown in others.tables for line in shown.rows for cell in line)


def test_the_shortfall_stands_on_all_test_images_and_on_the_part() -> None:
    [(_, view)] = split(study())
    on_parts = next(part for part in heads.sections(view) if part.name == "test-parts")
    assert [line[1:4] for line in cells(on_parts.tables[0])] == [["all", "20", "90"], ["Seq05VD", "8", "90"]]


def test_without_scores_there_are_no_parts_and_intervals_of_replicates_alone() -> None:
    [(_, view)] = split(study(scores=False))
    effects, on_parts = heads.sections(view)
    assert not on_parts
    assert "95 % CI" in effects.text[1]
    assert cells(effects.tables[0])[0][4] == "–"


def test_a_study_without_a_common_head_has_no_section() -> None:
    [(_, view)] = split(study().query("head == ''"))
    assert not any(part for part in heads.sections(view) if part.name == "heads")


def test_wandb_has_both_effects_and_a_panel_of_them() -> None:
    made = study_of(Results(table=study()), figures=False)
    assert {"effect/encoder matched", "effect/head matched low"} <= set(made.logged_keys())
    assert "miou/vit_micro scratch" in made.logged_keys()
    panels = {part["name"]: part["panels"] for part in dashboard.specify(made)["workspace"]["sections"]}
    assert panels["Heads and encoders"][0]["y"] == ["effect/encoder matched", "effect/head matched"]
