"""One part of the test images: its mean IoU, images and groups, and that statistics hold for it alone."""

import numpy as np
import pytest

from bias_lab.statistics import gaps
from bias_lab.statistics.masks import groups, parts
from bias_lab.statistics.masks.parts import in_part
from tests.planted import rows, table

T, K = 12, 3
NIGHT = np.arange(T) >= 8
GROUPS = ",".join(map(str, np.arange(T) // 2))


def mean_iou(scores: np.ndarray) -> float:
    both, either = scores.sum(0).T
    return float(np.mean((both / np.maximum(either, 1))[either > 0]))


def made() -> tuple[list[np.ndarray], list[dict[str, object]]]:
    """Scores and rows of runs that do better at night than by day."""
    random, every, planted = np.random.default_rng(0), [], []
    part = groups.pack_parts({"night": NIGHT})
    for one in rows(lambda run: 0.5, backbones=("vit_micro", "resnet_micro"), sizes=[30]):
        union = random.integers(5, 50, (T, K))
        both = random.binomial(union, np.where(NIGHT, 0.8, 0.3)[:, None])
        scores = np.stack([both, union], axis=2)
        every.append(scores)
        packed = dict(scores=scores.astype("<u4").tobytes(), classes=K, test_images=T, test_groups=GROUPS)
        planted.append(one | packed | {"task": "segment", "miou": mean_iou(scores), "test_parts": part})
    return every, planted


def test_a_part_has_the_mean_iou_of_its_own_images() -> None:
    every, planted = made()
    frame = table(planted)
    assert parts.names(frame) == ["night"]
    cut = in_part(frame, "night", metric="miou")
    assert cut["miou"].tolist() == pytest.approx([mean_iou(scores[NIGHT]) for scores in every])
    assert cut["test_images"].tolist() == [4] * len(every)
    assert set(cut["test_groups"]) == {"4,4,5,5"}
    assert (cut["miou"] > frame["miou"]).all()
    assert cut.dtypes.to_dict() == frame.dtypes.to_dict()


def test_statistics_hold_for_the_part_with_the_noise_of_its_groups() -> None:
    every, planted = made()
    result = gaps(in_part(table(planted), "night", metric="miou"), metric="miou").iloc[0]
    means = [mean_iou(scores[NIGHT]) for scores in every]
    assert result["shortfall"] == pytest.approx(np.mean(means[3:]) - np.mean(means[:3]))
    assert result["test_se"] >= 0


def test_runs_without_the_part_are_left_out() -> None:
    _, planted = made()
    planted[0] |= {"test_parts": ""}
    planted[1] |= {"scores": None}
    frame = table(planted)
    assert in_part(frame, "night", metric="miou")["run_id"].tolist() == frame["run_id"].tolist()[2:]
    assert not len(in_part(frame, "day"))
    assert not len(in_part(frame.drop(columns="test_parts"), "night"))
    assert parts.names(frame.drop(columns="test_parts")) == []
