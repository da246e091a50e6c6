"""A weights file that is damaged is named before anything else is planned, without torch."""

import io
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bias_lab.errors import UserError
from bias_lab.planning.weight_files import check

TENSORS = {"a": torch.zeros(300), "b": torch.ones(2, 3)}


def test_whole_files_of_every_kind_pass(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors", metadata={"timm_model": "resnet18"})
    torch.save(TENSORS, tmp_path / "a.pth")
    torch.save(TENSORS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.bin").write_bytes(pickle.dumps({"a": [1, 2]}))
    for path in tmp_path.iterdir():
        check(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_safetensors_file_that_was_cut_is_named(share: float, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"a.safetensors is not a whole .safetensors file"):
        check(path)


@pytest.mark.parametrize("header", [b"[1, 2]", b'{"a": 3}', b'{"a": {"data_offsets": [0, "x"]}}', b"\xff\xfe{}"])
def test_a_damaged_header_is_named(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match=r"not a whole .safetensors file"):
        check(path)


@pytest.mark.parametrize("ending", ["pth", "pt", "bin", "ckpt", "tar"])
def test_a_pytorch_file_that_was_cut_or_is_none_is_named(ending: str, tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save(TENSORS, file)
    path = tmp_path / f"a.{ending}"
    for content in (b"", b"not a checkpoint", file.getvalue()[:-200], b"a" * 100, b"\x80\x02}q\x00(X"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"a.{ending} is not a whole PyTorch file"):
            check(path)
