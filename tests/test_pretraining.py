"""Test what the page on pretraining says: every interval of its last section is computed here from the tables."""

from pathlib import Path

import pandas as pd
from scipy import stats

ROOT = Path(__file__).parents[1]
PAGE = " ".join((ROOT / "docs" / "studies" / "pretraining.md").read_text("utf-8").split())
SAID = PAGE.partition("## What to make of it")[2].partition("## Run it")[0]


class Accuracies:
    """Test accuracies of one table at one size, in percent, by draw."""

    def __init__(self, folder: str, size: int) -> None:
        table = pd.read_parquet(ROOT / "docs" / "results" / folder / "results.parquet")
        table = table[table["status"] == "finished"]
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
    claims = [
        ("the ViT is {} points more accurate after MAE than from scratch ({})", mae - scratch, True),
        ("It gains {} points ({}), and no difference between the two is shown", zero - scratch, True),
        ("(MAE minus zero steps: {1})", mae - zero, False),
        ("alone gain {} points from scratch ({})", positions - scratch, True),
        ("pretraining and fine-tuning together gains {} points ({})", longer - scratch, True),
        ("After DINO no gain is shown ({1})", dino - scratch, False),
        ("as many images in all is {} points more accurate ({})", longer - dino, True),
        ("the ResNet gains {} points ({})", resnet_longer - resnet, True),
        ("it is then {} points ahead of the ViT after MAE ({})", resnet_longer - mae, True),
        ("the ViT is {} points more accurate after MAE ({})", mae_of_clothes - short, True),
        ("and {} points more than after zero steps ({})", mae_of_clothes - zero_of_clothes, True),
        (
            "is {} points more accurate than the one after MAE ({})",
            settled - mae_of_clothes,
            True,
        ),
    ]
    for words, difference, is_shown in claims:
        mean, ends, shown = told(difference)
        assert words.format(mean, ends) in SAID
        assert shown == is_shown
    assert SAID.count("CI ") == len(claims)


def test_the_older_table_is_described_rightly() -> None:
    rows = Accuracies("pretraining", 500).rows
    known = rows[(rows["backbone"] == "vit_micro") & (rows["regime"] == "scratch")]
    assert f"knows only {100 * known['train_top1'].mean():.0f} % of its 500 training images" in SAID
    assert set(known["samples_seen"]) == {16_000}
    assert rows["learning_rate"].nunique() == 1
