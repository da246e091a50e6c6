"""One rule sets the normalisation, whatever the file's format and the images' channels, and the result records it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm import create_model
from torch import Tensor, nn

from bias_lab import ledger
from bias_lab.backbones import create
from bias_lab.definition import Run, run_id
from bias_lab.errors import NOTE, UserError
from bias_lab.models.load import load as load_run
from bias_lab.training.preflight import preflight
from bias_lab.training.prepare import prepare
from bias_lab.training.weights import load as loading
from bias_lab.training.weights.start import fit_channels
from tests.training.runs import QUIET, RUN, finished

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
START = replace(RUN, regime="weights", weights="file:0", source="file:0", samples_seen=8, protocol="knn")


def placed(path: Path) -> Path:
    """Make a file the weights `file:0` of the sweep's folder in which it lies."""
    ledger.write_json(path.parent / ledger.PLACES, {"file:0": {"path": str(path)}})
    return path


def vit_micro(path: Path, **metadata: str) -> dict[str, Tensor]:
    """Write weights of a colour vit_micro, and return them."""
    torch.manual_seed(3)
    model = create("vit_micro", image_size=28, channels=3, classes=None)
    tensors = {name: tensor + 0.02 * torch.randn(tensor.shape) for name, tensor in model.state_dict().items()}
    save_file(tensors, placed(path), metadata=metadata or None)
    return tensors


