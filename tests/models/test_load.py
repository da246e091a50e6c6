"""A finished run's folder comes back as the model that made its predictions."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from bias_lab import ledger
from bias_lab.data import batches, store, subsets
from bias_lab.definition import Run, run_id
from bias_lab.errors import UserError
from bias_lab.models.load import Loaded, load
from bias_lab.training.protocols import frozen
from bias_lab.training.tasks.classification import logits_of
from bias_lab.training.weights.files import read_safetensors
from tests.training.runs import RUN, finished

VIT = replace(RUN, backbone="vit_micro")


def outputs(loaded: Loaded, part: str = "test") -> tuple[Tensor, Tensor]:
    """Return the model's outputs (M, ...) and the labels (M,) of the test images, or of the run's `subset`."""
    run = loaded.run
    images = store.open_images(run.dataset, image_size=None, data_root=None, place=None)
    pixels, labels = images.test, images.test_labels
    if part == "subset":
        selection = subsets.select(run, images.train_labels, images.fingerprint, ranking=None)
        pixels, labels = store.part(images.train, selection.indices), selection.labels
    return logits_of(loaded.model, batches.eval_loader(pixels, labels, run, mean=loaded.mean, std=loaded.std))


@pytest.mark.parametrize(
    "run",
    [
        RUN,
        replace(RUN, ema=0.9),
        replace(VIT, drop_path=0.1),
        replace(VIT, protocol="linear_probe"),
        replace(VIT, priors="mean_pooling+sincos_positions"),
        replace(VIT, backbone="resnet_micro", priors="no_batch_norm"),
        replace(VIT, backbone="mlp_micro"),
        replace(VIT, backbone="pixels", protocol="linear_probe"),
    ],
    ids=["own", "moving average", "drop path", "linear probe", "two priors", "no batch norm", "mlp", "pixels"],
)
def test_a_loaded_model_makes_the_predictions_of_its_run(tmp_path: Path, run: Run) -> None:
    result = finished(run, tmp_path)
    loaded = load(str(ledger.run_folder(tmp_path, run_id(run))))
    assert (loaded.run, loaded.metrics, len(loaded.classes), loaded.image_size) == (run, result["metrics"], 10, 28)
    assert not loaded.model.training
    logits, labels = outputs(loaded)
    saved = pd.read_parquet(ledger.run_folder(tmp_path, run_id(run)) / ledger.PREDICTIONS)
    assert (saved["predicted"].to_numpy() == logits.argmax(1).numpy()).all()
    torch.testing.assert_close(logits.softmax(1).amax(1), torch.tensor(saved["confidence"].to_numpy()))
    assert (logits.argmax(1) == labels).double().mean().item() == loaded.metrics["top1"]


def test_knn_gives_features_from_which_its_predictions_follow(tmp_path: Path) -> None:
    run = replace(VIT, protocol="knn")
    finished(run, tmp_path)
    loaded = load(ledger.run_folder(tmp_path, run_id(run)))
    assert loaded.classes == ()
    features, _ = outputs(loaded)
    assert features.shape[1] == loaded.model.num_features
    saved = pd.read_parquet(ledger.run_folder(tmp_path, run_id(run)) / ledger.PREDICTIONS)
    logits = frozen.knn(*outputs(loaded, "subset"), features, classes=10)
    assert (saved["predicted"].to_numpy() == logits.argmax(1).numpy()).all()


def test_a_pretraining_gives_its_encoder(tmp_path: Path) -> None:
    run = replace(VIT, task="pretrain", regime="mae", source="pool", size=0, samples_seen=16)
    finished(run, tmp_path)
    loaded = load(ledger.run_folder(tmp_path, run_id(run)))
    tensors = read_safetensors(ledger.run_folder(tmp_path, run_id(run)) / ledger.WEIGHTS).tensors
    assert loaded.classes == ()
    assert set(loaded.model.state_dict()) == set(tensors)
    assert all(torch.equal(value, tensors[name]) for name, value in loaded.model.state_dict().items())
    assert loaded.model(torch.zeros(2, 1, 28, 28)).shape == (2, 96)


def test_a_folder_without_a_result(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the folder of a finished run: it has no result.json; give FOLDER/runs"):
        load(tmp_path)
    ledger.write_json(tmp_path / ledger.FAILURE, {"reason": "diverged"})
    with pytest.raises(UserError, match="finished run: the run failed"):
        load(tmp_path)


def test_weights_of_another_shape_or_damaged(tmp_path: Path) -> None:
    finished(RUN, tmp_path)
    here = ledger.run_folder(tmp_path, run_id(RUN))
    changed = ledger.read_json(here / ledger.RUN) | {"backbone": "vit_micro"}
    ledger.write_json(here / ledger.RUN, changed)
    with pytest.raises(UserError, match="weights.safetensors does not fit VisionTransformer: cls_token, pos_embed"):
        load(here)
    (here / ledger.WEIGHTS).write_bytes(b"\x10")
    with pytest.raises(UserError, match="is not a whole .safetensors file"):
        load(here)


def test_a_probe_that_could_not_be_stored(tmp_path: Path) -> None:
    run = replace(RUN, protocol="linear_probe")
    ledger.write_json(tmp_path / ledger.RUN, {"dataset": run.dataset, "backbone": "tests.training.tiny:maps",
                                              "protocol": "linear_probe", "size": 20})  # fmt: skip
    facts = {"class_names": ["a", "b"], "image_size": 28, "mean": [0.5], "std": [0.5]}
    ledger.write_json(tmp_path / ledger.RESULT, {"metrics": {}, "facts": facts})
    with pytest.raises(UserError, match="holds no classifier: that of tests.training.tiny:maps is not linear"):
        load(tmp_path)


def test_the_transform_gives_the_images_that_the_run_was_evaluated_on(tmp_path: Path) -> None:
    finished(RUN, tmp_path)
    loaded = load(ledger.run_folder(tmp_path, run_id(RUN)))
    images = store.open_images(RUN.dataset, image_size=None, data_root=None, place=None)
    served = next(iter(batches.eval_loader(images.test, images.test_labels, RUN, mean=loaded.mean, std=loaded.std)))[0]
    assert torch.equal(loaded.transform(images.test[5]), served[5])
    assert torch.equal(loaded.transform(Image.fromarray(images.test[5][..., 0])), served[5])
    wide = Image.new("RGB", (90, 60), "white")
    assert loaded.transform(wide).shape == (1, 28, 28)


def test_timm_reads_the_run_s_statistics(tmp_path: Path) -> None:
    finished(RUN, tmp_path)
    loaded = load(ledger.run_folder(tmp_path, run_id(RUN)))
    config = timm.data.resolve_data_config(model=loaded.model)
    assert (config["input_size"], config["mean"], config["std"]) == ((1, 28, 28), loaded.mean, loaded.std)
    assert config["crop_pct"] == 1
