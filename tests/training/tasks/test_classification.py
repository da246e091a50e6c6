"""Metrics against arithmetic from their definitions, and evaluation on the right images at the right time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from bias_lab import catalogue, ledger
from bias_lab.backbones import create
from bias_lab.data import store
from bias_lab.definition import Ladder, Run, run_id
from bias_lab.planning import ladder
from bias_lab.training.protocols.finetune import Classifier
from bias_lab.training.tasks.classification import (
    CALIBRATION_BINS,
    Classification,
    calibration_error,
    collapsed,
    evaluate,
    logits_of,
    save_predictions,
)
from tests.training.runs import RUN, finished


def test_metrics_are_those_of_the_saved_weights_on_the_test_split(tmp_path: Path) -> None:
    folder, result = tmp_path, finished(RUN, tmp_path)
    here = ledger.run_folder(folder, run_id(RUN))
    model = create(RUN.backbone, image_size=28, channels=1, classes=10)
    model.load_state_dict(load_file(here / ledger.WEIGHTS), strict=True)
    model.eval()
    images = store.open_images(RUN.dataset, image_size=None, data_root=None, place=None)
    x = torch.from_numpy(np.array(images.test)).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(images.mean).view(1, -1, 1, 1)) / torch.tensor(images.std).view(1, -1, 1, 1)
    with torch.no_grad():
        predicted = model(x).argmax(1).numpy()
    saved = pd.read_parquet(here / ledger.PREDICTIONS)
    assert (saved["predicted"].to_numpy() == predicted).mean() > 0.999  # sums in another order may turn a tie
    assert (saved["label"].to_numpy() == images.test_labels).all()
    assert result["metrics"]["top1"] == pytest.approx((predicted == images.test_labels).mean(), abs=1e-3)
    assert result["metrics"]["top1"] == (saved["label"] == saved["predicted"]).mean()


def test_test_images_are_read_after_the_last_step_and_once(tmp_path: Path, monkeypatch) -> None:
    events: list[str] = []
    images, step = Classification.evaluation_images, Classifier.training_step
    monkeypatch.setattr(Classification, "evaluation_images", lambda *a: events.append("test") or images(*a))
    monkeypatch.setattr(Classifier, "training_step", lambda *a: events.append("step") or step(*a))
    finished(RUN, tmp_path)
    assert events == ["step"] * 20 + ["test"]


def test_tuning_is_evaluated_on_the_holdout_and_never_reads_test_images(tmp_path: Path, monkeypatch) -> None:
    run = replace(RUN, task="tune", draw=1000, seed=1000)
    real = store.open_images

    def without_test(*arguments: Any, **options: Any) -> Any:
        images = real(*arguments, **options)
        return replace(images, test=Forbidden(), test_labels=images.test_labels)

    monkeypatch.setattr(store, "open_images", without_test)
    result = finished(run, tmp_path)
    assert 0 <= result["metrics"]["top1"] <= 1
    assert not (ledger.run_folder(tmp_path, run_id(run)) / ledger.PREDICTIONS).exists()
    with pytest.raises(AssertionError, match="a test image was read"):  # the same guard catches a planted leak
        finished(RUN, tmp_path)


def settled_budget(folder: Path) -> tuple[int, int]:
    """Search the budget of a small cell with real trials. Return it and the number of trials."""
    cell = replace(RUN, samples_seen=None, learning_rate=None)
    how = Ladder(first=32, cap=64, rates=(1e-3, 3e-3))
    scores: dict[str, float] = {}
    done: list[Run] = []
    while missing := ladder.explore((cell,), how, lambda run: scores[run_id(run)])[0].missing:
        for run in missing:
            scores[run_id(run)] = finished(run, folder)["metrics"]["top1"]
        done += missing
    return ladder.choose(done, scores)[0]["samples_seen"], len(done)


@pytest.mark.slow
def test_a_budget_is_chosen_without_a_test_image_and_a_planted_leak_is_caught(tmp_path: Path, monkeypatch) -> None:
    real = store.open_images

    def without_test(*arguments: Any, **options: Any) -> Any:
        images = real(*arguments, **options)
        return replace(images, test=Forbidden(), test_labels=images.test_labels)

    monkeypatch.setattr(store, "open_images", without_test)
    budget, trials = settled_budget(tmp_path / "sound")
    assert budget in (32, 64)
    assert trials >= 7, "rates at one budget, then three replicates of two budgets"
    trial = catalogue.TASKS["classify"].trials
    leak = replace(catalogue.TASKS[trial], evaluated_on="test")  # the budget would be chosen on test images
    monkeypatch.setitem(catalogue.TASKS, trial, leak)
    with pytest.raises(AssertionError, match="a test image was read"):
        settled_budget(tmp_path / "leak")


class Forbidden:
    """Stands in for the test images and raises when one is read."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("a test image was read")

    def __len__(self) -> int:
        raise AssertionError("a test image was read")

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("a test image was read")


