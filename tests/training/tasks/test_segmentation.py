"""Runs with masks: what they keep, that scores follow from it, and that encoders carry over."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import bias_lab as bl
from bias_lab import ledger, rows
from bias_lab.data import store
from bias_lab.definition import Run, run_id
from bias_lab.errors import UserError
from bias_lab.training.prepare import prepare
from bias_lab.training.tasks import mask_scores, segmentation
from bias_lab.training.weights.files import read_safetensors
from tests.training.runs import QUIET, finished, interrupted, same_bytes

CLASSES = 5
RUN = Run(
    dataset="shape_masks", backbone="vit_micro", task="segment", image_size=24, patch=4, size=20, samples_seen=20 * 8,
    batch_size=8, learning_rate=3e-3,
)  # fmt: skip


def test_scores_follow_from_the_stored_maps_and_from_the_table_alone(tmp_path: Path) -> None:
    metrics, here = finished(RUN, tmp_path)["metrics"], ledger.run_folder(tmp_path, run_id(RUN))
    truth = torch.from_numpy(np.array(store.open_images("shape_masks", image_size=24).test_labels)).long()
    table = pd.read_parquet(here / ledger.PREDICTIONS)
    assert list(table) == ["index", "predicted", "scores"]
    assert table["index"].tolist() == list(range(len(truth)))
    images = [Image.open(io.BytesIO(png)) for png in table["predicted"]]
    assert {(image.mode, image.format) for image in images} == {("L", "PNG")}
    predicted = torch.from_numpy(np.stack([np.asarray(image) for image in images])).long()
    counts = mask_scores.count(predicted, truth, CLASSES)
    assert metrics["miou"] == mask_scores.miou(counts)
    right, known = mask_scores.pixel_accuracy(predicted, truth)
    assert metrics["pixel_accuracy"] == right / known
    f1 = mask_scores.boundary_f1(predicted, truth, CLASSES).nanmean(1).nanmean().item()
    assert metrics["boundary_f1"] == pytest.approx(f1, abs=1e-12)

    loaded = bl.load(here)
    mine = loaded.predictions()
    assert np.array_equal(np.stack(mine["predicted"].to_list()), predicted.numpy())
    assert np.array_equal(np.stack(mine["scores"].to_list()), counts)

    row = bl.open_results(tmp_path).table.iloc[0]
    unpacked = rows.unpack_scores(row["scores"], int(row["classes"]))
    assert unpacked.shape == (row["test_images"], CLASSES, 2)
    assert np.array_equal(unpacked, counts)
    totals = unpacked.sum(0)
    assert row["miou"] == pytest.approx((totals[:, 0] / totals[:, 1])[totals[:, 1] > 0].mean())
    assert row["correct"] is None
    assert (row["task"], row["head"], row["head_parameters"]) == ("segment", "", 96 * CLASSES + CLASSES)
    assert pd.isna(row["top1"])


def test_metrics_are_those_of_the_saved_weights(tmp_path: Path) -> None:
    run = replace(RUN, backbone="resnet_micro", head="matched", patch=None, image_width=32)
    found, here = finished(run, tmp_path), ledger.run_folder(tmp_path, run_id(run))
    loaded = bl.load(here)
    images = store.open_images("shape_masks", image_size=24, image_width=32)
    x = torch.from_numpy(np.array(images.test)).movedim(-1, 1) / 255 - torch.tensor(loaded.mean)[:, None, None]
    logits = [loaded.model(part / torch.tensor(loaded.std)[:, None, None]) for part in x.float().split(50)]
    predicted = torch.cat(logits).argmax(1)
    truth = torch.from_numpy(np.array(images.test_labels)).long()
    assert mask_scores.miou(mask_scores.count(predicted, truth, CLASSES)) == pytest.approx(
        found["metrics"]["miou"], abs=2e-3
    )
    assert (found["facts"]["image_size"], found["facts"]["image_width"]) == (24, 32)
    assert loaded.predictions()["predicted"][0].shape == (24, 32)


def test_an_interrupted_run_ends_in_the_same_bytes(tmp_path: Path, monkeypatch) -> None:
    run = replace(RUN, ema=0.9)
    finished(run, tmp_path / "whole")
    interrupted(run, tmp_path / "cut", monkeypatch, 9)
    finished(run, tmp_path / "cut")
    same_bytes(tmp_path / "whole", tmp_path / "cut", run)


def test_tuning_is_evaluated_on_the_holdout_and_never_reads_test_masks(tmp_path: Path, monkeypatch) -> None:
    opened = store.open_images

    def without_test(*arguments: Any, **options: Any) -> Any:
        images = opened(*arguments, **options)
        return replace(images, test=images.test[:0], test_labels=images.test_labels[:0])

    monkeypatch.setattr(store, "open_images", without_test)
    run = replace(RUN, task="tune_segment", draw=1000, seed=1000, monitor=2)
    found = finished(run, tmp_path)
    assert found["metrics"]["miou"] == found["metrics"]["holdout_miou"]
    assert not (ledger.run_folder(tmp_path, run_id(run)) / ledger.PREDICTIONS).exists()


def test_a_dataset_without_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fashion_mnist_12k has a class for each image and no masks"):
        prepare(replace(RUN, dataset="fashion_mnist_12k", image_size=None), tmp_path, QUIET)


@pytest.mark.parametrize(
    ("regime", "source", "backbone"),
    [
        ("mae", "pool", "vit_micro"),
        ("simmim", "subset", "resnet_micro"),
        ("dino", "pool", "swin_micro"),
        ("formula", "fractals", "mobilevit_micro"),
    ],
)
def test_an_encoder_carries_over(tmp_path: Path, regime: str, source: str, backbone: str) -> None:
    patch = 4 if backbone in ("vit_micro", "swin_micro") else None
    plain = replace(RUN, backbone=backbone, image_width=32, patch=patch)
    before = replace(plain, task="pretrain", regime=regime, source=source, samples_seen=16)
    finished(before, tmp_path)
    run = replace(plain, regime=regime, source=source, pretraining=run_id(before))
    job = prepare(run, tmp_path, QUIET)
    weights = read_safetensors(ledger.run_folder(tmp_path, run_id(before)) / ledger.WEIGHTS).tensors
    encoder: Any = job.method
    own = encoder.backbone.encoder.state_dict()
    assert own
    assert all(torch.equal(value.cpu(), weights[name]) for name, value in own.items())


def test_collapse_is_one_class_for_every_pixel_where_there_are_others() -> None:
    one, two = np.zeros((2, 2), np.uint8), np.array([[0, 1], [0, 0]], np.uint8)
    truth = torch.from_numpy(two)[None].long()

    def table(predicted: np.ndarray) -> np.ndarray:
        return mask_scores.count(torch.from_numpy(predicted)[None].long(), truth, 3)

    assert segmentation.collapsed([one], table(one))
    assert not segmentation.collapsed([two], table(two))
    alone = mask_scores.count(torch.zeros(1, 2, 2).long(), torch.zeros(1, 2, 2).long(), 3)
    assert not segmentation.collapsed([one], alone)


def test_few_images_at_a_time_are_scored_as_all_at_once() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(40, CLASSES, 12, 12), torch.randint(0, CLASSES, (40, 12, 12))
    whole, parts = segmentation.Evaluation(), segmentation.Evaluation()
    whole.add(logits, masks)
    for few, theirs in zip(logits.split(7), masks.split(7), strict=True):
        parts.add(few, theirs)
    one, other = whole.metrics(), parts.metrics()
    assert one.pop("loss") == pytest.approx(other.pop("loss"))
    assert one == other
