"""The first sentence of a report is right in planted studies, and no headline is made where the runs allow none."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pytest

from bias_lab import statistics
from bias_lab.report.evidence import headline
from bias_lab.report.evidence.head import of_view
from bias_lab.report.findings import findings, split
from bias_lab.report.pages import Head
from bias_lab.results import Results, StudyPlan
from bias_lab.statistics import Gap
from tests.planted import CNNS
from tests.report.evidence.studies import Cell, pair, study

TEN = {"vit_micro": Cell(0.6, 0.5), **dict.fromkeys(CNNS, Cell(0.9, 0.7))}
COLLAPSED = {name: {"collapsed": True} for name in CNNS}


def head(profile: str = "desk", **kind: Any) -> Head:
    """The head of a study at N = 100, where there is one size unless `sizes` is given."""
    made = study(**({"sizes": (100,)} | kind))
    return of_view(split(made)[0][1], "", profile)


def first(of: Head) -> str:
    return of.sentences()[0]


def test_a_pure_training_gap() -> None:
    """Training accuracies of 60 and 99 %, and equal train-test gaps."""
    told = head(cells=pair(Cell(0.60, 0.45), Cell(0.99, 0.84)), equal=pair(Cell(0.60, 0.45), Cell(0.99, 0.84)))
    pattern = (
        r"At 100 labels, each trained as its hold-out prefers until it stops improving, plain ViT is 3[89]\.\d points "
        r"behind the CNN family \(CI 3[89]\.\d to (39|40)\.\d\)\."
    )
    assert re.fullmatch(pattern, first(told))
    assert re.fullmatch(
        r"At equal images seen it is 3[89]\.\d points \(CI 38\.\d to \d+\.\d\)(, of which .*|\. There plain ViT is .*)",
        told.support[0],
    )


def test_a_pure_generalisation_gap() -> None:
    told = head(cells=pair(Cell(0.99, 0.60), Cell(0.99, 0.75)), equal=pair(Cell(0.99, 0.60), Cell(0.99, 0.75)))
    assert "plain ViT is 1" in first(told)
    assert " points behind the CNN family (CI 1" in first(told)
    assert told.support[0].endswith(". No part of it is shown to be training accuracy.")


@pytest.mark.parametrize(
    ("vit", "said"),
    [
        (Cell(0.70, 0.45), r", of which (1\d\.\d) points are training accuracy \(CI (\d+\.\d) to (\d+\.\d)\)\."),
        (
            Cell(0.50, 0.50),
            r"\. There plain ViT is (3\d\.\d) points behind in training accuracy \(CI (\d+\.\d) to (\d+\.\d)\)\.",
        ),
        (
            Cell(0.95, 0.60),
            r", while plain ViT is (1\d\.\d) points ahead in training accuracy \(CI (\d+\.\d) to (\d+\.\d)\)\.",
        ),
    ],
)
def test_the_training_part_has_its_interval(vit: Cell, said: str) -> None:
    """CNNs reach 85 % of the training and 75 % of the test images at equal images."""
    told = head(cells=TEN, equal=pair(vit, Cell(0.85, 0.75)))
    found = re.search(said + "$", told.support[0])
    assert found, told.support[0]
    part, low, high = map(float, found.groups())
    assert low < part < high < low + 2


def test_collapsed_cnns_give_no_headline() -> None:
    told = head(cells=TEN, changes=COLLAPSED)
    assert told.headline == ""
    assert first(told) == (
        "There is no headline: runs of efficientnet_micro, mobilenetv3_micro and resnet_micro at N = 100 collapsed "
        "(they predict one class or have dead features)."
    )


def test_a_vit_at_chance_gives_no_headline() -> None:
    told = head(cells=pair(Cell(0.12, 0.10), Cell(0.9, 0.7)))
    assert first(told) == "There is no headline: vit_micro at N = 100 is not shown to be above chance."
    assert told.headline == ""


def test_smoke_shows_the_path_and_no_answer() -> None:
    told = head("smoke", cells=TEN)
    assert first(told).startswith("This shows the path, not an answer")
    assert told.headline == ""


def test_one_backbone_per_family_is_called_by_its_name() -> None:
    told = head(cells=pair(Cell(0.9, 0.6), Cell(0.9, 0.7), ("resnet_micro",)))
    assert " points behind ResNet (CI " in first(told)
    told = head(cells=pair(Cell(0.9, 0.6), Cell(0.9, 0.7), ("mobilenetv3_micro",)))
    assert " points behind MobileNetV3 (CI " in first(told)


def test_a_family_with_a_member_that_is_not_settled_is_not_named() -> None:
    told = head(cells=TEN, changes={"efficientnet_micro": {"settled": False}})
    assert " points behind ResNet (CI " in first(told)


def test_a_negative_gap() -> None:
    told = head(cells=pair(Cell(0.9, 0.75), Cell(0.9, 0.7)), equal=pair(Cell(0.9, 0.75), Cell(0.9, 0.7)))
    assert re.search(r"plain ViT is [45]\.\d points ahead of the CNN family \(CI 4\.\d to 5\.\d\)\.$", first(told))
    assert told.support[0].startswith("At equal images seen plain ViT is ")


def test_no_difference_is_shown() -> None:
    told = head(cells=pair(Cell(0.9, 0.7), Cell(0.9, 0.7)), noise=0.02)
    assert "no difference between plain ViT and the CNN family is shown: the CNN family minus plain ViT is " in first(
        told
    )


def test_a_ceiling() -> None:
    told = head(cells=pair(Cell(1.0, 0.99), Cell(1.0, 0.992)), noise=0.0005)
    assert first(told).startswith("There is no headline: ")
    assert first(told).endswith(" are above 97 %, so they can hardly differ.")


def test_a_linear_classifier_on_pixels_as_good_as_the_cnns() -> None:
    told = head(cells=TEN, pixels=0.69)
    assert first(told).startswith(
        "At 100 labels these images do not show what locality is worth: a linear classifier on pixels reaches 6"
    )
    assert told.headline.startswith("At 100 labels, each trained as its hold-out prefers")
    assert head(cells=TEN, pixels=0.6).banner == ()


def test_cells_that_are_not_settled_are_named_with_what_to_run() -> None:
    told = head(cells=TEN, sizes=(100, 1000), changes={"vit_micro": {"settled": False}})
    assert first(told) == "There is no headline: vit_micro at every N is not settled."
    assert told.banner[1].startswith("Run a profile with settled cells, such as `desk`, with `--tune`")
    assert told.tiles[0].value == "–"


def test_a_table_at_equal_images_alone_is_answered_as_such() -> None:
    report = findings(Results(table=study({}, equal=TEN, sizes=(100,))))
    assert first(report.heads[0]) == "There is no headline: no cell of plain ViT and ResNet is settled."
    assert report.answers[0][1].startswith("At equal images, plain ViT falls short of the CNN family at N = 100 by ")
    assert report.sections[0].title == "Accuracy, at equal images"


@pytest.mark.parametrize("kind", ["collapsed", "at chance", "unsettled"])
def test_what_forbids_a_headline_forbids_every_claim_of_the_page(kind: str) -> None:
    """No sentence says who is ahead, and no tile has a number."""
    cells = pair(Cell(0.9, 0.1 if kind == "at chance" else 0.6), Cell(0.99, 0.7))
    changes = {"collapsed": {"collapsed": True}, "unsettled": {"settled": False}}.get(kind, {})
    whose = "vit_micro" if kind == "unsettled" else "resnet_micro"
    report = findings(Results(table=study(cells, sizes=(100, 1000), changes={whose: changes})))
    ((_, answer, _),) = report.answers
    assert answer.startswith("With each cell settled, nothing is claimed about plain ViT and ")
    assert not any(word in answer for word in ("falls short", "ahead", "behind", "meet at"))
    assert [tile.value for tile in report.heads[0].tiles] == ["–", "–", "–"]
    assert not any("training part" in text for part in report.sections for text in part.text)


def test_collapsed_cells_at_equal_images_are_not_compared_beside_a_headline() -> None:
    table = study(TEN, equal=pair(Cell(0.9, 0.6), Cell(0.99, 0.7)), sizes=(100,))
    table["collapsed"] = (table["comparison"] == "equal") & (table["architecture"] == "resnet")
    told = findings(Results(table=table)).heads[0]
    assert told.headline
    assert any(
        text.startswith("At equal images seen nothing is claimed: runs of resnet_micro") for text in told.support
    )
    assert (told.tiles[1].value, told.tiles[0].value != "–") == ("–", True)


def test_a_difference_of_nothing_is_level() -> None:
    told = findings(Results(table=study(TEN, equal=pair(Cell(0.9, 0.6), Cell(0.9, 0.6)), sizes=(100,), noise=0.0)))
    assert "At equal images seen the two are level." in told.heads[0].support


def test_a_table_without_plain_vit_has_no_headline() -> None:
    told = head(cells=dict.fromkeys(CNNS, Cell(0.9, 0.7)))
    assert first(told).startswith("There is no headline: no run of plain ViT at N = 100 is finished")


@pytest.mark.parametrize(
    "kind",
    [
        dict(cells=TEN, equal=TEN, pixels=0.6, sizes=(100, 1000)),
        dict(cells=TEN, pixels=0.7),
        dict(cells=TEN, changes=COLLAPSED, sizes=(100, 300, 1000, 3000)),
        dict(cells={}, equal=TEN, sizes=(100, 300, 1000, 3000, 10_000)),
    ],
)
def test_the_first_sentence_has_at_most_four_numbers(kind: Mapping[str, Any]) -> None:
    told = first(head(**kind))
    assert len(re.findall(r"\d[\d,]*(\.\d+)?", told)) <= 4, told


def gap(value: float, half: float, n: int = 5) -> Gap:
    return Gap(value, value - half, value + half, p_holm=0.01, n=n)


def test_the_first_sentence_of_a_banner_has_at_most_four_numbers() -> None:
    cells = {"vit_micro": [100, 300, 1000], "resnet_micro": [100, 3000], "efficientnet_micro": [300, 3000]}
    sizes = (100, 300, 1000, 3000)
    told = headline.banner({"unsettled": cells}, sizes)[0]
    assert told == ("There is no headline: vit_micro, resnet_micro and efficientnet_micro at some N are not settled.")
    few = headline.banner({"unsettled": {"vit_micro": [100, 300]}}, sizes)[0]
    assert few == "There is no headline: vit_micro at N = 100 and 300 is not settled."


def test_a_claim_that_holds_under_one_recipe_alone_is_said_to() -> None:
    both = headline.under_each("recipe", {"plain": gap(0.03, 0.01), "strong": gap(0.07, 0.01)})
    assert both == (
        "With one recipe for all, the settled shortfall is 3.0 points under plain (CI 2.0 to 4.0) and 7.0 points under "
        "strong (CI 6.0 to 8.0)."
    )
    fewer = headline.under_each("optimizer", {"muon": gap(0.03, 0.01), "adamw": gap(0.07, 0.01, n=3)})
    assert "under Muon (CI 2.0 to 4.0, n = 5) and 7.0 points under AdamW (CI 6.0 to 8.0, n = 3)" in fewer
    one = headline.under_each("recipe", {"plain": gap(0.01, 0.02), "strong": gap(0.07, 0.01)})
    assert one.endswith(
        "A difference is shown under strong and not under plain, which does not mean that these differ."
    )
    sign = headline.under_each("optimizer", {"adamw": gap(-0.04, 0.02), "muon": gap(0.07, 0.01)})
    assert sign.endswith("Who is ahead depends on the optimizer.")
    confined = headline.under_each("optimizer", {"adamw": gap(0.04, 0.01), "muon": gap(0.07, 0.01)}, ("plain",))
    assert confined.startswith('With one optimizer for all, the settled shortfall with the "plain" recipe is ')
    assert headline.under_each("recipe", {}) == ""


# --- what stands beside the first sentence ---------------------------------------------------------------------------


def test_the_side_at_equal_images_is_named_where_it_differs_from_the_headline() -> None:
    told = head(cells=pair(Cell(0.9, 0.75), Cell(0.9, 0.7)), equal=pair(Cell(0.6, 0.5), Cell(0.9, 0.7)))
    assert " points ahead of the CNN family (CI " in told.headline
    assert re.match(r"At equal images seen plain ViT is \d+\.\d points behind \(CI ", told.support[0])


def test_a_difference_at_equal_images_that_is_not_shown_is_said_to_be_none() -> None:
    told = head(cells=TEN, equal=pair(Cell(0.9, 0.68), Cell(0.9, 0.7)), noise=0.03)
    assert re.match(r"At equal images seen no difference is shown \(CI −\d\.\d to \d\.\d\)\.$", told.support[0])


def named(sizes: Sequence[int]) -> list[str]:
    """Return the further sizes of which a study of these says who is ahead: the ViT at 300, the CNNs at all others."""
    parts = [study(pair(Cell(0.9, 0.75 if size == 300 else 0.5), Cell(0.9, 0.7)), sizes=(size,)) for size in sizes]
    told = of_view(split(pd.concat(parts, ignore_index=True))[0][1], "", "desk")
    return [text.split(" labels")[0] for text in told.support if text.startswith("At ") and "labels plain ViT" in text]


def test_up_to_three_further_sizes_are_all_named() -> None:
    assert named((100, 300, 1000, 3000)) == ["At 300", "At 1,000", "At 3,000"]


def test_of_more_sizes_the_last_is_named_and_those_with_another_side() -> None:
    assert named((100, 300, 1000, 2000, 3000)) == ["At 300", "At 3,000"]


def test_a_further_size_whose_replicates_share_their_images_says_so() -> None:
    few, many = study(TEN, sizes=(1000,)), study(TEN, sizes=(9000,)).assign(draw=0)
    told = of_view(split(pd.concat([few, many], ignore_index=True))[0][1], "", "desk")
    (further,) = [text for text in told.support if text.startswith("At 9,000 labels")]
    assert further.startswith("At 9,000 labels, with the same training images in all replicates, plain ViT is 20.")
    (at, _) = statistics.headline(study(TEN)).sizes
    how = 'each trained under the "plain" recipe alone until it stops improving'
    assert headline.further("vit", at, how=how, one_draw=True).startswith(
        'At 100 labels, each trained under the "plain" recipe alone and with the same training images in all '
        "replicates, plain ViT is "
    )
    both = study(TEN, sizes=(1000, 9000)).assign(draw=0)  # then the meaning of CI says so for both
    told = of_view(split(both)[0][1], "", "desk")
    assert any(text.startswith("At 9,000 labels plain ViT is 20.") for text in told.support)


def test_pixels_that_are_as_good_at_another_size_or_without_a_headline_are_told() -> None:
    low, high = (study(TEN, pixels=pixels, sizes=(size,)) for pixels, size in ((0.5, 100), (0.69, 1000)))
    told = of_view(split(pd.concat([low, high], ignore_index=True))[0][1], "", "desk")
    assert told.headline.startswith("At 100 labels")
    assert [text[:64] for text in told.banner] == ["At 1,000 labels these images do not show what locality is worth:"]
    swapped = [study(TEN, pixels=pixels, sizes=(size,)) for pixels, size in ((0.69, 100), (0.5, 1000))]
    told = of_view(split(pd.concat(swapped, ignore_index=True))[0][1], "", "desk")
    assert told.headline.startswith("At 1,000 labels"), "the size that can speak of locality leads"
    assert any(text.startswith("At 100 labels plain ViT is ") for text in told.support)
    assert [tile.note[:41] for tile in told.tiles[:1]] == ["against the CNN family, at 1,000 labels ("]
    unsettled = head(cells=TEN, pixels=0.69, changes={"vit_micro": {"settled": False}})
    few = "At 100 labels these images do not show what locality is worth: "
    assert unsettled.banner[-1].startswith(few)
    assert head(cells={}, equal=TEN, pixels=0.69).banner[-1].startswith(few)
    assert "no less than the CNN family's" in head(cells=TEN, pixels=0.75).banner[0]


def test_a_missing_training_accuracy_hides_no_shortfall() -> None:
    made = study(TEN, equal=pair(Cell(0.9, 0.6), Cell(0.9, 0.7)), sizes=(100,))
    is_first = made["draw"] == 0
    for lost in (made.index, made.index[is_first]):
        lacking = made.assign(train_top1=made["train_top1"].where(~made.index.isin(lost)))
        told = of_view(split(lacking)[0][1], "", "desk")
        assert re.match(r"At equal images seen it is (9|10)\.\d points \(CI [^)]*\)\.$", told.support[0])
        assert re.match(r"(9|10)\.\d points", told.tiles[1].value)


def test_what_ci_means_depends_on_the_replicates() -> None:
    told = head(cells=TEN)
    assert "in 19 of 20 repetitions of the study on these test images it holds" in told.support[-1]
    made = study(TEN, sizes=(100,)).assign(draw=0)
    same = of_view(split(made)[0][1], "", "desk")
    assert "repetitions of the study on these training images" in same.support[-1]
    alike = head(cells=TEN, noise=0.0)
    assert not any("CI is" in text for text in alike.support)


def test_an_interval_that_holds_before_the_correction_alone_says_so() -> None:
    at = Gap(0.015, 0.002, 0.028, p_holm=0.07, n=5)
    assert headline.amount(at, "ResNet") == "1.5 points behind ResNet (uncorrected CI 0.2 to 2.8)"


def test_smoke_claims_nothing_on_the_whole_page() -> None:
    made = study(TEN, equal=TEN, sizes=(100, 1000))
    report = findings(Results(table=made, plan=StudyPlan(profile="smoke")))
    assert report.answers[0][1] == "Nothing is claimed: the runs of this profile show that everything works."
    assert not any(part.text for part in report.sections if part.name not in ("undone", "provenance"))
    assert not any("shortfall comes from" in text for text in report.caveats)


def test_sizes_without_a_settled_cell_are_named_beside_a_headline() -> None:
    two = pair(Cell(0.6, 0.5), Cell(0.9, 0.7), cnns=("resnet_micro",))
    made = study(two, equal=two)
    made = made[~((made["comparison"] == "settled") & (made["size"] == 100))]
    told = of_view(split(made)[0][1], "", "desk")
    assert "At 1,000 labels" in told.headline
    assert "There is no headline at N = 100: no cell of plain ViT and ResNet is settled there." in told.support
