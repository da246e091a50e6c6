import pytest
import timm.layers
import torch
import torch.nn.functional as F
from torch import nn

from bias_lab.backbones.shared import (
    Attention,
    DropPath,
    Mlp,
    PatchEmbed,
    attention_map,
    check_ends,
    drop_path_rates,
    take,
)
from bias_lab.errors import UserError


def test_an_image_is_196_patches_of_768_values():
    images = torch.randn(3, 3, 224, 224)
    patches = F.unfold(images, 16, stride=16).transpose(1, 2)  # (3, 196, 768): C, then rows, then columns
    assert patches.shape == (3, 196, 768)
    embed = PatchEmbed(224, 16, 3, 24)
    by_hand = patches @ embed.proj.weight.flatten(1).T + embed.proj.bias
    torch.testing.assert_close(embed(images).flatten(1, 2), by_hand, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("side", "patch"), [((32, 48), (8, 8)), ((30, 30), (4, 4)), ((12, 12), (2, 3))])
def test_a_product_over_patches_is_the_convolution(side, patch):
    """Outputs and gradients are equal, also where patches don't fill the image."""
    embed, images = PatchEmbed(side, patch, 3, 10), torch.randn(2, 3, *side)
    by_convolution = embed.proj(images).permute(0, 2, 3, 1)
    torch.testing.assert_close(embed(images), by_convolution)
    weight = torch.randn_like(by_convolution)
    gradients = [
        torch.autograd.grad((y * weight).sum(), list(embed.parameters())) for y in (embed(images), by_convolution)
    ]
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


def test_a_projection_with_a_hook_or_replaced_is_called():
    embed, images = PatchEmbed(16, 4, 3, 10), torch.randn(2, 3, 16, 16)
    seen = []
    handle = embed.proj.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    embed(images)
    handle.remove()
    embed(images)
    assert seen == [(2, 10, 4, 4)]
    for other in (nn.Conv2d(3, 10, 7, stride=4, padding=3), nn.Sequential(nn.Conv2d(3, 10, 4, stride=4), nn.GELU())):
        embed.proj = other
        torch.testing.assert_close(embed(images), other(images).permute(0, 2, 3, 1))


def test_query_key_value_and_attention_of_vit_base():
    attention, x = Attention(768, 12).eval(), torch.randn(32, 197, 768)
    with torch.no_grad():
        for part in attention.query_key_value(x):
            assert part.shape == (32, 12, 197, 64)
        weights = attention_map(attention, x)
    assert weights.shape == (32, 12, 197, 197)
    torch.testing.assert_close(weights.sum(-1), torch.ones(32, 12, 197))


def test_attention_map_is_what_sdpa_applies():
    attention, x = Attention(24, 3), torch.randn(2, 7, 24)
    mixed = attention_map(attention, x) @ attention.query_key_value(x)[2]  # (2, 3, 7, 8)
    torch.testing.assert_close(attention.proj(mixed.transpose(1, 2).flatten(2)), attention(x))


def test_attention_map_of_timms_module():
    theirs = timm.layers.Attention(24, num_heads=3, qkv_bias=True, qk_norm=True, norm_layer=nn.LayerNorm)
    theirs.fused_attn = False  # then its softmax is what its dropout is given
    seen = []
    theirs.attn_drop.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    with torch.no_grad():
        theirs.q_norm.weight.uniform_(0.5, 2)
    x = torch.randn(2, 7, 24)
    theirs(x)
    torch.testing.assert_close(attention_map(theirs, x), seen[0])


def test_attention_of_equal_keys_is_the_mean():
    """With keys of 0 every token attends equally to all tokens."""
    attention, x = Attention(8, 2), torch.randn(1, 5, 8)
    with torch.no_grad():
        attention.qkv.weight[8:16] = 0
        attention.qkv.bias[8:16] = 0
    torch.testing.assert_close(attention_map(attention, x), torch.full((1, 2, 5, 5), 0.2))


def test_mlp_widens_and_narrows_each_token_alone():
    mlp, x = Mlp(768, 3072), torch.randn(2, 5, 768)
    assert mlp.fc1(x).shape == (2, 5, 3072)
    torch.testing.assert_close(mlp(x)[:, 2], mlp(x[:, 2]))
    torch.testing.assert_close(mlp(x), mlp.fc2(F.gelu(mlp.fc1(x))))


def test_mlp_drops_after_each_layer():
    mlp = Mlp(8, 64, act=nn.Identity, drop=0.5)
    with torch.no_grad():
        mlp.fc1.weight.zero_()
        mlp.fc1.bias.fill_(1.0)
        mlp.fc2.weight.fill_(1 / 64)
        mlp.fc2.bias.zero_()
    torch.manual_seed(0)
    out = mlp(torch.zeros(4000, 8))
    assert 0.45 < (out == 0).float().mean() < 0.55  # the second dropout
    hidden = out[out != 0] / 2
    assert hidden.std() > 0.05  # the first dropout: a mean of 64 values, each 0 or 2
    assert abs(hidden.mean() - 1) < 0.01
    assert torch.equal(mlp.eval()(torch.zeros(3, 8)), torch.ones(3, 8))


def test_drop_path_keeps_the_expectation():
    torch.manual_seed(0)
    drop, x = DropPath(0.3), torch.ones(20_000, 2, 3)
    y = drop(x)
    assert torch.equal(y[:, 0, 0] == 0, (y == 0).flatten(1).all(1))  # it drops whole samples
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert abs(y.mean().item() - 1) < 0.01


def test_drop_path_in_evaluation_and_at_rate_0_is_the_identity():
    x = torch.randn(3, 2)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0)(x) is x


def test_drop_path_rises_linearly():
    assert drop_path_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0]


def test_take():
    assert take(4, None) == [0, 1, 2, 3]
    assert take(4, 2) == [2, 3]
    assert take(4, [0, -1]) == [0, 3]
    for wrong in (5, 0, -1, [4], [-5], []):
        with pytest.raises(UserError, match="in a model of 4"):
            take(4, wrong)


@pytest.mark.parametrize("heads", [0, 5, 25])
def test_heads_that_do_not_divide_the_width(heads):
    with pytest.raises(UserError, match=f"{heads} heads don't divide a width of 24; [1-9]+ do"):
        Attention(24, heads)


def test_channels_and_classes():
    check_ends(1, 0)
    with pytest.raises(UserError, match="^0 channels"):
        check_ends(0, 10)
    with pytest.raises(UserError, match="^-1 classes"):
        check_ends(3, -1)


def test_patches_of_another_size_are_resampled_as_timm_does():
    timm_layers = pytest.importorskip("timm.layers.patch_embed")
    ours = PatchEmbed(32, 4, 3, 8)
    theirs = timm_layers.PatchEmbed(32, 4, 3, 8)
    theirs.load_state_dict(ours.state_dict())
    for embed in (ours, theirs):
        embed.set_input_size(img_size=(48, 48), patch_size=(6, 6))
    images = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(ours(images).flatten(1, 2), theirs(images))
    assert ours.grid_size == theirs.grid_size == (8, 8)
