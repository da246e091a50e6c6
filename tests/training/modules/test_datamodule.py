"""The lab's modules and batches under a stock Trainer: equal bytes with a sweep, any callback, and foreign modules."""

import csv
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import bias_lab as bl
from bias_lab import ledger
from bias_lab.catalogue import REGIMES
from bias_lab.definition import Run, run_id
from bias_lab.errors import UserError
from bias_lab.training.modules.datamodule import DataModule
from bias_lab.training.protocols.finetune import Classifier
from bias_lab.training.regimes.dino import DINO
from bias_lab.training.regimes.mae import MAE
from bias_lab.training.regimes.simmim import SimMIM
from tests.training.runs import RUN, finished

SMALL = dict(backbone="tests.training.tiny:tiny", classes=10, channels=1, image_size=28)
PRETRAINERS = [(MAE, "vit_micro"), (SimMIM, "resnet_micro"), (DINO, "vit_micro")]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Leave out what Lightning says of this machine and of folders that exist already."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "GPU available|.*does not have many workers|.*exists and is not empty")
        yield


def trainer(folder: Path, **options: Any) -> Trainer:
    quiet = dict(
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    return Trainer(**(quiet | dict(logger=False, enable_checkpointing=False) | options))


def weights_of(folder: Path, run: Run) -> dict[str, Tensor]:
    return load_file(ledger.run_folder(folder, run_id(run)) / ledger.WEIGHTS)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


VIT = replace(RUN, backbone="vit_micro")
MASKS = Run(
    dataset="shape_masks", backbone="vit_micro", task="segment", size=12, image_size=24, patch=8, batch_size=4,
    samples_seen=80, learning_rate=1e-3, clip=0.1, ema=0.9,
)  # fmt: skip
HARD = replace(RUN, drop_path=0.2, mixup=0.2, ema=0.9, clip=0.1, monitor=3)


@pytest.mark.parametrize(
    "run",
    [
        HARD,
        pytest.param(replace(VIT, task="pretrain", regime="mae", source="pool", size=0), marks=pytest.mark.slow),
        pytest.param(replace(VIT, task="pretrain", regime="dino", source="subset"), marks=pytest.mark.slow),
        pytest.param(replace(VIT, task="pretrain", regime="simmim", source="subset"), marks=pytest.mark.slow),
        pytest.param(replace(VIT, optimizer="muon", precision="bf16", clip=0.1), marks=pytest.mark.slow),
        MASKS,
    ],
    ids=["finetune", "mae", "dino", "simmim", "bf16", "masks"],
)
def test_a_stock_trainer_ends_in_the_weights_of_a_sweep(tmp_path: Path, run: Run) -> None:
    finished(run, tmp_path)
    kinds = {"mae": bl.MAE, "dino": bl.DINO, "simmim": bl.SimMIM, "segment": bl.Segmenter}
    kind = kinds.get(run.regime) or kinds.get(run.task, bl.Classifier)
    torch.rand(5)  # earlier draws do not matter
    module, data = kind.from_run(run), bl.DataModule.from_run(run)
    options = dict(precision="bf16-mixed") if run.precision == "bf16" else {}
    short = dict(val_check_interval=9, limit_val_batches=1)
    # validation in between, a logger and a callback of Lightning change nothing
    one = trainer(tmp_path, max_steps=20, logger=CSVLogger(tmp_path), log_every_n_steps=7, **(short | options))
    one.fit(module, datamodule=data)
    encoder = module.encoder
    if run.task == "pretrain":
        encoder.reset_classifier(0)
    assert equal(encoder.state_dict(), weights_of(tmp_path, run))


@pytest.mark.slow
def test_the_clip_and_the_seed_of_the_run_matter_to_that_test(tmp_path: Path) -> None:
    finished(HARD, tmp_path)
    for changed in (replace(HARD, clip=0.0), replace(HARD, seed=1)):
        module = bl.Classifier.from_run(changed)
        trainer(tmp_path, max_steps=20).fit(module, datamodule=bl.DataModule.from_run(changed))
        assert not equal(module.encoder.state_dict(), weights_of(tmp_path, HARD))


def test_a_resumed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, cut = bl.Classifier.from_run(HARD), bl.Classifier.from_run(HARD)
    trainer(tmp_path, max_steps=20).fit(whole, datamodule=bl.DataModule.from_run(HARD))
    saving = ModelCheckpoint(dirpath=tmp_path, filename="at-{step}", every_n_train_steps=9, save_top_k=-1)
    first = trainer(tmp_path, max_steps=13, enable_checkpointing=True, callbacks=[saving])
    first.fit(cut, datamodule=bl.DataModule.from_run(HARD))
    cut = bl.Classifier.from_run(HARD)
    saving = ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=9, save_top_k=-1)
    second = trainer(tmp_path, max_steps=20, enable_checkpointing=True, callbacks=[saving])
    second.fit(cut, datamodule=bl.DataModule.from_run(HARD), ckpt_path=tmp_path / "at-step=9.ckpt", weights_only=False)
    assert second.global_step == 20
    assert equal(whole.state_dict(), cut.state_dict())


