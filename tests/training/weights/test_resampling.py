"""Tensors of another shape are resampled where that makes sense, as timm does it."""

import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from timm import create_model
from timm.layers import resample_abs_pos_embed
from timm.models.swin_transformer import checkpoint_filter_fn
from torch import nn

from bias_lab.training.weights import load as weights
from bias_lab.training.weights.resampling import resample


def vit(**keywords: object) -> nn.Module:
    sizes = dict(img_size=16, patch_size=4, in_chans=3, embed_dim=32, depth=2, num_heads=2, num_classes=5)
    return create_model("vit_tiny_patch16_224", **(sizes | keywords))


def saved(model: nn.Module, path: Path) -> Path:
    save_file(model.state_dict(), path)
    return path


def test_position_embeddings_are_resampled_to_the_grid_and_the_class_token_s_is_kept(tmp_path: Path) -> None:
    source, target = vit(), vit(img_size=(24, 32))
    outcome = weights.load(target, saved(source, tmp_path / "a.safetensors"))
    assert outcome.resampled == ("pos_embed",)
    expected = resample_abs_pos_embed(source.pos_embed.detach(), [6, 8], num_prefix_tokens=1)
    torch.testing.assert_close(target.pos_embed.detach(), expected)
    torch.testing.assert_close(target.pos_embed[:, 0], source.pos_embed[:, 0])


def test_a_model_without_class_token_takes_the_patches_positions(tmp_path: Path) -> None:
    source, target = vit(), vit(class_token=False, global_pool="avg")
    outcome = weights.load(target, saved(source, tmp_path / "a.safetensors"), partial=True)  # its norm is fc_norm
    assert "cls_token" in outcome.skipped
    torch.testing.assert_close(target.pos_embed, source.pos_embed[:, 1:])


def test_grey_images_get_the_sum_of_three_channels_and_another_patch_is_resampled(tmp_path: Path) -> None:
    source, target = vit(), vit(in_chans=1)
    path = saved(source, tmp_path / "a.safetensors")
    assert weights.load(target, path).resampled == ("patch_embed.proj.weight",)
    grey = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(
        target.patch_embed(grey), source.patch_embed(grey.expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-5
    )
    larger = vit(patch_size=8)
    assert weights.load(larger, path).resampled == ("patch_embed.proj.weight", "pos_embed")
    one = torch.randn(5, 3, 4, 4)  # an enlarged patch gives the same as before, which is FlexiViT's criterion
    enlarged = nn.functional.interpolate(one, size=(8, 8), mode="bicubic", antialias=True)
    torch.testing.assert_close(larger.patch_embed.proj(enlarged), source.patch_embed.proj(one), atol=1e-5, rtol=1e-4)


def test_swin_s_relative_positions_take_another_window(tmp_path: Path) -> None:
    sizes = dict(img_size=32, patch_size=2, in_chans=3, embed_dim=16, depths=(2,), num_heads=(2,), num_classes=0)
    source = create_model("swin_tiny_patch4_window7_224", window_size=4, **sizes)
    target = create_model("swin_tiny_patch4_window7_224", window_size=8, **sizes)
    outcome = weights.load(target, saved(source, tmp_path / "a.safetensors"))
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    assert name in outcome.resampled
    old, new = source.state_dict()[name].reshape(7, 7, 2), target.state_dict()[name].reshape(15, 15, 2)
    torch.testing.assert_close(new[7, 7], old[3, 3])  # the offset 0 keeps its value
    theirs = create_model("swin_tiny_patch4_window7_224", window_size=8, **sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # timm's, of a tensor that is not contiguous
        expected = checkpoint_filter_fn(dict(source.state_dict()), theirs)[name]
    torch.testing.assert_close(new.reshape(-1, 2), expected)


def test_odd_shapes_are_no_values_of_a_model(tmp_path: Path) -> None:
    odd = {"pos_embed": torch.zeros(2, 17, 32), "patch_embed.proj.weight": torch.zeros(32, 3, 0, 0)}
    save_file({**vit().state_dict(), **odd}, tmp_path / "a.safetensors")
    outcome = weights.load(vit(), tmp_path / "a.safetensors", partial=True)
    assert set(outcome.lacking) == set(odd)


def test_positions_of_tokens_that_the_file_lacks_are_not_made_up() -> None:
    with_token, without = vit(), vit(class_token=False, global_pool="avg", img_size=24)
    positions = without.state_dict()["pos_embed"]  # (1, 36, 32)
    assert resample("pos_embed", positions, with_token.state_dict()["pos_embed"], with_token) is None
    assert resample("pos_embed", positions[:, :1], with_token.state_dict()["pos_embed"], with_token) is None
