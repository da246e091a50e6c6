"""Sentences say the finding first, then the number, then how sure, with at most four numbers."""

import math
import re

import pandas as pd
import pytest

from bias_lab import statistics
from bias_lab.report import sentences
from bias_lab.report.sentences import answer, claims, method, start_words, value_words
from tests.planted import curve, rows, table

NAMES = ("plain ViT", "the CNN family")


def study(gap: float, **fields: object) -> pd.DataFrame:
    return table(rows(lambda run: curve(run.size) - gap * (run.backbone == "vit_micro"), noise=0.002, **fields))


def test_a_shortfall_is_claimed_then_told_at_the_ends() -> None:
    told = claims(statistics.gaps(study(0.1)), NAMES)
    assert told[0] == "Plain ViT falls short of the CNN family at N = 100, 300, 1,000, 3,000 and 10,000."
    assert re.fullmatch(r"At 100 labels it is 10\.\d points behind \(95 % CI 9\.\d to 1[01]\.\d\)\.", told[1])
    assert told[2].startswith("At 10,000 labels it is ")
    assert len(told) == 3


def test_one_size_takes_one_sentence() -> None:
    (told,) = claims(statistics.gaps(study(-0.1, sizes=(100,))), NAMES)
    pattern = r"Plain ViT is ahead of the CNN family at N = 100 by 1?\d\.\d points \(95 % CI [\d.]+ to [\d.]+\)\."
    assert re.fullmatch(pattern, told)


def test_no_difference_and_one_replicate() -> None:
    told = claims(statistics.gaps(study(0.0, sizes=(100, 300), seed=3)), NAMES)
    assert told[0] == "No difference between plain ViT and the CNN family is shown at N = 100 and 300."
    assert told[1].startswith("The 95 % intervals there reach from ")
    single = claims(statistics.gaps(study(0.1, sizes=(100,), replicates=((0, 0),))), NAMES)
    assert single[0] == ("One replicate gives no interval, so nothing is claimed about plain ViT and the CNN family.")
    assert re.fullmatch(r"At 100 labels the CNN family minus plain ViT is \d+\.\d points\.", single[1])


def test_an_answer_without_runs_or_with_a_crossing() -> None:
    assert answer(statistics.answer(table([])), NAMES).startswith("There is no pair of finished runs of plain ViT and ")
    crossing = table(
        rows(lambda run: 0.6 + (0.1 if run.backbone == "vit_micro" else 0.0) * math.log10(run.size / 1000), noise=0.002)
    )
    assert "The mean curves of plain ViT and the CNN family meet at about N = " in answer(
        statistics.answer(crossing), NAMES
    )


def test_the_method_names_replicates_test_images_and_the_correction() -> None:
    told = method(statistics.gaps(study(0.1)))
    assert told.startswith("Intervals are Student's t over 3 replicates. They hold for this test set.")
    assert "Claims are Holm-corrected over 5 sizes." in told
    assert told.endswith("sign flips of 3 draws cannot reach a p below 0.25.")
    assert method(statistics.gaps(table([]))) == ""
    sampled = method(statistics.gaps(study(0.1)).assign(test_se=0.01))
    assert 'Those in sentences, of shares, and "with test images" include the sampling of test images.' in sampled


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (("scratch", "finetune", ""), "scratch"),
        (("mae", "finetune", "pool"), "MAE (on pool)"),
        (("mae", "linear_probe", "subset"), "MAE, linear probe (on subset)"),
        (("weights", "finetune", "resnet18"), "weights (resnet18)"),
        (("formula", "finetune", "fractals"), "pretraining on drawn fractals"),
        (("of_old", "finetune", ""), "of_old"),
    ],
)
def test_a_start_in_words(start: tuple[str, str, str], words: str) -> None:
    assert start_words(*start) == words


def test_values_of_an_axis_in_words() -> None:
    assert value_words("intervention", "") == "images as they are"
    assert value_words("intervention", "permute_patches:4") == "patches of 4 × 4 pixels permuted"
    assert value_words("label_noise", 0.2) == "label noise 0.2"


def test_lists_and_sizes() -> None:
    assert sentences.listed(["a", "b", "c"]) == "a, b and c"
    assert sentences.sizes_in_words([100, 1000]) == "N = 100 and 1,000"
    assert sentences.sizes_in_words(range(100, 700, 100)) == "N = 100 to 600 (6 sizes)"


def test_what_is_not_determined_is_not_told_as_a_number() -> None:
    row = {"low": 0.1, "high": 0.1, "low_any": math.nan, "high_any": math.nan, "p_holm": 0.0}
    assert sentences.interval(row) == " (identical replicates, no interval)"
    own = pd.DataFrame([dict(backbone="my.nets:stem", size=100, share=10.44, low=-1.0, high=21.0)])
    assert sentences.removed(own) == [
        "The share that my.nets:stem removes is not determined at N = 100: its interval is too wide."
    ]
    worse = pd.DataFrame([dict(backbone="my.nets:stem", size=100, share=-3.4, low=-3.7, high=-3.1)])
    assert sentences.removed(worse) == [
        "my.nets:stem removes nothing of the shortfall at N = 100: it is less accurate than plain ViT."
    ]
    start = dict(regime="mae", protocol="finetune", source="pool", size=100)
    assert sentences.recovered(pd.DataFrame([start | dict(recovery=10.44, low=-1.0, high=21.0)])) == []
    assert len(sentences.recovered(pd.DataFrame([start | dict(recovery=0.44, low=-0.1, high=1.0)]))) == 1


def test_no_lead_is_told_where_both_start_alike_and_none_is_shown() -> None:
    alike = dict(regime="imagenet", protocol="finetune", source="x", size=300, shortfall=-0.032, p_holm=0.4)
    alike |= dict(low=-0.109, high=0.044, low_any=math.nan, high_any=math.nan, left=0.5, left_low=0.1, left_high=0.9)
    (told,) = sentences.left_where_alike(pd.DataFrame([alike]))
    assert told.endswith(
        "no difference is shown at 300 labels: the CNNs minus plain ViT is −3.2 points (95 % CI −10.9 to 4.4)."
    )
    sure = alike | dict(shortfall=0.032, low=0.02, high=0.044, p_holm=0.01)
    assert "the CNNs' lead over plain ViT is 3.2 points" in sentences.left_where_alike(pd.DataFrame([sure]))[0]