def test_predictions_are_a_row_an_image_in_index_order(tmp_path: Path) -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    save_predictions(logits, torch.tensor([0, 0, 1]), tmp_path / "p.parquet")
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert table[["index", "label", "predicted"]].to_numpy().tolist() == [[0, 0, 0], [1, 0, 1], [2, 1, 0]]
    assert table["confidence"].to_numpy() == pytest.approx([1 / (1 + np.exp(-d)) for d in (2, 1, 3)], abs=1e-6)


def random_logits(images: int = 500, classes: int = 10, *, skill: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    labels = torch.randint(classes, (images,), generator=generator)
    return torch.randn(images, classes, generator=generator) + skill * F.one_hot(labels, classes), labels


def test_accuracies_count_images() -> None:
    logits, labels = random_logits()
    order = logits.argsort(1, descending=True).numpy()
    hits = order == labels.numpy()[:, None]
    metrics = evaluate(logits, labels)
    assert metrics["top1"] == hits[:, 0].sum() / 500
    assert metrics["top5"] == hits[:, :5].any(1).sum() / 500


def test_the_majority_is_what_a_constant_prediction_of_the_largest_class_reaches() -> None:
    labels = torch.tensor([0, 2, 2, 2, 1])
    constant = F.one_hot(torch.full((5,), 2), 4).double()
    metrics = evaluate(constant, labels)
    assert metrics["majority"] == metrics["top1"] == 0.6


def test_macro_f1_and_recalls_follow_their_definitions() -> None:
    logits, labels = random_logits(300, 4, skill=1.0)
    predicted, truth = logits.argmax(1).numpy(), labels.numpy()
    f1, recall = [], []
    for k in range(4):
        hit = ((predicted == k) & (truth == k)).sum()
        f1.append(2 * hit / ((predicted == k).sum() + (truth == k).sum()))
        recall.append(hit / (truth == k).sum())
    metrics = evaluate(logits, labels)
    assert metrics["macro_f1"] == pytest.approx(np.mean(f1), abs=1e-6)
    assert metrics["per_class"] == pytest.approx(recall, abs=1e-6)


def test_top5_is_left_out_where_it_means_nothing() -> None:
    assert evaluate(*random_logits(50, 5))["top5"] is None
    assert evaluate(*random_logits(50, 6))["top5"] is not None


def test_a_class_without_test_images_has_no_recall() -> None:
    logits, labels = random_logits(60, 4)
    assert evaluate(logits, labels.clamp(max=2))["per_class"][3] is None


def calibration_oracle(probabilities: Tensor, labels: Tensor) -> float:
    """Return Guo et al. 2017, equation 3: bins ((m-1)/M, m/M], of which the last holds a confidence of exactly 1."""
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
    # In one bin half are right at a mean confidence of 0.985, an error of 0.485. With a bin of its own for 1.0 it would
    # be half of |0 - 1.0| and half of |1 - 0.97|, which is 0.515.
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


def test_logits_are_read_in_evaluation_mode_and_the_mode_comes_back() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(12, 3)).train()
    batches = [(torch.ones(2, 3, 2, 2), torch.tensor([0, 1])), (torch.ones(1, 3, 2, 2), torch.tensor([2]))]
    logits, labels = logits_of(model, batches)
    assert labels.tolist() == [0, 1, 2]
    assert logits.shape == (3, 3)
    torch.testing.assert_close(logits[0], logits[2])  # without dropout equal images have equal logits
    assert model.training
