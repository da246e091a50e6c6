"""Test that a user's own backbone is found and hashed without being imported."""

import sys
from pathlib import Path

import pytest

from bias_lab.errors import UserError
from bias_lab.planning.own import source


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


def test_an_installed_package_is_found_and_not_imported(tmp_path: Path) -> None:
    sys.modules.pop("timm.models.resnet", None)
    assert source("timm.models.resnet:resnet18", tmp_path)
    assert "timm.models.resnet" not in sys.modules
