"""Sources of pretrainings, planted leaks, and whole runs: pretrained, then fine-tuned or read by a probe."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bias_lab import ledger, results
from bias_lab.backbones import create
from bias_lab.backbones.priors.positions import sine_cosine
from bias_lab.catalogue import REGIMES
from bias_lab.data import batches, store, subsets
from bias_lab.data.store import Images
from bias_lab.definition import Run, Settings, run_id
from bias_lab.errors import UserError
from bias_lab.training import checkpoints
from bias_lab.training import execute as room
from bias_lab.training.prepare import prepare
from bias_lab.training.tasks import pretraining
from bias_lab.training.tasks.pretraining import check_source, convert, find_overlap, monitor_images, open_source

QUIET = Settings(wandb=False, device="cpu")
PRETRAIN = Run(
    dataset="fashion_mnist_12k",
    backbone="vit_micro",
    task="pretrain",
    regime="mae",
    source="pool",
    samples_seen=48,
    batch_size=16,
    learning_rate=1e-3,
)


def images(count: int = 60, *, side: int = 8, channels: int = 1, seed: int = 0, classes: int = 3) -> Images:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count + 20, side, side, channels), np.uint8)
    labels = np.arange(count + 20) % classes
    names = tuple(f"Class{k}" for k in range(classes))
    return Images(pixels[:count], labels[:count], pixels[count:], labels[count:], names, (0.5,), (0.3,), f"f{seed}")


def never(name: str) -> Images:
    raise AssertionError(f"{name} was opened")


# --- sources and leaks -----------------------------------------------------------------------------------------------


def test_pool_is_every_training_image_and_subset_the_labelled_ones_alone() -> None:
    target, chosen = images(), np.array([4, 7, 9])
    pool = open_source(replace(PRETRAIN, source="pool"), target, chosen, never)
    subset = open_source(replace(PRETRAIN, source="subset", size=3), target, chosen, never)
    assert np.array_equal(pool.images, target.train)
    assert np.array_equal(subset.images, target.train[chosen])


def test_images_of_no_class_join_the_pool_and_a_test_image_among_them_is_found() -> None:
    target, more = images(), images(seed=1).train[:5].copy()
    extra = Images(*[getattr(target, name) for name in Images.__slots__[:8]], unlabelled=more)
    source = open_source(PRETRAIN, extra, np.arange(3), never)
    assert len(source.images) == 65
    check_source(PRETRAIN, source, extra)
    more[2] = target.test[7]  # the planted leak
    with pytest.raises(UserError, match=r"source pool holds 1 of fashion_mnist_12k's 20 test images \(7\)"):
        check_source(PRETRAIN, open_source(PRETRAIN, extra, np.arange(3), never), extra)
    assert open_source(replace(PRETRAIN, source="subset"), extra, np.arange(3), never).overlap == ()


@pytest.mark.parametrize("regime", ["mae", "simmim", "dino"])
@pytest.mark.parametrize("source", ["pool", "subset", "fractals", "other"])
def test_a_pretraining_without_labels_can_not_get_any(
    regime: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining, "FRACTAL_CLASSES", 2)
    monkeypatch.setattr(pretraining, "FRACTALS_EACH", 10)
    run = replace(PRETRAIN, regime=regime, source=source)
    target = images()
    opened = open_source(run, target, np.arange(20), lambda name: images(seed=1))
    assert opened.labels is None
    loader = batches.Batches(opened.images, opened.labels, run, classes=0, mean=(0.5,), std=(0.3,), steps=2)
    assert all(isinstance(batch, torch.Tensor) for batch in loader)


def test_what_lies_in_the_pool_never_changes_with_test_images() -> None:
    target = images()
    planted = Images(
        *(
            np.zeros_like(getattr(target, name)) if name == "test" else getattr(target, name)
            for name in Images.__slots__[:8]
        )
    )
    for source in ("pool", "subset"):
        run = replace(PRETRAIN, source=source, size=3)
        pair = [open_source(run, t, np.arange(3), never).images for t in (target, planted)]
        assert np.array_equal(*pair)


def test_a_test_image_in_a_source_is_found_and_named() -> None:
    target, other = images(), images(seed=1)
    other.train[17] = target.test[4]  # the planted leak
    run = replace(PRETRAIN, source="other")
    source = open_source(run, target, np.arange(3), lambda name: other)
    assert source.overlap == (4,)
    with pytest.raises(
        UserError, match=r"source other holds 1 of fashion_mnist_12k's 20 test images \(4\).*--allow-overlap"
    ):
        check_source(run, source, target)
    check_source(run, source, target, allow_overlap=True)
    check_source(run, open_source(run, target, np.arange(3), lambda name: images(seed=1)), target)


def test_the_leak_is_found_through_a_resize_to_the_target_s_size() -> None:
    big = images(side=16, seed=2)
    target = images()
    target.test[3] = convert(big.train[5:6], (8, 8), 1)[0]
    opened = open_source(replace(PRETRAIN, source="other"), target, np.arange(3), lambda name: big)
    assert find_overlap(opened.images, target.test) == (3,)


def test_colour_and_size_are_brought_to_the_target_s() -> None:
    colour = images(side=16, channels=3, seed=2)
    assert convert(colour.train, (8, 8), 1).shape == (60, 8, 8, 1)
    grey = images(seed=3).train
    assert np.array_equal(convert(grey, (8, 8), 3), np.repeat(grey, 3, axis=3))
    white = np.full((1, 4, 4, 3), 255, np.uint8)
    assert convert(white, (4, 4), 1).max() == 255
    assert convert(np.array([[[[255, 0, 0]]]], np.uint8), (1, 1), 1).item() == 76  # the share of red


def test_shared_class_names_are_reported() -> None:
    other = images(classes=4, seed=1)
    opened = open_source(
        replace(PRETRAIN, regime="supervised", source="other"), images(), np.arange(3), lambda name: other
    )
    assert opened.shared_classes == ("class0", "class1", "class2")
    assert np.array_equal(opened.labels, other.train_labels)


@pytest.mark.parametrize("source", ["", "pool", "subset"])
@pytest.mark.parametrize("regime", ["supervised", "formula"])
def test_labels_of_the_target_are_no_source(regime: str, source: str) -> None:
    with pytest.raises(UserError, match=f"'{regime}' can't have the target"):
        open_source(replace(PRETRAIN, regime=regime, source=source), images(), np.arange(3), never)


def test_fewer_images_than_a_batch_are_refused() -> None:
    target, run = images(), replace(PRETRAIN, source="subset", size=7)
    with pytest.raises(UserError, match="7 images to pretrain on are fewer than a batch of 16"):
        check_source(run, open_source(run, target, np.arange(7), never), target)


def test_a_pretraining_is_measured_on_the_hold_out_and_never_on_test() -> None:
    target = images(count=100)
    (bank, _), (holdout, _) = monitor_images(replace(PRETRAIN, draw=3), target)
    order = subsets.order(target.fingerprint, target.train_labels, 3)
    assert np.array_equal(holdout, target.train[order[-20:]])  # the last fifth of the draw's order
    assert np.array_equal(bank, target.train[order[:80]])
    test = {image.tobytes() for image in target.test}
    assert not test & {image.tobytes() for part in (bank, holdout) for image in part}


# --- whole runs ------------------------------------------------------------------------------------------------------


def finished(run: Run, folder: Path) -> dict[str, Any]:
    room.execute(run, folder, QUIET)
    return ledger.read_json(ledger.run_folder(folder, run_id(run)) / ledger.RESULT)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Images:
    """Use 120 training and 40 test images of the embedded dataset and few fractals, so that a run takes a second."""
    whole = store.open_images("fashion_mnist_12k")
    cut = Images(
        whole.train[:120],
        whole.train_labels[:120],
        whole.test[:40],
        whole.test_labels[:40],
        *[getattr(whole, name) for name in ("classes", "mean", "std", "fingerprint")],
    )
    monkeypatch.setattr(store, "open_images", lambda *given, **named: cut)
    monkeypatch.setattr(pretraining, "FRACTAL_CLASSES", 4)
    monkeypatch.setattr(pretraining, "FRACTALS_EACH", 20)
    return cut


@pytest.mark.parametrize(
    ("regime", "source", "picture"),
    [
        ("mae", "pool", "reconstruction"),
        ("simmim", "subset", "reconstruction"),
        ("dino", "pool", "attention"),
        ("formula", "fractals", ""),
    ],
)
def test_a_pretraining_is_a_run_and_starts_another(
    regime: str, source: str, picture: str, small: Images, tmp_path: Path
) -> None:
    before = replace(PRETRAIN, regime=regime, source=source, size=30 if source == "subset" else 0)
    result = finished(before, tmp_path)
    metrics = result["metrics"]
    assert np.isfinite(metrics["loss"])
    assert 0 <= metrics["holdout_knn"] <= 1
    assert "top1" not in metrics
    assert metrics.get("collapsed", False) is False
    assert result["facts"]["source_images"] == {"pool": 120, "subset": 30, "fractals": 80}[source]
    here = ledger.run_folder(tmp_path, run_id(before))
    assert not (here / ledger.PREDICTIONS).exists()
    assert (here / f"{picture}.png").is_file() if picture else not list(here.glob("*.png"))
    rows = [json.loads(line) for line in (here / ledger.METRICS).read_text().splitlines()]
    assert [row["step"] for row in rows if "holdout/knn" in row] == [3]
    logged = [row["step"] for row in rows if "train/feature_std" in row]
    assert logged == ([] if regime == "formula" else [1, 2, 3])
    encoder = load_file(here / ledger.WEIGHTS)
    create("vit_micro", image_size=28, channels=1, classes=None).load_state_dict(encoder, strict=True)

    after = Run(
        dataset="fashion_mnist_12k",
        backbone="vit_micro",
        size=30,
        samples_seen=16,
        batch_size=16,
        learning_rate=1e-3,
        regime=regime,
        source=source,
        pretraining=run_id(before),
    )
    tuned = finished(after, tmp_path)
    assert set(tuned["weights"]["loaded"]) == set(encoder)
    assert tuned["weights"]["skipped"] == tuned["weights"]["resampled"] == []
    assert tuned["weights"]["name"] == run_id(before)


@pytest.mark.parametrize(
    ("regime", "source"), [("mae", "pool"), ("simmim", "pool"), ("dino", "pool"), ("supervised", "shapes")]
)
def test_a_pretraining_of_zero_steps_leaves_the_encoder_as_it_began(
    regime: str, source: str, small: Images, tmp_path: Path
) -> None:
    run = replace(PRETRAIN, regime=regime, source=source, samples_seen=0, monitor=2, teacher_schedule="steps")
    (line,) = room.preflight([run], tmp_path, QUIET) or [""]
    assert "shares class names" in line if REGIMES[regime].labels else not line
    result = finished(run, tmp_path)
    metrics = result["metrics"]
    assert metrics["untrained"] is True
    assert metrics["loss"] is metrics["loss_slope"] is metrics["holdout_knn"] is None
    assert (result["steps"], result["samples_seen"]) == (0, 0)
    here = ledger.run_folder(tmp_path, run_id(run))
    assert not (here / ledger.METRICS).exists()
    encoder = load_file(here / ledger.WEIGHTS)
    job = prepare(run, tmp_path, QUIET)
    begun = job.task.encoder(job.method).state_dict()
    assert encoder.keys() == begun.keys()
    assert all(torch.equal(encoder[name], begun[name]) for name in encoder)
    if regime == "mae":  # the regime's own initialisation is part of it
        width = encoder["pos_embed"].shape[-1]
        assert torch.allclose(encoder["pos_embed"][0, -49:], sine_cosine(7, 7, width))
    after = Run(
        dataset="fashion_mnist_12k", backbone="vit_micro", size=30, samples_seen=16, batch_size=16,
        learning_rate=1e-3, regime=regime, source=source, pretraining=run_id(run),
    )  # fmt: skip
    assert finished(after, tmp_path)["weights"]["name"] == run_id(run)
    assert "untrained" not in finished(after, tmp_path)["metrics"]
    marks = results.read(tmp_path).table.set_index("run_id")["untrained"]
    assert bool(marks[run_id(run)])
    assert marks.isna()[run_id(after)]


def test_a_pretraining_that_learns_is_not_marked_and_one_that_does_not_is(small: Images, tmp_path: Path) -> None:
    run = replace(PRETRAIN, regime="simmim", backbone="resnet_micro", samples_seen=16 * 40, learning_rate=5e-3)
    assert finished(run, tmp_path)["metrics"]["untrained"] is False
    slow = replace(run, learning_rate=1e-9)
    assert finished(slow, tmp_path)["metrics"]["untrained"] is True


@pytest.mark.parametrize("protocol", ["linear_probe", "knn"])
def test_a_frozen_encoder_is_evaluated_without_a_step(protocol: str, small: Images, tmp_path: Path) -> None:
    before = replace(PRETRAIN)
    finished(before, tmp_path)
    encoder = load_file(ledger.run_folder(tmp_path, run_id(before)) / ledger.WEIGHTS)
    run = Run(
        dataset="fashion_mnist_12k",
        backbone="vit_micro",
        size=60,
        regime="mae",
        source="pool",
        pretraining=run_id(before),
        protocol=protocol,
    )
    result = finished(run, tmp_path)
    assert (result["steps"], result["samples_seen"]) == (0, 60)
    assert result["metrics"]["top1"] > 0.2  # ten classes
    assert result["metrics"]["train_top1"] >= result["metrics"]["top1"]
    saved = load_file(ledger.run_folder(tmp_path, run_id(run)) / ledger.WEIGHTS)
    assert all(torch.equal(saved[name], encoder[name]) for name in encoder)


def test_the_hold_out_is_measured_as_often_as_the_run_says(small: Images, tmp_path: Path) -> None:
    run = replace(PRETRAIN, samples_seen=64, monitor=2)
    finished(run, tmp_path)
    lines = (ledger.run_folder(tmp_path, run_id(run)) / ledger.METRICS).read_text().splitlines()
    asked = [row for row in map(json.loads, lines) if "holdout/knn" in row]
    assert [row["step"] for row in asked] == [2, 4]
    assert all(0 <= row["holdout/knn"] <= 1 for row in asked)


def test_measuring_the_encoder_does_not_change_it(small: Images, tmp_path: Path, monkeypatch) -> None:
    run = replace(PRETRAIN, regime="simmim", backbone="resnet_micro")
    finished(run, tmp_path / "measured")
    monkeypatch.setattr("bias_lab.training.regimes.simmim.SimMIM.pictures", lambda self, images: {})
    monkeypatch.setattr(pretraining.NeighboursMonitor, "on_train_batch_end", lambda *given: None)
    finished(run, tmp_path / "unmeasured")
    pair = [
        (ledger.run_folder(tmp_path / side, run_id(run)) / ledger.WEIGHTS).read_bytes()
        for side in ("measured", "unmeasured")
    ]
    assert pair[0] == pair[1]


def test_an_interrupted_pretraining_ends_in_the_same_bytes(small: Images, tmp_path: Path, monkeypatch) -> None:
    run = replace(PRETRAIN, regime="dino", backbone="resnet_micro", samples_seen=64)
    finished(run, tmp_path / "whole")
    real = pretraining.NeighboursMonitor.on_train_batch_end
    monkeypatch.setattr(checkpoints.Checkpoints.__init__, "__kwdefaults__", {"seconds": 0.0})

    def stop(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 3:
            raise KeyboardInterrupt
        real(self, trainer, module, outputs, batch, batch_idx)

    monkeypatch.setattr(pretraining.NeighboursMonitor, "on_train_batch_end", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        room.execute(run, tmp_path / "cut", QUIET)
    monkeypatch.setattr(pretraining.NeighboursMonitor, "on_train_batch_end", real)
    assert list(ledger.run_folder(tmp_path / "cut", run_id(run)).glob(f"{ledger.ATTEMPT}*/{ledger.CHECKPOINT}"))
    finished(run, tmp_path / "cut")
    for name in (ledger.WEIGHTS, ledger.METRICS):
        pair = [(ledger.run_folder(tmp_path / side, run_id(run)) / name).read_bytes() for side in ("whole", "cut")]
        assert pair[0] == pair[1], name


# --- before anything trains ------------------------------------------------------------------------------------------


def test_preflight_refuses_a_planted_leak_and_writes_nothing(small: Images, tmp_path: Path, monkeypatch) -> None:
    leaky = Images(
        small.train.copy(), small.train_labels, small.test, small.test_labels, ("Bag", "x"), small.mean, small.std, "l"
    )
    leaky.train[7] = small.test[11]
    monkeypatch.setattr(store, "open_images", lambda name, **named: leaky if name == "leaky" else small)
    run = replace(PRETRAIN, source="leaky")
    with pytest.raises(UserError, match=r"source leaky holds 1 of fashion_mnist_12k's 40 test images \(11\)"):
        room.preflight([run], tmp_path, QUIET)
    assert not (tmp_path / "runs").exists()
    (line,) = room.preflight([run], tmp_path, replace(QUIET, allow_overlap=True))
    assert line == "source leaky shares class names with fashion_mnist_12k: bag"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(source="subset", size=12), "12 images to pretrain on are fewer than a batch of 16"),
        (dict(backbone="timm:resnet10t"), "can't take the regime 'mae'.*visible patches"),
        (dict(regime="formula", source="pool"), "can't have the target"),
    ],
)
def test_preflight_refuses_what_can_not_begin(changes: dict, message: str, small: Images, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        room.preflight([replace(PRETRAIN, **changes)], tmp_path, QUIET)


def test_preflight_refuses_weights_that_do_not_load(small: Images, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    ledger.write_json(tmp_path / ledger.PLACES, {"file:0": {"path": str(tmp_path / "cut.safetensors")}})
    run = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=30, regime="weights", weights="file:0")
    with pytest.raises(UserError, match=r"cut.safetensors is not a whole .safetensors file"):
        room.preflight([run], tmp_path, QUIET)
