"""Weights are loaded exactly where they fit, and a source that fills a part of the encoder is refused."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm import create_model
from torch import Tensor, nn

from bias_lab.backbones import create
from bias_lab.backbones.vit import SIZES, VisionTransformer
from bias_lab.errors import UserError
from bias_lab.training.weights import files
from bias_lab.training.weights import load as weights
from tests.training.weights.published import random_model

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "weights"
DEIT = REAL / "deit_tiny_patch16_224.fp16.safetensors"
LITE = REAL / "tf_efficientnet_lite0.fp16.safetensors"
needs_files = pytest.mark.skipif(not DEIT.is_file(), reason="the real weights are not beside the repository")


def vit(**keywords: object) -> nn.Module:
    sizes = dict(img_size=16, patch_size=4, in_chans=3, embed_dim=32, depth=2, num_heads=2, num_classes=5)
    return create_model("vit_tiny_patch16_224", **(sizes | keywords))


def saved(model: nn.Module, path: Path) -> Path:
    save_file(model.state_dict(), path)
    return path


def test_the_same_model_is_filled_but_for_its_classifier(tmp_path: Path) -> None:
    source, target = vit(), vit()
    before = target.head.weight.clone()
    outcome = weights.load(target, saved(source, tmp_path / "a.safetensors"))
    assert outcome.skipped == outcome.missing == ("head.bias", "head.weight")
    assert outcome.resampled == ()
    assert set(outcome.loaded) | set(outcome.skipped) == set(source.state_dict())
    assert torch.equal(target.head.weight, before)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(target.eval().forward_features(images), source.eval().forward_features(images))


def test_the_classifier_is_loaded_on_request(tmp_path: Path) -> None:
    source, target = vit(), vit()
    assert weights.load(target, saved(source, tmp_path / "a.safetensors"), head=True).missing == ()
    assert torch.equal(target.head.weight, source.head.weight)


def test_a_modified_vit_takes_what_fits_of_a_plain_one_s(tmp_path: Path) -> None:
    class Modified(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = vit().blocks
            self.gate = nn.Parameter(torch.ones(3))

    path = saved(vit(), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"fills 24 of the 25 tensors of Modified .*missing: gate; surplus: "):
        weights.load(Modified(), path)
    outcome = weights.load(Modified(), path, partial=True)
    assert outcome.missing == ("gate",)
    assert set(outcome.loaded) == {name for name in vit().state_dict() if name.startswith("blocks.")}


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_a_pth_may_be_wrapped_and_prefixed(tmp_path: Path, wrapper: str, prefix: str) -> None:
    tensors = {prefix + name: tensor for name, tensor in vit().state_dict().items()}
    path = tmp_path / "a.pth"
    torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, path)
    outcome = weights.load(vit(), path)
    assert len(outcome.loaded) == len(tensors) - 2


def test_weights_of_which_none_fits_are_an_error_that_shows_both_sides(tmp_path: Path) -> None:
    path = saved(nn.Sequential(nn.Linear(2, 2)), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"none of the 2 tensors of a.safetensors fits VisionTransformer"):
        weights.load(vit(), path)


def test_weights_of_another_architecture_are_named_by_their_keys_and_the_nearest_name(tmp_path: Path) -> None:
    path = saved(create("swin_micro", image_size=28, channels=3, classes=10), tmp_path / "a.safetensors")
    message = r"missing: cls_token, pos_embed, .* more; surplus: .* more; they look like swin_micro's$"
    with pytest.raises(UserError, match=message):
        weights.load(create("vit_micro", image_size=28, channels=3, classes=10), path)


# --- what fits in part -----------------------------------------------------------------------------------------------


def test_a_deeper_network_is_refused_and_told(tmp_path: Path) -> None:
    path = saved(random_model("resnet50", num_classes=10), tmp_path / "resnet50.safetensors")
    model = create("resnet18", image_size=224, channels=3, classes=3)
    message = r"^resnet50.safetensors fills \d+ of the 120 tensors of ResNet \([\d,]+ of 11,186,132 values\); missing: "
    with pytest.raises(UserError, match=message) as caught:
        weights.load(model, path)
    assert "they look like resnet50's" in str(caught.value)
    assert "--allow-partial-weights" in str(caught.value)


def test_blocks_that_the_model_lacks_are_refused_too(tmp_path: Path) -> None:
    """Every tensor of the shallow model has a value then, but its features are of a network that was cut off."""
    path = saved(vit(depth=4), tmp_path / "deep.safetensors")
    with pytest.raises(UserError, match=r"deep.safetensors holds 24 tensors of an encoder for which Vision"):
        weights.load(vit(), path)
    assert len(weights.load(vit(), path, partial=True).beyond) == 24


@pytest.mark.parametrize(
    "name", ["blocks.0.ls1.gamma", "blocks.1.attn.qkv.lora_A", "patch_embed.proj.scale", "dist_token", "reg_token"]
)
def test_further_tensors_of_the_encoder_are_refused(name: str, tmp_path: Path) -> None:
    save_file({**vit().state_dict(), name: torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=rf"surplus: {name}"):
        weights.load(vit(), tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "name",
    ["decoder_blocks.0.norm1.weight", "mask_token", "pre_logits.fc.weight", "head_dist.weight", "head.mlp.0.bias"],
)
def test_a_decoder_and_other_classifiers_do_no_harm(name: str, tmp_path: Path) -> None:
    save_file({**vit().state_dict(), name: torch.ones(1)}, tmp_path / "a.safetensors")
    outcome = weights.load(vit(), tmp_path / "a.safetensors")
    assert name in outcome.skipped
    assert outcome.beyond == outcome.lacking == ()


def test_a_norm_of_another_name_is_named_on_both_sides(tmp_path: Path) -> None:
    tensors = {f"fc_{k}" if k.startswith("norm.") else k: v for k, v in vit().state_dict().items()}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"missing: norm.bias, norm.weight; surplus: fc_norm.bias, fc_norm.weight"):
        weights.load(vit(), tmp_path / "a.safetensors")
    taken = vit(global_pool="avg")
    assert weights.load(taken, tmp_path / "a.safetensors").lacking == ()


def test_a_shape_that_differs_is_shown_with_both(tmp_path: Path) -> None:
    path = saved(create("resnet18", image_size=224, channels=3, classes=10), tmp_path / "a.safetensors")
    message = r"missing: conv1.weight \(64x3x7x7 in place of 64x3x3x3\); .*resnet18's; .*--set stem=stock"
    with pytest.raises(UserError, match=message):
        weights.load(create("resnet18", image_size=64, channels=3, classes=10), path)


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    model = create("resnet_micro", image_size=28, channels=3, classes=10)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if "num_batches" not in name}
    save_file(tensors, tmp_path / "a.safetensors")
    assert weights.load(model, tmp_path / "a.safetensors").lacking == ()


def test_the_last_linear_layer_of_a_model_without_timm_s_interface_is_its_classifier(tmp_path: Path) -> None:
    def plain(classes: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, classes))

    outcome = weights.load(plain(3), saved(plain(5), tmp_path / "a.safetensors"))
    assert (outcome.loaded, outcome.lacking) == (("0.bias", "0.weight"), ())
    assert weights.load(plain(5), tmp_path / "a.safetensors").missing == ()  # one of the same classes is loaded whole


def test_what_was_loaded_is_said_in_one_line(tmp_path: Path) -> None:
    path = saved(vit(img_size=24), tmp_path / "a.safetensors")
    assert weights.load(vit(), path).words == "30 of 30 tensors loaded, 1 of them resampled, 2 of the file skipped"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_values_that_are_not_finite_are_named(value: float, prefix: str, tmp_path: Path) -> None:
    tensors = {prefix + name: tensor.clone() for name, tensor in vit().state_dict().items()}
    tensors[f"{prefix}blocks.1.mlp.fc1.bias"][5] = value
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=rf"^a.safetensors: {prefix}blocks.1.mlp.fc1.bias holds values that are not"):
        weights.load(vit(), tmp_path / "a.safetensors")


def test_values_that_no_part_of_the_model_takes_may_be_anything(tmp_path: Path) -> None:
    save_file({**vit().state_dict(), "decoder.bias": torch.full((2,), math.nan)}, tmp_path / "a.safetensors")
    assert weights.load(vit(), tmp_path / "a.safetensors").skipped[0] == "decoder.bias"
    assert weights.is_finite(torch.zeros(2, dtype=torch.float8_e4m3fn))
    assert weights.is_finite(torch.zeros(2, dtype=torch.int64))


def logits(model: nn.Module) -> Tensor:
    with torch.inference_mode():
        return model.eval()(torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)))


@needs_files
def test_deit_s_real_weights_fit_our_vit_strictly_and_give_timm_s_logits() -> None:
    ours = VisionTransformer(**SIZES["vit_tiny_patch16_224"])
    theirs = create_model("deit_tiny_patch16_224")
    outcome = weights.load(ours, DEIT, head=True)
    assert outcome.skipped == outcome.missing == outcome.resampled == ()
    assert outcome.mean == (0.485, 0.456, 0.406)  # DeiT's own, though vit_tiny_patch16_224 has 0.5 in timm
    theirs.load_state_dict(files.read(DEIT).tensors, strict=True)
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-4, rtol=0)


@needs_files
def test_efficientnet_s_real_weights_fit_with_another_head_and_bring_their_normalisation() -> None:
    model = create_model("tf_efficientnet_lite0", num_classes=8)
    outcome = weights.load(model, LITE)
    assert outcome.skipped == outcome.missing == ("classifier.bias", "classifier.weight")
    assert outcome.mean == outcome.std == (0.5, 0.5, 0.5)


@needs_files
def test_real_weights_at_64_px_resample_their_positions() -> None:
    model = VisionTransformer(**(SIZES["deit_tiny_patch16_224"] | dict(img_size=64, num_classes=8)))
    outcome = weights.load(model, DEIT)
    assert outcome.resampled == ("pos_embed",)
    assert model.pos_embed.shape == (1, 17, 192)