def test_fit_validate_test_predict_and_the_usual_callbacks(tmp_path: Path) -> None:
    data = bl.DataModule("fashion_mnist_12k", size=100, batch_size=20)
    model = bl.Classifier(**SMALL, learning_rate=1e-3)
    best = ModelCheckpoint(dirpath=tmp_path, monitor="val/top1", mode="max")
    early = EarlyStopping(monitor="val/loss", mode="min", patience=5)
    logger = CSVLogger(tmp_path, name="", version="")
    one = trainer(
        tmp_path, max_epochs=2, enable_checkpointing=True, callbacks=[best, early], logger=logger, log_every_n_steps=2
    )
    one.fit(model, datamodule=data)
    assert {"train/loss", "val/loss", "val/top1"} <= set(one.callback_metrics)
    assert best.best_model_score == pytest.approx(float(one.callback_metrics["val/top1"]), abs=1)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row.get("train/loss")]) >= 5
    (validated,) = one.validate(model, datamodule=data, verbose=False)
    (tested,) = one.test(model, datamodule=data, verbose=False)
    assert set(tested) == {"test/loss", "test/top1"}
    logits = torch.cat(one.predict(model, datamodule=data))
    assert tested["test/top1"] == pytest.approx((logits.argmax(1).numpy() == data.source.images.test_labels).mean())
    again = bl.Classifier.load_from_checkpoint(best.best_model_path)
    assert trainer(tmp_path).validate(again, datamodule=data, verbose=False)[0] == pytest.approx(validated, abs=0.2)
    assert equal(again.state_dict(), torch.load(best.best_model_path, weights_only=False)["state_dict"])


def test_the_schedule_follows_the_trainer_unless_samples_seen_is_given(tmp_path: Path) -> None:
    data = bl.DataModule("fashion_mnist_12k", size=40, batch_size=20)
    for fields, last in (({}, 0.0), (dict(samples_seen=1000, batch_size=20), 1e-4)):
        model = bl.Classifier(**SMALL, learning_rate=1e-3, **fields)
        one = trainer(tmp_path, max_epochs=3)
        one.fit(model, datamodule=data)
        assert one.global_step == 6
        assert (one.optimizers[0].param_groups[0]["lr"] > 1e-5) == bool(last)


