"""True ranks lie in their ranges, ties share a rank, and backbones without a pair keep every rank open."""

import pytest

from bias_lab.definition import Run
from bias_lab.statistics import ranking
from tests.planted import rows, table

TRUE = {"resnet_micro": 0.8, "efficientnet_micro": 0.79, "mobilenetv3_micro": 0.7, "vit_micro": 0.5}


def study(seed: int = 0, n: int = 4) -> list[dict[str, object]]:
    pairs = [(k, k) for k in range(n)]
    return rows(lambda run: TRUE[run.backbone], backbones=TRUE, sizes=[100], replicates=pairs, seed=seed)


def test_order_and_open_ranges() -> None:
    result = ranking(table(study())).set_index("backbone")
    assert result.loc["vit_micro", ["rank", "rank_low", "rank_high"]].tolist() == [4, 4, 4]
    assert result.loc["mobilenetv3_micro", "rank"] == 3
    assert result.loc["resnet_micro", "rank_low"] == 1
    assert result.loc["resnet_micro", "rank_high"] >= 2  # four replicates do not show a difference of one point
    assert (result["n"] == 4).all()


def test_true_ranks_lie_in_their_ranges() -> None:
    truth = {name: place + 1 for place, name in enumerate(TRUE)}
    wrong = 0
    for seed in range(20):
        result = ranking(table(study(seed)))
        true = result["backbone"].map(truth)
        wrong += not ((result["rank_low"] <= true) & (true <= result["rank_high"])).all()
    assert wrong / 20 <= 0.1


def test_ties_share_the_better_rank() -> None:
    level = [r | {"top1": 0.5} for r in study()]
    assert ranking(table(level))["rank"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_replicates_leave_every_rank_open(n: int) -> None:
    result = ranking(table(study(n=n)))
    assert (result["rank_low"] == 1).all()
    assert (result["rank_high"] == len(result)).all()


def test_a_missing_cell_is_no_rank() -> None:
    rest = [r for r in study() if not (r["backbone"] == "resnet_micro" and r["draw"] > 0)]
    result = ranking(table(rest)).set_index("backbone")
    assert result.loc["resnet_micro", ["rank_low", "rank_high", "n"]].tolist() == [1, 4, 1]


def test_sizes_stand_apart() -> None:
    def accuracy(run: Run) -> float:
        return 0.9 if (run.backbone == "vit_micro") == (run.size > 100) else 0.5

    result = ranking(table(rows(accuracy, backbones=["vit_micro", "resnet_micro"], sizes=[100, 1000])))
    assert result[result["rank"] == 1][["size", "backbone"]].to_numpy().tolist() == [
        [100, "resnet_micro"],
        [1000, "vit_micro"],
    ]
