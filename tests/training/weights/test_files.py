"""Files are read whatever their keys, without running code. Bad files and unknown names get one line."""

import argparse
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm import create_model
from torch import nn

from bias_lab.errors import UserError
from bias_lab.training.weights import files
from bias_lab.training.weights import load as weights


def vit(**keywords: object) -> nn.Module:
    sizes = dict(img_size=16, patch_size=4, in_chans=3, embed_dim=32, depth=2, num_heads=2, num_classes=5)
    return create_model("vit_tiny_patch16_224", **(sizes | keywords))


def saved(model: nn.Module, path: Path) -> Path:
    save_file(model.state_dict(), path)
    return path


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("harm"),)


DAMAGED = {  # each raises another exception when it is read
    "stop": b".",
    "header": b"\x80\x02.",
    "letters": b"a" * 100,
    "key": b"\x80\x02}q\x00(X",
}


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    whole = saved(vit(), folder / "whole.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "text.pth").write_text("not a checkpoint")
    (folder / "empty.pth").write_bytes(b"")
    torch.save(vit().state_dict(), folder / "whole.pth")
    (folder / "cut.pth").write_bytes((folder / "whole.pth").read_bytes()[:3000])
    (folder / "code.pth").write_bytes(pickle.dumps({"a": Harmful()}))
    torch.save({"a": Harmful()}, folder / "zipcode.pth")
    for name, content in DAMAGED.items():
        (folder / f"{name}.pth").write_bytes(content)
    torch.save([1, 2], folder / "list.pth")
    torch.save({"epoch": 1}, folder / "bare.pth")
    return {
        "missing": (folder / "absent.safetensors", "there is no weights file"),
        "cut": (folder / "cut.safetensors", "not a whole .safetensors file"),
        "empty": (folder / "empty.safetensors", "not a whole .safetensors file"),
        "text": (folder / "text.pth", "could run code|not a whole PyTorch file"),
        "empty pth": (folder / "empty.pth", "not a whole PyTorch file"),
        "cut pth": (folder / "cut.pth", "not a whole PyTorch file"),
        "code": (folder / "code.pth", "could run code|not a whole PyTorch file"),
        "code in a zip": (folder / "zipcode.pth", "could run code"),
        **{name: (folder / f"{name}.pth", "not a whole PyTorch file") for name in DAMAGED},
        "list": (folder / "list.pth", "holds a list"),
        "bare": (folder / "bare.pth", "holds no tensors; it has the keys epoch"),
    }


def test_bad_files_get_one_line_and_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for case, (path, message) in bad_files(tmp_path).items():
        with pytest.raises(UserError, match=message) as caught:
            weights.load(vit(), path)
        assert "\n" not in str(caught.value), case
        assert path.name in str(caught.value), case
    assert not (tmp_path / "harm").exists()


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown weights 'deit_tinny_patch16_224'; did you mean 'deit_tiny"):
        weights.load(vit(), "deit_tinny_patch16_224")


def test_a_name_whose_weights_cannot_be_fetched_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **keywords: object) -> nn.Module:
        raise FileNotFoundError("cannot find the requested files in the local cache\nmore lines")

    monkeypatch.setattr(files.timm, "create_model", offline)
    with pytest.raises(UserError, match=r"can't be fetched \(cannot find the requested files in the local cache\)"):
        weights.load(vit(), "resnet18")


@pytest.mark.parametrize("prefix", ["hf-hub:", "hf_hub:"])
def test_a_name_on_the_hub_is_fetched_and_brings_its_normalisation(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hub(name: str, *, pretrained: bool) -> nn.Module:
        assert pretrained
        assert name == f"{prefix}timm/deit_tiny_patch16_224.fb_in1k"
        model = vit()
        model.pretrained_cfg = dict(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])  # read from JSON
        return model

    monkeypatch.setattr(files.timm, "create_model", hub)
    outcome = weights.load(vit(), f"{prefix}timm/deit_tiny_patch16_224.fb_in1k")
    assert (outcome.mean, outcome.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert outcome.skipped == ("head.bias", "head.weight")


def test_a_file_without_tensors_names_its_keys(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {}}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"holds no tensors; it has the keys epoch, args, optimizer; it must"):
        files.read(tmp_path / "a.pth")


def test_sets_are_found_in_nested_dicts_and_an_optimizer_s_are_not() -> None:
    one = torch.zeros(2)
    content = {"a": one, "model": {"w": one, "module": {"b": one, "n": 3}}, "optimizer": {"state": {0: {"m": one}}}}
    assert {key: list(tensors) for key, tensors in files.sets_of(content).items()} == {
        "": ["a"],
        "model": ["w"],
        "model.module": ["b"],
    }


def test_what_no_model_can_take_is_no_tensor() -> None:
    assert files.is_plain(torch.zeros(2, dtype=torch.float16))
    for odd in (torch.zeros(2).to_sparse(), torch.zeros(2, device="meta"), torch.zeros(2, dtype=torch.complex64), 3):
        assert not files.is_plain(odd)


def test_both_formats_state_the_timm_model(tmp_path: Path) -> None:
    tensors = dict(vit().state_dict())
    save_file(tensors, tmp_path / "a.safetensors", metadata={"timm_model": "tf_efficientnet_lite0"})
    torch.save({"arch": "tf_efficientnet_lite0", "state_dict": tensors}, tmp_path / "a.pth.tar")
    for name in ("a.safetensors", "a.pth.tar"):
        source = files.read(tmp_path / name)
        assert (source.timm_name, source.mean) == ("tf_efficientnet_lite0", (0.5, 0.5, 0.5))
    torch.save({"arch": "my_net", "state_dict": tensors}, tmp_path / "b.pth")
    assert files.read(tmp_path / "b.pth").timm_name == ""


def test_statistics_are_published_with_or_without_a_tag() -> None:
    assert files.published("deit_tiny_patch16_224.fb_in1k")[0] == (0.485, 0.456, 0.406)
    assert files.published("deit_tiny_patch16_224.a_tag_of_mine")[0] == (0.485, 0.456, 0.406)
    assert files.published("vit_micro") == files.published("") == ((), ())


def test_a_jax_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "ViT-B_16.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"ViT-B_16.npz is an archive of NumPy arrays .*; load it with timm's"):
        files.read(tmp_path / "ViT-B_16.npz")
