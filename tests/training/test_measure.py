"""Metrics are those of the saved weights on the test split, which is read after the last step and once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from bias_lab import ledger
from bias_lab.backbones import create
from bias_lab.data import store
from bias_lab.definition import run_id
from bias_lab.training.classification import Classifier
from bias_lab.training.job import Job
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
    told: list[str] = []
    real = Job.judged
    step = Classifier.training_step
    monkeypatch.setattr(Job, "judged", lambda self: told.append("test") or real(self))
    monkeypatch.setattr(Classifier, "training_step", lambda *a: told.append("step") or step(*a))
    finished(RUN, tmp_path)
    assert told == ["step"] * 20 + ["test"]


def test_tuning_is_judged_on_the_holdout_and_never_sees_test(tmp_path: Path, monkeypatch) -> None:
    run = replace(RUN, task="tune", draw=1000, seed=1000)
    real = store.open_images

    def without_test(*arguments: Any, **options: Any) -> Any:
        images = real(*arguments, **options)
        return replace(images, test=Forbidden(), test_labels=images.test_labels)

    monkeypatch.setattr(store, "open_images", without_test)
    result = finished(run, tmp_path)
    assert 0 <= result["metrics"]["top1"] <= 1
    assert not (ledger.run_folder(tmp_path, run_id(run)) / ledger.PREDICTIONS).exists()
    with pytest.raises(AssertionError, match="a test image was read"):  # the planted leak: the same guard catches it
        finished(RUN, tmp_path)


class Forbidden:
    """Stands in for the test images: whoever reads one is found out."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("a test image was read")

    def __len__(self) -> int:
        raise AssertionError("a test image was read")

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("a test image was read")
