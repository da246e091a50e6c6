"""The module that learns from labels, and its metrics against scikit-free arithmetic written from their definitions."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bias_lab.backbones import create
from bias_lab.definition import Run
from bias_lab.training.classification import (
    CALIBRATION_BINS,
    Classifier,
    calibration_error,
    collapsed,
    evaluate,
    logits_of,
)


def module(**changes: Any) -> Classifier:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    return Classifier(backbone, **(dict(learning_rate=1e-2, steps=10) | changes))


def random_logits(images: int = 500, classes: int = 10, *, skill: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    labels = torch.randint(classes, (images,), generator=generator)
    return torch.randn(images, classes, generator=generator) + skill * F.one_hot(labels, classes), labels


def test_accuracies_count_images() -> None:
    logits, labels = random_logits()
    order = logits.argsort(1, descending=True).numpy()
    hits = order == labels.numpy()[:, None]
    found = evaluate(logits, labels)
    assert found["top1"] == hits[:, 0].sum() / 500
    assert found["top5"] == hits[:, :5].any(1).sum() / 500


def test_macro_f1_and_recalls_follow_their_definitions() -> None:
    logits, labels = random_logits(300, 4, skill=1.0)
    predicted, truth = logits.argmax(1).numpy(), labels.numpy()
    f1, recall = [], []
    for k in range(4):
        hit = ((predicted == k) & (truth == k)).sum()
        f1.append(2 * hit / ((predicted == k).sum() + (truth == k).sum()))
        recall.append(hit / (truth == k).sum())
    found = evaluate(logits, labels)
    assert found["macro_f1"] == pytest.approx(np.mean(f1), abs=1e-6)
    assert found["per_class"] == pytest.approx(recall, abs=1e-6)


def test_top5_is_left_out_where_it_means_nothing() -> None:
    assert evaluate(*random_logits(50, 5))["top5"] is None
    assert evaluate(*random_logits(50, 6))["top5"] is not None


def test_a_class_without_test_images_has_no_recall() -> None:
    logits, labels = random_logits(60, 4)
    assert evaluate(logits, labels.clamp(max=2))["per_class"][3] is None


def calibration_oracle(probabilities: Tensor, labels: Tensor) -> float:
    """Guo et al. 2017, equation 3: bins ((m-1)/M, m/M], the last one holding a confidence of exactly 1."""
    confidence, predicted = (a.numpy() for a in probabilities.max(1))
    correct = predicted == labels.numpy()
    error = 0.0
    for m in range(CALIBRATION_BINS):
        low, high = m / CALIBRATION_BINS, (m + 1) / CALIBRATION_BINS
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return error


def test_calibration_error_follows_the_paper() -> None:
    logits, labels = random_logits(1000)
    assert calibration_error(logits.softmax(1), labels) == pytest.approx(
        calibration_oracle(logits.softmax(1), labels), abs=1e-5
    )


def test_a_confidence_of_exactly_one_shares_the_last_bin() -> None:
    # one bin: 0.5 right at a mean confidence of 0.985, an error of 0.485. A bin of its own for 1.0 would give 0.515:
    # half of |0 - 1.0| and half of |1 - 0.97|.
    probabilities = torch.tensor([[1.0, 0.0], [0.97, 0.03]])
    labels = torch.tensor([1, 0])
    assert calibration_error(probabilities, labels) == pytest.approx(0.485, abs=1e-4)


def test_loss_is_the_mean_negative_log_likelihood() -> None:
    logits, labels = random_logits(64)
    expected = -logits.double().log_softmax(1)[torch.arange(64), labels].mean().item()
    assert evaluate(logits, labels)["loss"] == pytest.approx(expected)


def test_collapse_is_one_class_or_logits_that_do_not_vary() -> None:
    logits, _ = random_logits(100, 4)
    assert not collapsed(logits)
    one = logits.clone()
    one[:96, 2] += 100
    assert collapsed(one)
    one[:10] = logits[:10]
    one[:10, 2] -= 100
    assert not collapsed(one)  # 86 of 100 in one class is a poor model, not a collapsed one
    assert collapsed(logits[:1].expand(100, -1))


def test_step_is_cross_entropy_of_classes_and_of_mixtures() -> None:
    made = module()
    images, labels = torch.randn(5, 3, 2, 2), torch.tensor([0, 1, 2, 1, 0])
    by_class = made.training_step((images, labels), 0)
    by_mixture = made.training_step((images, F.one_hot(labels, 3).float()), 0)
    torch.testing.assert_close(by_class, by_mixture)


def test_label_smoothing_moves_the_target() -> None:
    images, labels = torch.randn(5, 3, 2, 2), torch.tensor([0, 1, 2, 1, 0])
    made = module(label_smoothing=0.3)
    soft = 0.7 * F.one_hot(labels, 3) + 0.3 / 3
    expected = -(soft * made.backbone(images).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(made.training_step((images, labels), 0), expected)


def test_a_run_hands_its_layer_decay_on() -> None:
    run = Run(dataset="d", backbone="vit_micro", size=1, learning_rate=1e-3, layer_decay=0.5)
    backbone = create("vit_micro", image_size=8, channels=1, classes=3)
    made = Classifier.from_run(run, backbone, steps=10).configure_optimizers()["optimizer"]
    rate = {id(p): group["initial_lr"] for group in made.param_groups for p in group["params"]}
    parts = (backbone.head, backbone.blocks[-1].mlp.fc1, backbone.blocks[0].mlp.fc1, backbone.patch_embed.proj)
    rates = [rate[id(part.weight)] for part in parts]
    assert rates[0] == 1e-3
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 4


def test_with_a_moving_average_its_weights_count() -> None:
    made = module(ema=0.5)
    images = torch.randn(2, 3, 2, 2)
    for value in (1.0, 3.0):
        made.backbone[1].weight.data.fill_(value)
        made.update_ema()
    assert made.trained is not made.backbone
    assert made.trained[1].weight.unique().tolist() == [2.0]
    torch.testing.assert_close(made(images), made.trained(images))


def test_logits_are_read_in_evaluation_mode_and_the_mode_comes_back() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(12, 3)).train()
    batches = [(torch.ones(2, 3, 2, 2), torch.tensor([0, 1])), (torch.ones(1, 3, 2, 2), torch.tensor([2]))]
    logits, labels = logits_of(model, batches)
    assert labels.tolist() == [0, 1, 2]
    assert logits.shape == (3, 3)
    torch.testing.assert_close(logits[0], logits[2])  # dropout off: equal images, equal logits
    assert model.training
