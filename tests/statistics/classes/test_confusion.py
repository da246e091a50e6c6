"""Confusion matrix, recall, precision and their intervals, against oracles; images that most runs get wrong."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_precision,
    multiclass_recall,
)

from bias_lab.statistics.classes.confusion import confusion, most_wrong, per_class, wilson

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 5, 200)
PREDICTED = np.where(RANDOM.random((3, 200)) < 0.6, LABELS, RANDOM.integers(0, 5, (3, 200)))


def test_the_matrix_is_the_sum_of_those_of_the_runs() -> None:
    expected = sum(
        multiclass_confusion_matrix(torch.from_numpy(one), torch.from_numpy(LABELS), 5).numpy() for one in PREDICTED
    )
    assert (confusion(LABELS, PREDICTED, 5) == expected).all()
    assert (confusion(LABELS, PREDICTED, 5) != confusion(LABELS, PREDICTED, 5).T).any()  # rows are the truth


def test_recall_and_precision_are_those_of_torchmetrics() -> None:
    table = per_class(LABELS, PREDICTED, 5)
    one = torch.from_numpy(PREDICTED).flatten(), torch.from_numpy(np.tile(LABELS, 3))
    assert table["recall"].to_numpy() == pytest.approx(multiclass_recall(*one, 5, average="none").numpy())
    assert table["precision"].to_numpy() == pytest.approx(multiclass_precision(*one, 5, average="none").numpy())
    assert table["images"].tolist() == np.bincount(LABELS).tolist()


def test_an_interval_is_wilson_s_and_an_image_counts_once() -> None:
    table = per_class(LABELS[None, :][0], PREDICTED[:1], 5)
    right = int(((PREDICTED[0] == 2) & (LABELS == 2)).sum())
    expected = binomtest(right, int((LABELS == 2).sum())).proportion_ci(0.95, method="wilson")
    assert (table["recall_low"][2], table["recall_high"][2]) == pytest.approx((expected.low, expected.high))
    thrice = per_class(LABELS, np.repeat(PREDICTED[:1], 3, 0), 5)  # three equal runs tell no more than one
    assert thrice["recall_low"].to_numpy() == pytest.approx(table["recall_low"].to_numpy())
    low, high = wilson(np.array([0.0, 1.0]), np.array([10.0, 10.0]))
    assert low[0] == 0
    assert high[1] == pytest.approx(1)
    assert 0.2 < high[0] < 0.4


def test_a_class_without_test_images_or_without_predictions() -> None:
    table = per_class(np.array([0, 0, 1]), np.array([[0, 0, 0]]), 3)
    assert table["images"].tolist() == [2, 1, 0]
    assert table["recall"].tolist()[:2] == [1, 0]
    assert math.isnan(table["recall"][2])
    assert table["precision"].tolist()[0] == pytest.approx(2 / 3)
    assert math.isnan(table["precision"][1])
    assert table["next"].tolist() == [-1, 0, -1]


def test_the_worst_images_come_first_and_those_on_which_the_wrong_agree() -> None:
    labels = np.array([0, 0, 0, 1])
    predicted = np.array([[0, 1, 1, 1], [0, 2, 1, 0], [0, 1, 1, 1]])
    table = most_wrong(labels, predicted, 9)
    assert table["index"].tolist() == [2, 1, 3]
    assert table["wrong"].tolist() == [3, 3, 1]
    assert table["guess"].tolist() == [1, 1, 0]
    assert table["agree"].tolist() == [3, 2, 1]
    assert len(most_wrong(labels, predicted, 2)) == 2
    assert most_wrong(labels, np.tile(labels, (2, 1)), 9).empty
