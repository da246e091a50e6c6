"""A run made concrete: its starting weights, its normalisation, and the images that tuning may see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bias_lab import ledger
from bias_lab.data.masks import drawn, pairs
from bias_lab.data.readers import pixel_store
from bias_lab.data.subsets import Selection
from bias_lab.definition import Run, run_id
from bias_lab.errors import UserError
from bias_lab.training.execute import execute
from bias_lab.training.prepare import prepare, select_images, subset_hash
from tests.training.runs import QUIET, RUN, finished
from tests.training.tiny import tiny


def test_a_size_that_reaches_into_the_holdout_cannot_be_tuned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reaches into the hold-out"):
        execute(replace(RUN, task="tune", size=9500, samples_seen=8), tmp_path, QUIET)


def test_pretraining_is_shared_and_its_encoder_is_the_start(tmp_path: Path) -> None:
    before = replace(
        RUN,
        backbone="vit_micro",
        task="pretrain",
        regime="mae",
        source="pool",
        size=0,
        samples_seen=4 * 16,
        batch_size=16,
    )
    result = finished(before, tmp_path)
    assert result["metrics"]["loss"] > 0
    assert not (ledger.run_folder(tmp_path, run_id(before)) / ledger.PREDICTIONS).exists()
    after = replace(RUN, backbone="vit_micro", regime="mae", source="pool", pretraining=run_id(before), samples_seen=8)
    started = finished(after, tmp_path)["weights"]
    assert started["name"] == run_id(before)
    assert "blocks.0.attn.qkv.weight" in started["loaded"]
    assert not [name for name in started["skipped"] if not name.startswith("head")]


def test_weights_from_a_file_start_a_run_and_bring_their_normalisation(tmp_path: Path) -> None:
    run = replace(RUN, regime="weights", weights="file:0", source="file:0", samples_seen=8)
    path = tmp_path / "colour.safetensors"
    tensors = {**tiny(num_classes=5, in_chans=3).state_dict(), "gate": torch.ones(3)}
    save_file(tensors, path, metadata={"timm_model": "tf_efficientnet_lite0"})  # whose mean and std are 0.5
    ledger.write_json(tmp_path / ledger.PLACES, {"file:0": {"path": str(path)}})
    result = finished(run, tmp_path)
    assert result["weights"] == {
        "name": "file:0",
        "loaded": ["conv.bias"],
        "resampled": ["conv.weight"],  # three channels' sum for the grey images
        "skipped": ["gate", "head.bias", "head.weight"],
        "missing": ["head.bias", "head.weight"],
        "set": "",
    }
    assert (result["facts"]["mean"], result["facts"]["std"]) == ([0.5], [0.5])
    job = prepare(run, tmp_path, QUIET)
    torch.testing.assert_close(job.method.backbone.conv.weight, tensors["conv.weight"].sum(1, keepdim=True))
    shown = next(iter(job.eval_loader(job.examples.images, job.examples.labels)))[0]
    assert (shown.min(), shown.max()) == (-1, pytest.approx(1))  # black and white


def test_a_pretraining_that_is_not_finished_is_named(tmp_path: Path) -> None:
    run = replace(RUN, backbone="vit_micro", regime="mae", source="pool", pretraining="0123456789ab")
    with pytest.raises(UserError, match="0123456789ab is not finished"):
        execute(run, tmp_path, QUIET)


def test_subset_hash_follows_images_and_labels_in_order() -> None:
    def hashed(indices: list[int], labels: list[int]) -> str:
        return subset_hash(Selection(np.array(indices), np.array(labels), None))

    assert hashed([1, 2], [0, 1]) == hashed([1, 2], [0, 1])
    assert len({hashed([1, 2], [0, 1]), hashed([2, 1], [0, 1]), hashed([1, 2], [1, 0]), hashed([1, 3], [0, 1])}) == 4


def test_a_selection_of_images_with_masks_has_their_masks(tmp_path: Path) -> None:
    raw = drawn.dataset(20, 5, (12, 12))
    images = pixel_store.open_or_build(tmp_path, "k", lambda: pairs.content("mine", raw, (12, 12), 3))
    run = Run(dataset="mine", backbone="vit_micro", task="segment", size=6)
    chosen = select_images(run, images, tmp_path)
    assert np.array_equal(chosen.labels, images.train_labels[chosen.indices])
    moved = replace(chosen, labels=np.roll(chosen.labels, 1, axis=2))
    assert subset_hash(chosen) != subset_hash(moved)
