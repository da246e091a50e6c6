"""The answer on locality says yes, in part, no or open as the leads with permuted pixels are planted."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bias_lab.report.evidence import locality, view
from tests.report.evidence.studies import Cell, pair, study

AS_IS = study(pair(Cell(0.99, 0.50), Cell(0.99, 0.70)), sizes=(1000,))


def planted(vit: float, cnn: float, *, noise: float = 0.006, patches: bool = False) -> pd.DataFrame:
    """A study whose lead is 20 points on images as they are. vit, cnn: true test accuracies with pixels permuted."""
    changed = study(pair(Cell(0.99, vit), Cell(0.99, cnn)), sizes=(1000,), noise=noise)
    parts = [AS_IS, changed.assign(intervention="permute_pixels")]
    if patches:
        parts.append(AS_IS.assign(intervention="permute_patches:4"))
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(run_id=[f"{k:012x}" for k in range(len(rows))])


@pytest.mark.parametrize(
    ("vit", "cnn", "verdict"),
    [
        (0.40, 0.40, "At 1,000 labels: yes. There the CNNs lead by 2"),
        (0.40, 0.45, "At 1,000 labels: in part. There the CNNs lead by 2"),
        (0.40, 0.60, "At 1,000 labels: no. There the CNNs lead by 2"),
        (0.40, 0.62, "At 1,000 labels: no. There the CNNs lead by 2"),
    ],
)
def test_the_verdict_follows_what_is_left_of_the_lead(vit: float, cnn: float, verdict: str) -> None:
    (text,) = locality.section(planted(vit, cnn)).text
    assert text.startswith(verdict)


@pytest.mark.parametrize("noise", [0.10, 0.2])
def test_scattered_leads_give_no_plain_yes(noise: float) -> None:
    (text,) = locality.section(planted(0.40, 0.42, noise=noise)).text
    assert text.startswith(("At 1,000 labels: at least in part.", "At 1,000 labels: the data leave it open."))


def test_without_a_lead_on_the_images_as_they_are_there_is_no_answer() -> None:
    level = study(pair(Cell(0.99, 0.6), Cell(0.99, 0.6)), sizes=(1000,))
    rows = pd.concat([level, level.assign(intervention="permute_pixels")], ignore_index=True)
    (text,) = locality.section(rows.assign(run_id=[f"{k:012x}" for k in range(len(rows))])).text
    assert text.startswith(
        "At 1,000 labels there is no answer: on the images as they are, no lead of the CNNs is shown"
    )


def test_a_collapsed_arm_gives_no_verdict() -> None:
    rows = planted(0.40, 0.40)
    rows["collapsed"] = (rows["intervention"] != "") & (rows["backbone"] == "resnet_micro")
    (text,) = locality.section(rows).text
    assert "nothing is claimed about plain ViT and the CNN family at N = 1,000: runs of resnet_micro" in text


def test_studies_without_permuted_pixels_have_no_section() -> None:
    assert not locality.section(AS_IS)
    rows = pd.concat([AS_IS, AS_IS.assign(intervention="occlude")], ignore_index=True)
    assert not locality.section(rows.assign(run_id=[f"{k:012x}" for k in range(len(rows))]))


def test_the_pictures_hold_the_same_pixels_in_other_places() -> None:
    section = locality.section(planted(0.4, 0.4, patches=True))
    assert [caption for caption, _ in section.pictures] == [
        "A drawn image as it is",
        "The same with pixels permuted",
        "The same with patches of 4 × 4 pixels permuted",
    ]
    first, *others = (np.asarray(Image.open(io.BytesIO(data))) for _, data in section.pictures)
    assert all(not np.array_equal(first, other) for other in others)
    assert all(np.array_equal(np.sort(first.ravel()), np.sort(other.ravel())) for other in others)


def test_the_answer_follows_the_shortfall_in_a_report() -> None:
    evidence = view.of_view(planted(0.4, 0.4), "", "", "desk", {})
    assert evidence.after[0].title == "Is the CNNs' lead made of locality?"
