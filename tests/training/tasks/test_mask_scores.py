"""Scores of label maps against oracles that share no code: brute force, numpy and scipy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torchmetrics.classification import MulticlassJaccardIndex

from bias_lab.training.tasks import mask_scores
from bias_lab.training.tasks.mask_scores import VOID, BoundaryF1, boundary_f1, count, cross_entropy, dice_loss, miou

K = 5


def maps(seed: int, *, images: int = 4, side: tuple[int, int] = (24, 31), truth: bool = True) -> torch.Tensor:
    """Label maps of blobs, with void borders if it is a truth. The last class is in none of them."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, K - 1, (images, 1, 5, 6), generator=g).float()
    found = F.interpolate(coarse, size=side, mode="nearest")[:, 0].long()
    if truth:
        found[:, :2] = VOID
        found[0, 10:14, 5:9] = VOID
    return found


def test_counts_and_miou_are_those_of_a_confusion_table() -> None:
    truth, predicted = maps(0), maps(1, truth=False)
    table = np.zeros((K, K), np.int64)
    known = (truth != VOID).numpy()
    for t, p in zip(truth.numpy()[known], predicted.numpy()[known], strict=True):
        table[t, p] += 1
    intersection, union = table.diagonal(), table.sum(0) + table.sum(1) - table.diagonal()
    counts = count(predicted, truth, K)
    assert counts.shape == (4, K, 2)
    assert counts.sum(0).tolist() == np.stack([intersection, union], 1).tolist()
    assert math.isclose(miou(counts), (intersection[union > 0] / union[union > 0]).mean())
    assert mask_scores.per_class(counts)[K - 1] is None
    right, total = mask_scores.pixel_accuracy(predicted, truth)
    assert (right, total) == (int(table.trace()), int(table.sum()))


def test_miou_is_torchmetrics_jaccard_index_and_no_mean_over_images() -> None:
    truth, predicted = maps(0), maps(1, truth=False)
    metric = MulticlassJaccardIndex(K, ignore_index=VOID)
    for t, p in zip(truth.split(2), predicted.split(2), strict=True):
        metric.update(p, t)
    counts = count(predicted, truth, K)
    assert math.isclose(miou(counts), metric.compute().item(), rel_tol=1e-6)
    by_image = np.mean([miou(counts[[i]]) for i in range(4)])
    assert abs(miou(counts) - by_image) > 1e-3


def test_a_class_absent_from_truth_or_from_prediction_counts_as_zero_and_absent_from_both_not_at_all() -> None:
    truth, predicted = torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 0, 2, 2]]])
    counts = count(predicted, truth, 4)
    assert mask_scores.per_class(counts) == [1.0, 0.0, 0.0, None]
    assert miou(counts) == pytest.approx(1 / 3)
    assert miou(count(predicted, torch.full_like(truth, VOID), 4)) is None


def test_void_counts_nowhere_whatever_is_predicted_there() -> None:
    truth, predicted = maps(0), maps(1, truth=False)
    other = predicted.clone()
    other[truth == VOID] = K - 1
    assert count(other, truth, K).tolist() == count(predicted, truth, K).tolist()
    assert mask_scores.pixel_accuracy(other, truth) == mask_scores.pixel_accuracy(predicted, truth)
    assert torch.equal(boundary_f1(other, truth, K).nan_to_num(-1), boundary_f1(predicted, truth, K).nan_to_num(-1))
    logits = torch.randn(4, K, 24, 31)
    changed = torch.where((truth == VOID)[:, None], logits.flip(1), logits)
    assert torch.equal(cross_entropy(logits, truth), cross_entropy(changed, truth))
    assert torch.allclose(dice_loss(logits, truth), dice_loss(changed, truth))


def oracle_f1(predicted: np.ndarray, truth: np.ndarray, label: int, tolerance: float) -> float:
    """Boundary F1 of one image and class, with loops and scipy's distance transform."""
    H, W = truth.shape

    def boundary(found: np.ndarray) -> np.ndarray:
        edge = np.zeros((H, W), bool)
        for y in range(H):
            for x in range(W):
                if truth[y, x] == VOID or found[y, x] != label:
                    continue
                for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                    b, a = y + dy, x + dx
                    if 0 <= b < H and 0 <= a < W and truth[b, a] != VOID and found[b, a] != label:
                        edge[y, x] = True
        return edge

    said, truly = boundary(predicted), boundary(truth)
    if not said.any() and not truly.any():
        return float("nan")
    if not said.any() or not truly.any():
        return 0.0
    near = max(1.0, tolerance * math.hypot(H, W))
    precision = (distance_transform_edt(~truly)[said] <= near).mean()
    recall = (distance_transform_edt(~said)[truly] <= near).mean()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("tolerance", [mask_scores.TOLERANCE, 0.06, 0.09])
