"""A user's own backbone is found and hashed without being imported, and a damaged weights file is named."""

import io
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bias_lab.definition import Run, grid
from bias_lab.errors import UserError
from bias_lab.planning import overrides, own
from bias_lab.planning.own import check_whole, refusals, source

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=640)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "models" / "vit.py").write_text("raise RuntimeError('imported')\n\ndef my_vit(**settings): ...\n")
    (tmp_path / "nets.py").write_text("from models.vit import my_vit as other\nSIZE = 3\n\n\nclass Net: ...\n")
    return tmp_path


def test_the_hash_is_of_the_file_and_changes_with_it(here: Path) -> None:
    before = source("models.vit:my_vit", here)
    assert len(before) == 12
    assert source("models.vit:my_vit", here) == before
    (here / "models" / "vit.py").write_text("def my_vit(**settings): ...  # changed\n")
    assert source("models.vit:my_vit", here) != before


@pytest.mark.parametrize("name", ["nets:Net", "nets:other", "nets:SIZE"])
def test_classes_imports_and_values_are_names_too(here: Path, name: str) -> None:
    assert source(name, here)


def test_a_misspelt_factory_gets_the_nearest(here: Path) -> None:
    with pytest.raises(UserError, match=r"did you mean 'my_vit'"):
        source("models.vit:my_vti", here)


def test_a_module_that_is_not_there(here: Path) -> None:
    with pytest.raises(UserError, match=r"no module 'models.swin' in .* or on Python's path"):
        source("models.swin:net", here)


@pytest.mark.parametrize("name", [":net", "models.vit:", "models/vit.py:net", "models..vit:net"])
def test_what_is_not_module_and_factory(here: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"package\.module:factory"):
        source(name, here)


def test_a_file_that_does_not_parse_is_named_with_its_line(here: Path) -> None:
    (here / "nets.py").write_text("x = 1\ndef net(:\n")
    with pytest.raises(UserError, match=r"nets\.py, line 2"):
        source("nets:net", here)


def test_names_behind_a_condition_are_left_to_the_preflight(here: Path) -> None:
    (here / "nets.py").write_text("if True:\n    def net(**settings): ...\n")
    assert source("nets:net", here)


def test_an_installed_package_is_found_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "timm.models.resnet", raising=False)  # put back, or timm would register it twice
    assert source("timm.models.resnet:resnet18", tmp_path)
    assert "timm.models.resnet" not in sys.modules


# --- weights ---------------------------------------------------------------------------------------------------------

TENSORS = {"a": torch.zeros(300), "b": torch.ones(2, 3)}


def test_whole_files_of_every_kind_pass(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors", metadata={"timm_model": "resnet18"})
    torch.save(TENSORS, tmp_path / "a.pth")
    torch.save(TENSORS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.bin").write_bytes(pickle.dumps({"a": [1, 2]}))
    for path in tmp_path.iterdir():
        check_whole(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_safetensors_file_that_was_cut_is_named(share: float, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"a.safetensors is not a whole .safetensors file"):
        check_whole(path)


@pytest.mark.parametrize("header", [b"[1, 2]", b'{"a": 3}', b'{"a": {"data_offsets": [0, "x"]}}', b"\xff\xfe{}"])
def test_a_damaged_header_is_named(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match=r"not a whole .safetensors file"):
        check_whole(path)


@pytest.mark.parametrize("ending", ["pth", "pt", "bin", "ckpt", "tar"])
def test_a_pytorch_file_that_was_cut_or_is_none_is_named(ending: str, tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save(TENSORS, file)
    path = tmp_path / f"a.{ending}"
    for content in (b"", b"not a checkpoint", file.getvalue()[:-200], b"a" * 100, b"\x80\x02}q\x00(X"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"a.{ending} is not a whole PyTorch file"):
            check_whole(path)


def test_the_catalogue_tells_which_pretrainings_a_name_can_take() -> None:
    why = refusals("resnet18", image_size=28, channels=1)
    assert list(why) == ["mae"]
    assert refusals("vit_micro", image_size=28, channels=1) == {}


@pytest.mark.slow
def test_a_process_of_its_own_tries_a_user_s_backbone() -> None:
    why = refusals("tests.training.tiny:tiny", image_size=28, channels=1)
    assert {"mae", "simmim", "dino"} == set(why)  # it has no interface but `forward` and a classifier


def test_a_method_is_found_like_a_backbone_and_named_in_its_errors(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def loss(logits, target):\n    return logits.sum()\n")
    assert len(source("mine:loss", tmp_path, kind="method")) == 12
    with pytest.raises(UserError, match="method 'mine' is not package.module:factory"):
        source("mine", tmp_path, kind="method")


def test_joined_backbones_start_from_weights_beside_their_cells_from_scratch() -> None:
    runs = overrides.join(grid(ONE, draw=(0, 1)), {"resnet18": ""})
    more = own.from_weights(runs, ["resnet18"], "resnet18.a1_in1k")
    mine = [run for run in more if run.weights]
    assert set(runs) < set(more)
    assert {(run.backbone, run.regime, run.source, run.draw) for run in mine} == {
        ("resnet18", "weights", "resnet18.a1_in1k", draw) for draw in (0, 1)
    }
    assert {run.learning_rate for run in mine} == {None}


def test_without_a_joined_backbone_weights_replace_those_of_one_backbone() -> None:
    from_weights = replace(ONE, regime="weights", weights="a", source="a")
    assert own.from_weights([ONE, from_weights], (), "b") == [ONE, replace(from_weights, weights="b", source="b")]
    with pytest.raises(UserError, match="--weights: no run of this experiment starts from weights; name the backbone"):
        own.from_weights([ONE], (), "b")
    two = [from_weights, replace(from_weights, backbone="swin_micro")]
    with pytest.raises(
        UserError, match="they would be those of swin_micro, vit_micro; name the backbone .* --backbone"
    ):
        own.from_weights(two, (), "b")
    with pytest.raises(UserError, match="use --weights$"):
        overrides.with_fields([ONE], {"weights": "b"})


def test_an_unknown_method_is_met_with_names_that_are_no_imported_modules(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import torch\nimport os.path as p\n\n\ndef focal(a, b):\n    return a.sum()\n")
    with pytest.raises(UserError, match="unknown method in mine.py 'zzz'; choose from: focal$"):
        source("mine:zzz", tmp_path, kind="method")
