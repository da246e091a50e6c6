"""A small copy of a run: it loads as a float32 model, is half as large, and says what the run was."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bias_lab import ledger
from bias_lab.definition import Run, run_id
from bias_lab.errors import UserError
from bias_lab.models.keep import ABOUT, about, keep, smaller, without_places
from bias_lab.models.load import load
from bias_lab.training.weights.files import read_safetensors
from tests.training.runs import RUN, finished

VIT, RESNET = replace(RUN, backbone="vit_micro"), replace(RUN, backbone="resnet_micro")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two finished runs."""
    folder = tmp_path_factory.mktemp("keep")
    for run in (VIT, RESNET):
        finished(run, folder)
    return folder


@pytest.mark.parametrize("run", [VIT, RESNET], ids=["vit", "resnet"])
def test_the_copy_is_half_as_large_and_loads_as_a_float32_model_that_predicts_alike(
    tmp_path: Path, sweep: Path, run: Run
) -> None:
    here = ledger.run_folder(sweep, run_id(run))
    copy = keep(here, tmp_path / "copy")
    original, loaded = load(here), load(copy)
    assert (copy / ledger.WEIGHTS).stat().st_size < 0.6 * (here / ledger.WEIGHTS).stat().st_size
    assert {value.dtype for value in loaded.model.parameters()} == {torch.float32}
    assert (loaded.run, loaded.metrics, loaded.classes) == (original.run, original.metrics, original.classes)
    x = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = original.model(x), loaded.model(x)
    assert not torch.equal(found, expected)  # the weights were rounded
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


def test_norms_and_their_statistics_keep_every_digit(tmp_path: Path, sweep: Path) -> None:
    here = ledger.run_folder(sweep, run_id(RESNET))
    before = read_safetensors(here / ledger.WEIGHTS).tensors
    after = read_safetensors(keep(here, tmp_path / "copy") / ledger.WEIGHTS).tensors
    flat = [name for name, value in before.items() if value.ndim < 2]
    assert any("running_var" in name for name in flat)
    assert all(torch.equal(before[name], after[name]) for name in flat)
    assert {after[name].dtype for name in before.keys() - set(flat)} == {torch.float16}


def test_weights_that_float16_cannot_hold_are_refused() -> None:
    with pytest.raises(UserError, match="the weights 'conv' hold values beyond 65,504; float16 can't hold them"):
        smaller("conv", torch.full((2, 2), 1e5))


def test_the_copy_says_what_the_run_was(tmp_path: Path, sweep: Path) -> None:
    name = run_id(VIT)
    shutil.copytree(ledger.run_folder(sweep, name), ledger.run_folder(tmp_path, name))
    here = ledger.run_folder(tmp_path, name)
    assert ledger.read_json(keep(here, tmp_path / "copy") / ABOUT)["kind"] == "run"
    entry = {"run_id": name, "comparison": "settled", "settled": True}
    text = '{"experiment": "small_data", "runs": [\n' + str(entry).replace("'", '"').replace("True", "true") + "\n]}"
    (tmp_path / ledger.EXPERIMENT).write_text(text)
    kept = ledger.read_json(keep(here, tmp_path / "copy") / ABOUT)
    assert (kept["run_id"], kept["kind"], kept["experiment"]) == (name, "settled cell", "small_data")
    trial = {"run_id": name, "run": {"dataset": VIT.dataset, "backbone": "vit_micro", "size": 20, "task": "tune"}}
    assert about(here, trial)["kind"] == "tuning trial"


def test_a_copy_of_a_copy_says_the_same(tmp_path: Path, sweep: Path) -> None:
    (sweep / ledger.EXPERIMENT).write_text('{"experiment": "small_data", "runs": []}')
    first = keep(ledger.run_folder(sweep, run_id(VIT)), tmp_path / "a" / "b" / "copy")
    again = keep(first, tmp_path / "c" / "d" / "copy")
    assert ledger.read_json(again / ABOUT) == ledger.read_json(first / ABOUT)


def test_a_folder_that_holds_no_finished_run_or_is_the_run_itself(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"is not the folder of a finished run: it has no result.json; give FOLDER/runs"
    ):
        keep(tmp_path, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    ledger.write_json(tmp_path / ledger.RESULT, {})
    save_file({"a": torch.zeros(2)}, tmp_path / ledger.WEIGHTS)
    with pytest.raises(UserError, match="is the run itself"):
        keep(tmp_path, tmp_path)


def test_the_command_names_no_place_of_a_machine() -> None:
    typed = "bias-lab sweep tuning --out /home/me/tuning --data data/mine --set mixup=0.2"
    assert without_places(typed) == "bias-lab sweep tuning --out tuning --data data/mine --set mixup=0.2"
    assert without_places("") == ""