def statistics(run: Run, folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    job = prepare(run, folder, QUIET)
    return job.mean, job.std


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_the_backbones_timm_name_states_the_normalisation_in_either_format(ending: str, tmp_path: Path) -> None:
    run = replace(START, backbone="mobilevit_xxs", image_size=32)
    tensors = dict(create_model("mobilevit_xxs").state_dict())
    path = placed(tmp_path / f"a.{ending}")
    if ending == "pth":
        torch.save({"state_dict": tensors}, path)
    else:
        save_file(tensors, path)
    assert statistics(run, tmp_path) == ((0.0,), (1.0,))  # MobileViT's published ones, on grey images


def test_a_header_comes_before_the_backbones_name(tmp_path: Path) -> None:
    path = placed(tmp_path / "a.safetensors")
    tensors = dict(create_model("mobilevit_xxs").state_dict())
    save_file(tensors, path, metadata={"timm_model": "tf_efficientnet_lite0"})
    assert statistics(replace(START, backbone="mobilevit_xxs", image_size=32), tmp_path) == ((0.5,), (0.5,))


def test_what_the_user_gives_comes_first(tmp_path: Path) -> None:
    vit_micro(tmp_path / "a.safetensors", timm_model="deit_tiny_patch16_224")
    run = replace(START, backbone="vit_micro", pixel_mean="0.5", pixel_std="0.25")
    assert statistics(run, tmp_path) == ((0.5,), (0.25,))
    facts = prepare(run, tmp_path, QUIET).facts
    assert (facts["mean"], facts["normalisation"]) == ([0.5], "given by --mean and --std")


def test_an_unknown_normalisation_is_assumed_with_a_warning(tmp_path: Path) -> None:
    vit_micro(tmp_path / "a.safetensors")
    run = replace(START, backbone="vit_micro")
    lines = preflight([run], tmp_path, QUIET)
    assert lines[0] == f"{NOTE}weights a.safetensors in vit_micro: 54 of 54 tensors loaded, 1 of them resampled"
    assert lines[1].startswith("weights a.safetensors: the normalisation that they were trained with is not known")
    assert lines[1].endswith("if it was another, give it with --mean R,G,B --std R,G,B")
    job = prepare(run, tmp_path, QUIET)
    assert (job.mean, job.std) == (job.images.mean, job.images.std)


def feature(model: Any, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval().forward_head(model.forward_features(images), pre_logits=True)


def three_equal_channels(grey: np.ndarray[Any, Any]) -> Tensor:
    """Return grey images (N, H, W, 1) in three channels, each with its own mean and standard deviation."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    return (torch.from_numpy(grey).permute(0, 3, 1, 2).expand(-1, 3, -1, -1) / 255 - mean) / std


@pytest.mark.parametrize("backbone", ["vit_micro", "resnet_micro"])  # whose first convolution is padded
def test_grey_images_give_the_features_of_three_equal_channels(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    colour: nn.Module = create(backbone, image_size=28, channels=3, classes=10)
    for buffer in colour.buffers():
        buffer.add_(torch.full_like(buffer, 0.05))
    path = placed(tmp_path / "a.safetensors")
    save_file(colour.state_dict(), path, metadata={"timm_model": "deit_tiny_patch16_224"})
    run = replace(START, backbone=backbone)
    job = prepare(run, tmp_path, QUIET)
    assert (job.mean, job.std) == IMAGENET
    images, _ = next(iter(job.eval_loader(job.examples.images, job.examples.labels)))
    wanted = feature(colour, three_equal_channels(job.examples.images))
    assert (feature(job.method.encoder, images) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert job.facts["mean"] == list(IMAGENET[0])


@pytest.mark.slow
def test_a_finished_run_on_grey_images_is_read_back_with_three_channels(tmp_path: Path) -> None:
    tensors = vit_micro(tmp_path / "a.safetensors", timm_model="deit_tiny_patch16_224")
    run = replace(START, backbone="vit_micro")
    finished(run, tmp_path)
    colour = create("vit_micro", image_size=28, channels=3, classes=None)
    colour.load_state_dict(tensors)
    job = prepare(run, tmp_path, QUIET)
    wanted = feature(colour, three_equal_channels(job.examples.images))
    again = load_run(ledger.run_folder(tmp_path, run_id(run)))
    assert (again.mean, again.std) == IMAGENET
    reread = feature(again.model, three_equal_channels(job.examples.images))
    assert (reread - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_channels_are_summed_only_where_that_is_exact() -> None:
    assert fit_channels(*IMAGENET, 3) == IMAGENET
    assert fit_channels(*IMAGENET, 1, folded=True) == IMAGENET
    assert fit_channels((0.5,) * 3, (0.25,) * 3, 1, folded=True) == ((0.5,), (0.25,))
    mean, std = fit_channels((0.4, 0.5, 0.6), (0.1, 0.2, 0.3), 1)  # weights of grey images
    assert (mean, std) == (pytest.approx((0.5,)), pytest.approx((0.2,)))
    assert fit_channels((0.5,), (0.25,), 3) == ((0.5,) * 3, (0.25,) * 3)


# --- what the result says --------------------------------------------------------------------------------------------


def test_a_result_says_what_was_loaded_and_from_which_set(tmp_path: Path) -> None:
    tensors = dict(create("vit_micro", image_size=28, channels=1, classes=10).state_dict())
    student = {name: tensor + 1 for name, tensor in tensors.items()}
    torch.save({"student": student, "teacher": tensors}, placed(tmp_path / "a.pth"))
    job = prepare(replace(START, backbone="vit_micro"), tmp_path, QUIET)
    assert job.started_from["set"] == "set 'teacher' taken and not 'student'"
    assert job.started_from["missing"] == ["head.bias", "head.weight"]
    words = "a.pth: 54 of 54 tensors loaded, 2 of the file skipped, set 'teacher' taken and not 'student'; images"
    assert job.facts["weights_loaded"].startswith(words)


def test_weights_that_fit_in_part_are_refused_unless_allowed_and_the_result_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "nearest", lambda _: "")  # which builds many models
    tensors = vit_micro(tmp_path / "a.safetensors")
    del tensors["norm.weight"]
    save_file(tensors, tmp_path / "a.safetensors")
    run = replace(START, backbone="vit_micro", pixel_mean="0.5", pixel_std="0.5")
    with pytest.raises(UserError, match="fills 53 of the 54 tensors of VisionTransformer .*missing: norm.weight"):
        preflight([run], tmp_path, QUIET)
    allowed = replace(run, allow_partial_weights=True)
    assert run_id(allowed) != run_id(run)
    line = preflight([allowed], tmp_path, QUIET)[0]
    assert line.startswith("a.safetensors fills 53 of the 54 tensors of VisionTransformer (")
    assert "missing: norm.weight" in line
    assert line.endswith("this is allowed here (53 of 54 tensors loaded, 1 of them resampled, 1 left at their start)")
    job = prepare(allowed, tmp_path, QUIET)
    assert "norm.weight" in job.started_from["missing"]
    assert "1 left at their start" in job.facts["weights_loaded"]
