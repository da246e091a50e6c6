"""Test what the page on pretraining says: every interval of its last section is computed here from the tables."""

from pathlib import Path

import pandas as pd
from scipy import stats

from bias_lab import open_results

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGE = " ".join((ROOT / "docs" / "studies" / "pretraining.md").read_text("utf-8").split())
SAID = PAGE.partition("## What to make of it")[2].partition("## Run it")[0]


class Accuracies:
    """Test accuracies of one table at one size, in percent, by draw."""

    def __init__(self, folder: str, size: int) -> None:
        results = open_results(RESULTS / folder / "results.parquet")
        self.names = results.plan.names
        table = results.table[results.table["status"] == "finished"]
        self.seen = table[table["task"] == "pretrain"].set_index("run_id")["samples_seen"]
        self.rows = table[(table["size"] == size) & (table["protocol"] == "finetune") & (table["task"] == "classify")]

    def __call__(
        self, regime: str = "scratch", *, before: int | None = None, backbone: str = "vit_micro", **fields: object
    ) -> "pd.Series[float]":
        """Return those of one cell. before: images of its pretraining."""
        rows = self.rows[(self.rows["backbone"] == backbone) & (self.rows["regime"] == regime)]
        for name, value in {"priors": "", **fields}.items():
            rows = rows[rows[name] == value]
        if before is not None:
            rows = rows[rows["pretraining"].map(self.seen) == before]
        assert sorted(rows["draw"]) == [0, 1, 2]
        return 100 * rows.set_index("draw")["top1"].astype(float)

    def source_of(self, regime: str, place: str, **fields: object) -> "pd.Series[float]":
        """Return those of a regime whose source is the folder of that name."""
        (source,) = (name for name, words in self.names.items() if words == place)
        return self(regime, source=source, **fields)  # type: ignore[arg-type]


def told(difference: "pd.Series[float]") -> tuple[str, str, bool]:
    low, high = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    return f"{difference.mean():.1f}", f"CI {low:.1f} to {high:.1f}".replace("-", "−"), bool(low > 0 or high < 0)


def test_what_the_page_makes_of_pretraining_holds() -> None:
    cell = Accuracies("small_data_cifar10_pretraining", 1000)
    scratch, longer = (cell(samples_seen=seen) for seen in (16_000, 96_000))
    mae, zero, dino = cell("mae", before=80_000), cell("mae", before=0), cell("dino", before=80_000)
    positions = cell(priors="sincos_positions")
    resnet, resnet_longer = (cell(backbone="resnet_micro", samples_seen=seen) for seen in (16_000, 96_000))
    clothes = Accuracies("small_data_fashion", 1000)
    short = clothes(comparison="equal")
    mae_of_clothes, zero_of_clothes = clothes("mae", before=80_000), clothes("mae", before=0)
    settled = clothes(comparison="settled")
    few = Accuracies("pretraining_cifar10", 1000)
    start, start_of_resnet = few(samples_seen=16_000), few(backbone="resnet_micro", samples_seen=16_000)
    mae_of_few, zero_of_few = few("mae", before=40_064), few("mae", before=0)
    photographs = few.source_of("supervised", "tiny_imagenet20")
    resnet_after = few.source_of("supervised", "tiny_imagenet20", backbone="resnet_micro")
    claims = [
        ("After 40,000 images of MAE the ViT gains {} points ({})", mae_of_few - start, True),
        ("after 20 classes of Tiny-ImageNet ({} points, {})", photographs - start, False),
        ("SimMIM ({1})", few("simmim") - start, False),
        ("drawn fractals ({1})", few("formula") - start, False),
        ("gains {} points after SimMIM ({})", few("simmim", backbone="resnet_micro") - start_of_resnet, True),
        ("for it after Tiny-ImageNet ({1})", resnet_after - start_of_resnet, False),
        ("the ViT is {} points more accurate than from scratch ({})", mae - scratch, True),
        ("It gains {} points ({}), and no difference from it is shown", zero - scratch, True),
        ("for MAE of 80,000 images ({1})", mae - zero, False),
        ("or of 40,000 ({1})", mae_of_few - zero_of_few, False),
        ("alone gain {} points from scratch ({})", positions - scratch, True),
        ("together gains {} points by 56,000 images ({})", few(samples_seen=56_000) - start, True),
        ("and {} points by 96,000 ({})", longer - scratch, True),
        ("of DINO no gain is shown ({1})", dino - scratch, False),
        ("as many images in all is {} points more accurate ({})", longer - dino, True),
        ("the ResNet gains {} points ({})", resnet_longer - resnet, True),
        ("it is then {} points ahead of the ViT after MAE ({})", resnet_longer - mae, True),
        (
            "By 56,000 images it gains {} points ({})",
            few(backbone="resnet_micro", samples_seen=56_000) - start_of_resnet,
            True,
        ),
        ("the ViT is {} points more accurate after MAE ({})", mae_of_clothes - short, True),
        ("and {} points more than after zero steps ({})", mae_of_clothes - zero_of_clothes, True),
        ("is {} points more accurate than the one after MAE ({})", settled - mae_of_clothes, True),
    ]
    for words, difference, is_shown in claims:
        mean, ends, shown = told(difference)
        assert words.format(mean, ends) in SAID
        assert shown == is_shown
    assert SAID.count("CI ") == len(claims)


def test_the_page_says_which_pretrainings_did_not_learn() -> None:
    rows = open_results(RESULTS / "pretraining_cifar10" / "results.parquet").table
    known = rows[rows["task"].eq("pretrain") & rows["samples_seen"].gt(0)]
    dead = known[known["untrained"].astype(bool)]
    assert dict(dead.groupby("regime").size()) == {"dino": 1, "supervised": 3}
    assert set(dead.loc[dead["regime"].eq("supervised"), "source"]) == {"shapes:position=free"}
    assert "One of three DINO pretrainings and all three on drawn shapes ended with a loss near a level" in SAID


def test_both_tables_have_the_same_runs_from_scratch() -> None:
    few, more = (
        Accuracies(name, 1000)(samples_seen=16_000)
        for name in ("pretraining_cifar10", "small_data_cifar10_pretraining")
    )
    assert few.equals(more)
