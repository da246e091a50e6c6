"""Test the request that planning gets from a command line."""

from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab.cli import flags, main
from bias_lab.definition import Run, Settings
from bias_lab.errors import UserError
from bias_lab.planning import request
from tests.data.masks.masks_on_disk import flat_folder

HERE = "fashion_mnist_12k"


def test_the_settings_hold_what_cannot_change_a_result(tmp_path: Path) -> None:
    typed = flags.parse(["sweep", "e.py", "--workers", "3", "--device", "cpu", "--no-wandb"], main.COMMANDS)
    typed.typed = "bias-lab sweep e.py"
    settings = request.settings(typed, "e")
    assert settings == Settings(
        device="cpu", workers=3, wandb=False, wandb_mode="off", experiment="e", command="bias-lab sweep e.py"
    )


def test_nothing_typed_is_an_empty_request(tmp_path: Path) -> None:
    typed = flags.parse(["sweep", "e.py"], main.COMMANDS)
    assert request.request(typed, tmp_path) == request.Request()
    assert not list(tmp_path.iterdir())


def test_zero_is_a_value_and_what_is_typed_twice_counts_once(tmp_path: Path) -> None:
    words = ["sweep", "e.py", "--draws", "0", "--seeds", "0,0", "--backbone", "a", "--backbone", "a", "--no-tune"]
    asked = request.request(flags.parse(words, main.COMMANDS), tmp_path)
    assert (asked.draws, asked.seeds, asked.backbones, asked.tune) == ((0,), (0,), ("a",), False)


def test_bad_images_may_be_skipped_in_a_sweep_and_in_a_single_run(tmp_path: Path) -> None:
    sweep, train = (
        flags.parse([*words, "--skip-bad-images"], main.COMMANDS) for words in (["sweep", "e.py"], ["train"])
    )
    assert request.request(sweep, tmp_path).skip_bad
    assert request.single(train, tmp_path, [], {}).skip_bad


def test_a_manifest_is_of_one_dataset(tmp_path: Path) -> None:
    path = tmp_path / "two.py"
    path.write_text(
        "from bias_lab.definition import Experiment, Run\n"
        "def experiment(profile):\n"
        "    runs = tuple(Run(dataset=name, backbone='vit_micro', size=9) for name in ('mnist', 'svhn'))\n"
        "    return Experiment(question='?', runs=runs)\n"
    )
    typed = flags.parse(["sweep", str(path), "--manifest", "m.parquet"], main.COMMANDS)
    with pytest.raises(UserError, match=r"a manifest belongs to one dataset, but .* runs on mnist, svhn"):
        request.request(typed, tmp_path)


def test_a_single_runs_manifest_is_of_its_dataset(tmp_path: Path) -> None:
    manifest = tmp_path / "m.txt"
    manifest.write_text("0 9\n")  # index 0 as class 9, which it is not
    typed = flags.parse(["train", "--manifest", str(manifest)], main.COMMANDS)
    with pytest.raises(UserError, match=f"label 9, not 'Pullover' as in {HERE}"):
        request.single(typed, tmp_path, [Run(dataset=HERE, backbone="vit_micro", size=1)], {})


def test_a_single_runs_request_names_its_typed_fields(tmp_path: Path) -> None:
    typed = flags.parse(["train", "--set", "patch=16", "--set", "mixup=0.2"], main.COMMANDS)
    assert request.single(typed, tmp_path, [], {}).typed == ("patch", "mixup")


@pytest.mark.parametrize(("variable", "value"), [("WANDB_DISABLED", "true"), ("WANDB_MODE", "disabled")])
def test_a_variable_that_disables_wandb_is_obeyed(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    typed = flags.parse(["train"], main.COMMANDS)
    typed.typed = ""
    assert request.settings(typed, "train").wandb
    monkeypatch.setenv(variable, value)
    assert not request.settings(typed, "train").wandb
    monkeypatch.setenv(variable, "perhaps")
    with pytest.raises(UserError, match=f"{variable} is 'perhaps'"):
        request.settings(typed, "train")


def test_own_images_are_read_with_masks_if_a_run_needs_them(tmp_path: Path) -> None:
    flat_folder(tmp_path / "mine")
    run = Run(dataset="own", backbone="vit_micro", task="segment", size=10)
    one = ["train", "--data", str(tmp_path / "mine"), "--backbone", "vit_micro", "--size", "10"]
    words = flags.parse(one, main.COMMANDS)
    asked = request.single(words, tmp_path / "out", [run], {})
    assert asked.data is not None
    assert asked.data.summary.has_masks
    assert asked.data.summary.counts == (15,)
    assert asked.data.place["values"] == [0, 1, 2]
    with pytest.raises(UserError, match="look like images and their masks"):
        request.single(words, tmp_path / "other", [replace(run, task="classify")], {})
    many = ["sweep", "segmentation", "--profile", "smoke", "--data", str(tmp_path / "mine")]
    swept = flags.parse(many, main.COMMANDS)
    data = request.request(swept, tmp_path / "out").data
    assert data is not None
    assert data.dataset == asked.data.dataset
