"""Test what the page on pretraining says: every interval of its last section is computed here from the tables."""

from pathlib import Path

import pandas as pd
from scipy import stats

from bias_lab import open_results

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
SHAPES = "shapes:position=free"
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
        rows = rows[rows["draw"] < 3]  # some tables have five draws
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
    simmim_of_resnet = few("simmim", backbone="resnet_micro")
    both_priors = Accuracies("small_data_cifar10_desk", 1000)(priors="mean_pooling+sincos_positions")
    settled_plain = Accuracies("small_data_cifar10", 1000)(comparison="settled", optimizer="muon")
    settled_strong = Accuracies("small_data_cifar10_strong", 1000)(comparison="settled")
    claims = [
        ("After 40,000 images of MAE the ViT gains {} points ({})", mae_of_few - start, True),
        ("after 20 classes of Tiny-ImageNet ({} points, {})", photographs - start, False),
        ("SimMIM ({} points, {})", few("simmim") - start, False),
        ("drawn fractals ({1})", few("formula") - start, False),
        ("after the one on drawn shapes the ViT gains {} points ({})", few("supervised", source=SHAPES) - start, True),
        ("of MAE the ViT is {} points more accurate than from scratch ({})", mae - scratch, True),
        ("After it the ViT gains {} points ({}), and no difference from it is shown", zero - scratch, True),
        ("for MAE of 80,000 images ({1})", mae - zero, False),
        ("or of 40,000 ({1})", mae_of_few - zero_of_few, False),
        ("held fixed in a ViT from scratch, gain {} points ({})", positions - scratch, True),
        ("the ViT from scratch gains {} points ({})", both_priors - scratch, True),
        ("which is {} points more than after 80,000 images of MAE ({})", both_priors - mae, True),
        ("gains {} points by 56,000 images ({})", few(samples_seen=56_000) - start, True),
        ("and {} points by 96,000 ({})", longer - scratch, True),
        ("of DINO no gain is shown ({1})", dino - scratch, False),
        ("as many images in all is {} points more accurate ({})", longer - dino, True),
        ("still {} points behind after SimMIM ({})", simmim_of_resnet - few("simmim"), True),
        ("and {} points after Tiny-ImageNet ({})", resnet_after - photographs, True),
        ("The ResNet itself gains {} points after SimMIM ({})", simmim_of_resnet - start_of_resnet, True),
        (
            "its gain and the ViT's is shown ({1})",
            (few("simmim") - start) - (simmim_of_resnet - start_of_resnet),
            False,
        ),
        ("no gain of the ResNet is shown ({1})", resnet_after - start_of_resnet, False),
        (
            "From scratch it gains {} points by 56,000 images ({})",
            few(backbone="resnet_micro", samples_seen=56_000) - start_of_resnet,
            True,
        ),
        ("and {} points by 96,000 ({}), and it is then", resnet_longer - resnet, True),
        ("then {} points ahead of the ViT after 80,000 images of MAE ({})", resnet_longer - mae, True),
        ("(MAE minus settled: {1})", mae - settled_plain, False),
        ("a ViT from scratch is {} points more accurate ({})", settled_strong - mae, True),
        ("the ViT is {} points more accurate after MAE ({})", mae_of_clothes - short, True),
        ("and {} points more than after zero steps ({})", mae_of_clothes - zero_of_clothes, True),
        ("is {} points more accurate than the one after MAE ({})", settled - mae_of_clothes, True),
    ]
    for words, difference, is_shown in claims:
        mean, ends, shown = told(difference)
        assert words.format(mean, ends) in SAID
        assert shown == is_shown
    assert SAID.count("CI ") == len(claims)
    assert "Up to 4.4 points by MAE's training are not excluded" in SAID


def test_the_page_says_which_pretrainings_did_not_learn() -> None:
    rows = open_results(RESULTS / "pretraining_cifar10" / "results.parquet").table
    known = rows[rows["task"].eq("pretrain") & rows["samples_seen"].gt(0)]
    dead = known[known["untrained"].astype(bool)]
    assert dict(dead.groupby("regime").size()) == {"dino": 1, "supervised": 3}
    assert set(dead.loc[dead["regime"].eq("supervised"), "source"]) == {SHAPES}
    assert "One of three DINO pretrainings and all three on drawn shapes ended with a loss near a level" in SAID


def test_the_page_says_how_long_dino_took_and_what_its_loss_was() -> None:
    tables = [
        open_results(RESULTS / name / "results.parquet").table
        for name in ("pretraining_cifar10", "small_data_cifar10_pretraining")
    ]
    losses = []
    for rows in tables:
        dino = rows[rows["task"].eq("pretrain") & rows["regime"].eq("dino") & rows["samples_seen"].gt(0)]
        losses.append(f"{dino['loss'].min():.1f} to {dino['loss'].max():.1f}")
    assert f"DINO's loss was {losses[1]} by then, against {losses[0]} after 40,000 images" in SAID
    longer = rows[rows["backbone"].eq("vit_micro") & rows["samples_seen"].eq(96_000)]
    assert longer["seconds"].mean() < dino["seconds"].mean() / 3


def test_every_start_has_one_rate_of_fine_tuning() -> None:
    for name in ("pretraining_cifar10", "small_data_cifar10_pretraining"):
        rows = Accuracies(name, 1000).rows
        rates = rows.groupby("backbone")["learning_rate"].unique().map(list).to_dict()
        assert rates == {"vit_micro": [0.003], "resnet_micro": [0.03]}


def test_both_tables_share_what_the_page_says() -> None:
    few, more = (Accuracies(name, 1000) for name in ("pretraining_cifar10", "small_data_cifar10_pretraining"))
    for cell in (dict(samples_seen=16_000), dict(priors="sincos_positions"), dict(regime="mae", before=0)):
        assert few(**cell).equals(more(**cell))  # type: ignore[arg-type]