@pytest.mark.parametrize(("kind", "backbone"), PRETRAINERS, ids=[kind.__name__ for kind, _ in PRETRAINERS])
def test_every_pretraining_module_fits_validates_predicts_and_loads(tmp_path: Path, kind, backbone: str) -> None:
    run = Run(dataset="fashion_mnist_12k", backbone=backbone, task="pretrain", regime=kind.__name__.lower())
    data = bl.DataModule.from_run(replace(run, source="pool", batch_size=8, samples_seen=24))
    model = kind(backbone, channels=1, image_size=28)
    best = ModelCheckpoint(dirpath=tmp_path, monitor="val/loss")
    stops = EarlyStopping(
        "val/loss", patience=1, min_delta=100.0, check_on_train_epoch_end=False
    )  # no gain is as large
    logger = CSVLogger(tmp_path, name="", version="")
    short = dict(limit_val_batches=1, limit_test_batches=1, limit_predict_batches=1, val_check_interval=1)
    one = trainer(
        tmp_path, max_steps=3, enable_checkpointing=True, callbacks=[best, stops], logger=logger, log_every_n_steps=1,
        **short,
    )  # fmt: skip
    one.fit(model, datamodule=data)
    assert {"train/loss", "val/loss"} <= set(one.callback_metrics)
    assert stops.wait_count >= 1
    assert "val/loss" in (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert set(one.validate(model, datamodule=data, verbose=False)[0]) == {"val/loss"}
    assert set(one.test(model, datamodule=data, verbose=False)[0]) == {"test/loss"}
    (features,) = one.predict(model, datamodule=data)
    assert features.shape == (256, model.encoder.num_features)
    again = kind.load_from_checkpoint(best.best_model_path)
    assert equal(again.state_dict(), torch.load(best.best_model_path, weights_only=False)["state_dict"])
    assert again.mask_ratio == REGIMES[run.regime].fields["mask_ratio"] if hasattr(again, "mask_ratio") else True


@pytest.mark.parametrize(("kind", "backbone"), PRETRAINERS, ids=[kind.__name__ for kind, _ in PRETRAINERS])
def test_two_evaluations_of_the_same_weights_agree(tmp_path: Path, kind, backbone: str) -> None:
    data = bl.DataModule("fashion_mnist_12k", size=40, batch_size=8)
    model = kind(backbone, channels=1, image_size=28)
    one = trainer(tmp_path, limit_val_batches=1)
    first, second = (one.validate(model, datamodule=data, verbose=False)[0] for _ in range(2))
    assert first == second


def test_the_learning_rate_and_the_batch_size_that_lightning_finds_take_effect(tmp_path: Path) -> None:
    data = bl.DataModule("fashion_mnist_12k", size=100, batch_size=4)
    model = bl.Classifier(**SMALL)
    one = trainer(tmp_path, max_steps=50, enable_checkpointing=True)
    assert model.hparams["learning_rate"] == 1e-3
    found = Tuner(one).lr_find(model, datamodule=data, num_training=40, min_lr=1e-5, max_lr=1e-1)
    assert found is not None
    rate = found.suggestion()
    assert rate not in (None, 1e-3)
    size = Tuner(one).scale_batch_size(model, datamodule=data, init_val=8, max_trials=2, steps_per_trial=1)
    assert size is not None
    assert size > 8
    one = trainer(tmp_path, max_steps=1)
    one.fit(model, datamodule=data)
    assert one.optimizers[0].param_groups[0]["initial_lr"] == pytest.approx(rate)
    assert len(next(iter(data.train_dataloader()))[0]) == size


def focal(logits: Tensor, target: Tensor) -> Tensor:
    return 0.5 * nn.functional.cross_entropy(logits, target)


def test_a_checkpoint_names_the_objects_that_it_cannot_hold(tmp_path: Path) -> None:
    data = bl.DataModule("fashion_mnist_12k", size=20, batch_size=20)
    encoder = bl.create("vit_micro", image_size=28, channels=1, classes=10)
    for name, given, model in (
        ("backbone", encoder, bl.Classifier(encoder)),
        ("backbone", encoder, bl.MAE(encoder)),
        ("loss", focal, bl.Classifier(**SMALL, loss=focal)),
    ):
        one = trainer(tmp_path, max_steps=1, limit_val_batches=0)
        one.fit(model, datamodule=data)
        one.save_checkpoint(tmp_path / "last.ckpt")
        with pytest.raises(UserError, match=f"trained with a {name} .*; pass it again: .*, {name}=…"):
            type(model).load_from_checkpoint(tmp_path / "last.ckpt")
        again = type(model).load_from_checkpoint(tmp_path / "last.ckpt", **{name: given})
        assert getattr(again, "loss", None) is (given if name == "loss" else None)


class Foreign(LightningModule):
    """A LightningModule of someone else around a torchvision model."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torchvision.models.mobilenet_v3_small(num_classes=10)
        self.drawn: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        self.drawn.append(torch.rand(1).item())
        return nn.functional.cross_entropy(self.model(images.expand(-1, 3, -1, -1)), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        hits = (self.model(images.expand(-1, 3, -1, -1)).argmax(1) == labels).float().mean()
        self.log("val/top1", hits)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


def test_a_foreign_module_with_a_torchvision_model_takes_the_batches(tmp_path: Path) -> None:
    drawn = []
    for _ in range(2):
        module = Foreign()
        one = trainer(tmp_path, max_epochs=2, limit_val_batches=1)
        one.fit(module, datamodule=bl.DataModule("fashion_mnist_12k", size=20, batch_size=10))
        assert "val/top1" in one.callback_metrics
        drawn.append(module.drawn)
    assert drawn[0] == drawn[1]  # the generator is reseeded by step
    assert len(set(drawn[0])) == 4


def test_a_folder_of_one_s_own_images_is_indexed_in_the_user_s_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, level in (("cat", 40), ("dog", 200)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for k in range(20):
            noise = np.random.default_rng(k).integers(0, 40, (20, 24, 3)).astype(np.uint8) + np.uint8(level)
            Image.fromarray(noise).save(tmp_path / "pets" / name / f"{k}.png")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    data = bl.DataModule("pets", image_size=16, batch_size=4)
    assert (data.classes, data.channels, data.image_size) == (("cat", "dog"), 3, 16)
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (4, 3, 16, 16)
    assert set(labels.tolist()) <= {0, 1}
    assert len(data.val_dataloader()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"home", "pets"}, "nothing else in the working directory"
    assert list((tmp_path / "home" / ".cache" / "bias_lab" / "own").glob("*/data/split.json"))
    _ = bl.DataModule("pets", folder=tmp_path / "out", image_size=16).source
    assert (tmp_path / "out" / "data" / "split.json").is_file()


def test_a_path_that_is_not_there_is_met_with_a_remedy_in_python() -> None:
    with pytest.raises(UserError, match="unknown dataset '/no/such/folder'; .*give the path of a folder") as error:
        _ = bl.DataModule("/no/such/folder").classes
    assert "--" not in str(error.value)


def test_a_pretraining_s_loaders_return_no_label() -> None:
    run = replace(RUN, task="pretrain", regime="mae", backbone="vit_micro", source="pool", size=0)
    data = DataModule.from_run(run)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert isinstance(next(iter(loader)), Tensor)


def test_a_hold_out_that_the_labelled_images_reach_into_is_not_served() -> None:
    data = bl.DataModule("fashion_mnist_12k", size=9_900)
    assert data.val_dataloader() == []
    assert len(bl.DataModule("fashion_mnist_12k").source.examples.images) == 9_000


def test_a_module_is_another_than_the_run_s() -> None:
    run = replace(RUN, task="pretrain", regime="mae", backbone="vit_micro", source="pool", size=0)
    with pytest.raises(UserError, match="the run's module is MAE, not Classifier"):
        Classifier.from_run(run)
