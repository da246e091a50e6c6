"""A headline says that a hold-out chose the recipe only where another recipe was searched too and did worse."""

from typing import Any

import pandas as pd
import pytest

from bias_lab import statistics
from bias_lab.report.evidence import chosen
from bias_lab.report.evidence.head import of_view
from bias_lab.report.evidence.headline import HOW
from tests.report.evidence.studies import SIZES, Cell, study

PAIR = {"vit_micro": Cell(0.9, 0.5), "resnet_micro": Cell(0.9, 0.7)}


def row(backbone: str, recipe: str, holdout_top1: float, **fields: Any) -> dict[str, Any]:
    known = dict(dataset="fashion_mnist_12k", backbone=backbone, recipe=recipe, regime="scratch", size=100)
    return known | dict(learning_rate=0.003, holdout_top1=holdout_top1, trials=[]) | fields


def both(plain: float, strong: float, **fields: Any) -> list[dict[str, Any]]:
    values = {"plain": plain, "strong": strong}
    return [row(name, recipe, top1, **fields) for name in PAIR for recipe, top1 in values.items()]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], HOW),  # the table has no more to say
        (both(0.6, 0.5), 'each trained as its hold-out prefers (recipe "plain") until it stops improving'),
        (both(0.5, 0.6), 'each trained under the "plain" recipe alone until it stops improving'),
        (
            [row(name, "plain", 0.5) for name in PAIR],
            'each trained under the "plain" recipe alone until it stops improving',
        ),
        (both(0.5, 0.6, size=1000), HOW),  # rows of other cells say nothing of these
        (both(0.5, 0.6, priors="conv_stem"), HOW),
        (both(0.5, 0.6, regime="mae"), HOW),
        (both(0.5, 0.6, optimizer="muon"), HOW),
        (both(0.5, 0.6, dataset="cifar10"), HOW),
    ],
)
def test_how_the_cells_of_a_headline_were_trained(rows: list[dict[str, Any]], said: str) -> None:
    view = study(PAIR, sizes=(100,))
    (at,) = statistics.headline(view).sizes
    assert chosen.how(view, "vit", at, rows) == said
    assert of_view(view, "", "desk", rows).headline.startswith(f"At 100 labels, {said}, plain ViT is ")


def test_another_size_or_runs_at_equal_images_under_another_recipe_say_so() -> None:
    equal = {name: Cell(0.6, truth.test - 0.1) for name, truth in PAIR.items()}
    few = study(PAIR, equal=equal, sizes=(100,))
    few.loc[few["comparison"] == "settled", "recipe"] = "strong"
    view = pd.concat([few, study(PAIR, sizes=(1000,), draws=3)], ignore_index=True)
    rows = [*both(0.5, 0.6), *(row(name, "plain", 0.5, size=1000) for name in PAIR)]
    told = of_view(view, "", "desk", rows)
    how = 'each trained as its hold-out prefers (recipe "strong") until it stops improving'
    assert told.headline.startswith(f"At 100 labels, {how}, plain ViT is ")
    assert told.support[1].startswith('At equal images seen, under the "plain" recipe, it is ')
    (further,) = [text for text in told.support if text.startswith("At 1,000 labels")]
    assert further.startswith('At 1,000 labels, each trained under the "plain" recipe alone, plain ViT is ')
    settled, equal, _ = (tile.note for tile in told.tiles)
    assert equal.startswith('against ResNet, at 100 labels, under the "plain" recipe (95 % CI ')
    assert settled.startswith("against ResNet, at 100 labels (95 % CI ")

    alike = of_view(
        view.assign(recipe="plain"), "", "desk", [row(n, "plain", 0.5, size=s) for n in PAIR for s in SIZES]
    )
    assert alike.support[0].startswith("At equal images seen it is ")
    assert "recipe" not in alike.tiles[1].note
    (further,) = [text for text in alike.support if text.startswith("At 1,000 labels")]
    assert further.startswith("At 1,000 labels plain ViT is ")


def test_recipes_that_differ_and_were_not_both_chosen_are_not_named() -> None:
    view = study(PAIR, sizes=(100,), changes={"vit_micro": {"recipe": "strong"}})
    (at,) = statistics.headline(view).sizes
    rows = [*both(0.6, 0.5)]
    assert chosen.how(view, "vit", at, rows) == "each trained until it stops improving"
