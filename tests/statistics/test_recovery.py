"""Recovery: planted shares are found, their intervals hold them, and are unbounded where the gap is not settled."""

import math

import pytest

from bias_lab.definition import Run
from bias_lab.statistics import recovery, removed
from tests.planted import rows, table

PAIRS = [(k, k) for k in range(4)]


def scratch(run: Run) -> float:
    return 0.5 if run.backbone == "vit_micro" else 0.7


def made(seed: int = 0, noise: float = 0.01, share: float = 0.4, **gap: float) -> list[dict[str, object]]:
    """ViT at 0.5, CNNs at 0.7, ViT after MAE at 0.5 + share of the gap."""
    after = rows(
        lambda run: 0.5 + share * 0.2, backbones=["vit_micro"], sizes=[100, 1000], replicates=PAIRS, seed=seed + 10_000,
        noise=noise, regime="mae", source="pool",
    )  # fmt: skip
    return rows(scratch, sizes=[100, 1000], replicates=PAIRS, seed=seed, noise=noise) + after


def test_the_planted_share_is_recovered() -> None:
    found = recovery(table(made(noise=0.0)))
    assert found[["regime", "source", "size"]].to_numpy().tolist() == [["mae", "pool", 100], ["mae", "pool", 1000]]
    assert found["recovery"].to_numpy() == pytest.approx(0.4)
    assert found["shortfall"].to_numpy() == pytest.approx(0.2)
    assert found["n"].tolist() == [4, 4]


def test_protocols_and_sources_stand_apart() -> None:
    probe = rows(lambda run: 0.6, backbones=["vit_micro"], sizes=[100], replicates=PAIRS, regime="mae", source="subset")
    for r in probe:
        r["protocol"] = "linear_probe"
    found = recovery(table([*made(), *probe]))
    assert sorted(set(zip(found["protocol"], found["source"], strict=True))) == [
        ("finetune", "pool"),
        ("linear_probe", "subset"),
    ]


def test_no_gap_to_recover() -> None:
    level = [r | {"top1": 0.6} if r["regime"] == "scratch" else r for r in made()]
    found = recovery(table(level))
    assert found["recovery"].isna().all()
    noisy = recovery(table(made(noise=0.3, seed=5)))
    assert noisy.loc[noisy["recovery"].notna(), "high"].isin([math.inf]).any()


def test_one_replicate_and_none() -> None:
    one = [r for r in made() if r["draw"] == 0]
    assert recovery(table(one))["low"].isna().all()
    assert recovery(table([])).empty
    assert removed(table(made())).empty  # nobody's own


def test_the_share_that_an_own_backbone_removes() -> None:
    own = rows(lambda run: 0.65, backbones=["mine.nets:stem"], sizes=[100, 1000], replicates=PAIRS, noise=0.0)
    found = removed(table([*rows(scratch, sizes=[100, 1000], replicates=PAIRS, noise=0.0), *own]))
    assert found["backbone"].tolist() == ["mine.nets:stem"] * 2
    assert found["share"].to_numpy() == pytest.approx(0.75)


def _held(rounds: int, start: int) -> float:
    held = 0
    for seed in range(start, start + rounds):
        found = recovery(table(made(seed=seed, noise=0.02)))
        held += int(((found["low"] <= 0.4) & (found["high"] >= 0.4)).sum())
    return held / (2 * rounds)


def test_intervals_hold_the_planted_share() -> None:
    assert _held(25, 0) >= 0.86


@pytest.mark.slow
def test_coverage_is_93_percent_at_least() -> None:
    assert _held(250, 1000) >= 0.93


def test_one_of_the_two_sides_is_nobody_s_own() -> None:
    """A published CNN that the catalogue has no row for, beside a ViT that it has: the reference removes nothing."""
    published = [r | {"backbone": "tf_efficientnet_lite0"} for r in made() if r["backbone"] == "resnet_micro"]
    vit = [r for r in made() if r["backbone"] == "vit_micro"]
    assert removed(table([*vit, *published])).empty