def test_boundary_f1_is_that_of_a_distance_transform(tolerance: float) -> None:
    truth, predicted = maps(2), maps(3, truth=False)
    predicted[1] = maps(2, truth=False)[1].roll(1, 1)  # nearly right
    found = boundary_f1(predicted, truth, K, tolerance=tolerance)
    expected = [
        [oracle_f1(p, t, k, tolerance) for k in range(K)] for p, t in zip(predicted.numpy(), truth.numpy(), strict=True)
    ]
    assert np.allclose(found.numpy(), np.array(expected), equal_nan=True)
    metric = BoundaryF1(K, tolerance=tolerance)
    for t, p in zip(truth.split(3), predicted.split(3), strict=True):
        metric.update(p, t)
    assert math.isclose(metric.compute().item(), np.nanmean(np.nanmean(expected, axis=1)), rel_tol=1e-6)


def test_edges_of_boundary_f1() -> None:
    plain, half = torch.zeros(1, 8, 8, dtype=torch.long), torch.zeros(1, 8, 8, dtype=torch.long)
    half[:, :, 4:] = 1
    assert boundary_f1(plain, plain, 2).isnan().all()  # the image's edge is no boundary
    assert boundary_f1(half, half, 2).tolist() == [[1.0, 1.0]]
    assert boundary_f1(plain, half, 2).tolist() == [[0.0, 0.0]]
    void = half.clone()
    void[:, :, 3:5] = VOID  # the classes border on void alone
    assert boundary_f1(half, void, 2).isnan().all()
    metric = BoundaryF1(2)
    metric.update(plain, plain)
    assert metric.compute().isnan()


def test_a_shifted_mask_and_a_swapped_class_are_caught() -> None:
    truth = maps(4)
    same = torch.where(truth == VOID, 0, truth)
    perfect = count(same, truth, K)
    assert miou(perfect) == 1.0
    assert boundary_f1(same, truth, K).nansum() == (~boundary_f1(same, truth, K).isnan()).sum()
    one, four = same.roll(1, 2), same.roll(4, 2)
    assert miou(count(four, truth, K)) < miou(count(one, truth, K)) < 0.9
    assert boundary_f1(four, truth, K).nanmean() < 0.6 < boundary_f1(one, truth, K).nanmean()
    swapped = torch.where(same == 0, 1, torch.where(same == 1, 0, same))
    ious = mask_scores.per_class(count(swapped, truth, K))
    assert ious[0] == ious[1] == 0.0
    assert ious[2] == ious[3] == 1.0


def test_a_class_outside_of_the_table_is_no_silent_zero() -> None:
    with pytest.raises(ValueError, match="label maps hold classes from 0 to 7, not 0 to 4"):
        count(torch.zeros(1, 2, 2, dtype=torch.long), torch.tensor([[[0, 7], [0, VOID]]]), K)


def test_cross_entropy_is_torchs_over_the_known_pixels() -> None:
    torch.manual_seed(0)
    truth, logits = maps(0), torch.randn(4, K, 24, 31)
    assert torch.allclose(cross_entropy(logits, truth), F.cross_entropy(logits, truth, ignore_index=VOID))
    smooth = F.cross_entropy(logits, truth, ignore_index=VOID, label_smoothing=0.1)
    assert torch.allclose(cross_entropy(logits, truth, smoothing=0.1), smooth)
    assert cross_entropy(logits, torch.full_like(truth, VOID)) == 0


def test_dice_is_the_overlap_of_the_classes_that_are_there() -> None:
    truth = torch.tensor([[[0, 0, 1, VOID]]])
    right = F.one_hot(torch.tensor([[[0, 0, 1, 2]]]), 3).movedim(-1, 1) * 60.0
    assert dice_loss(right, truth) == pytest.approx(0, abs=1e-6)
    even = torch.zeros(1, 3, 1, 4)
    expected = 1 - np.mean([2 * (2 / 3) / (3 / 3 + 2), 2 * (1 / 3) / (3 / 3 + 1)])
    assert dice_loss(even, truth).item() == pytest.approx(expected)
    nothing = dice_loss(even.requires_grad_(), torch.full_like(truth, VOID))
    nothing.backward()
    assert nothing == 0


def test_one_class_for_all_pixels_scores_what_its_label_map_would() -> None:
    """The oracle is the mean IoU of a real constant map, also where the test images lack the class."""
    torch.manual_seed(3)
    truth = torch.randint(0, K, (4, 6, 6))
    truth[0, 0] = VOID
    for said in (1, K - 1):
        truth[truth == K - 1] = 0
        training = np.eye(K, dtype=np.int64)[said] * 50 + 1
        test = np.bincount(truth[truth != VOID].numpy(), minlength=K)
        found = mask_scores.miou(mask_scores.count(torch.full_like(truth, said), truth, K))
        assert mask_scores.constant(training, test) == pytest.approx(found)
    assert mask_scores.constant(training, 0 * test) is None
