from typing import Any

import pytest
import timm
import torch
from torch import nn

from bias_lab.backbones.shared import Attention, Block
from bias_lab.backbones.vit import SIZES, VisionTransformer, attend_from_first, check_grid, first_token
from bias_lab.errors import UserError

VARIANTS = [
    *(f"vit_{size}_patch16_{side}" for size in ("tiny", "small", "base") for side in (224, 384)),
    *(f"vit_{size}_patch32_{side}" for size in ("small", "base") for side in (224, 384)),
    "vit_small_patch8_224",
    *(f"deit_{size}_patch16_224" for size in ("tiny", "small", "base")),
]


@pytest.mark.parametrize("name", VARIANTS)
def test_published_names_and_shapes(name, same_names):
    with torch.device("meta"):
        same_names(timm.create_model(f"bias_lab_{name}"), timm.create_model(name))


@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes(name, same_computation):
    patch = int(name.split("patch")[1].split("_")[0])
    small = dict(num_classes=5, img_size=(2 * patch, 3 * patch), depth=2)
    images = torch.randn(2, 3, 2 * patch, 3 * patch)
    same_computation(timm.create_model(f"bias_lab_{name}", **small), timm.create_model(name, **small), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes_at_full_size(name, same_computation):
    ours, theirs = timm.create_model(f"bias_lab_{name}"), timm.create_model(name)
    same_computation(ours, theirs, torch.randn(1, *theirs.pretrained_cfg["input_size"]))


@pytest.mark.parametrize(
    "keywords",
    [
        dict(num_classes=0),
        dict(global_pool="avg"),
        dict(global_pool="avg", num_classes=0),
        dict(global_pool="avg", class_token=False),
        dict(class_token=False, global_pool="avg", num_classes=0),
        dict(in_chans=1, patch_size=8, embed_dim=48, num_heads=4, mlp_ratio=2.0),
        dict(global_pool=""),
    ],
    ids=str,
)
def test_every_layout_of_published_weights(keywords, same_computation):
    """AugReg has a class token and a head, DINO has num_classes=0, MAE has the mean and a norm called fc_norm."""
    shape = dict(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=3) | keywords
    name = "vit_tiny_patch16_224"
    images = torch.randn(2, shape.get("in_chans", 3), 32, 32)
    same_computation(timm.create_model(f"bias_lab_{name}", **shape), timm.create_model(name, **shape), images)


def small(**keywords):
    return VisionTransformer(
        **dict(img_size=16, patch_size=4, embed_dim=24, depth=3, num_heads=3, num_classes=5) | keywords
    )


def test_the_walk_of_vit_base():
    """The image, its tokens, the class token and the logits have the shapes in docs/design.md, Shapes."""
    model = VisionTransformer(**SIZES["vit_base_patch16_224"] | dict(depth=1, num_classes=8)).eval()
    with torch.no_grad():
        images = torch.randn(3, 3, 224, 224)
        assert model.patch_embed(images).flatten(1, 2).shape == (3, 196, 768)
        assert model.cls_token.expand(3, -1, -1).shape == (3, 1, 768)
        tokens = model.embed(images)
        assert tokens.shape == (3, 197, 768)
        assert model.forward_head(torch.randn(4, 197, 768), pre_logits=True).shape == (4, 768)
        assert model.forward_head(torch.randn(4, 197, 768)).shape == (4, 8)


def test_the_class_token_stands_first_and_has_a_position():
    model = small()
    tokens = model.embed(torch.randn(2, 3, 16, 16))
    torch.testing.assert_close(tokens[:, :1], (model.cls_token + model.pos_embed[:, :1]).expand(2, -1, -1))


def permuted(images, order, patch):
    """Return images (B, C, H, W) whose patches are in another order."""
    B, C, H, W = images.shape
    patches = (
        images.reshape(B, C, H // patch, patch, W // patch, patch).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)[:, order]
    )
    return patches.reshape(B, H // patch, W // patch, C, patch, patch).permute(0, 3, 1, 4, 2, 5).reshape(B, C, H, W)


@pytest.mark.parametrize("positions", [False, True])
def test_without_positions_the_order_of_patches_means_nothing(positions, randomise):
    model = small().eval()
    randomise(model)
    if not positions:
        nn.init.zeros_(model.pos_embed)
    images, order = torch.randn(2, 3, 16, 16), torch.randperm(16)
    with torch.no_grad():
        tokens, mixed = model.forward_features(images), model.forward_features(permuted(images, order, 4))
    error = (tokens[:, 1:][:, order] - mixed[:, 1:]).abs().max().item()
    assert error > 0.1 if positions else error <= 1e-5


def test_forward_is_head_of_features(randomise):
    """In `forward` the last block may compute the class token alone, in `forward_features` it computes all tokens."""
    for keywords in (dict(), dict(global_pool="avg"), dict(global_pool="avg", class_token=False), dict(depth=1)):
        model, images = small(**keywords).eval(), torch.randn(2, 3, 16, 16)
        randomise(model)
        torch.testing.assert_close(model(images), model.forward_head(model.forward_features(images)))


@pytest.mark.parametrize(
    ("module", "alone"),
    [(Attention(24, 3), attend_from_first), (Block(24, 3), first_token)],
    ids=["attention", "block"],
)
def test_the_class_token_alone_is_exact(module, alone):
    x, weight = torch.randn(4, 9, 24), torch.randn(4, 1, 24)
    outputs = module(x)[:, :1], alone(module, x)
    torch.testing.assert_close(*outputs)
    gradients = [torch.autograd.grad((y * weight).sum(), list(module.parameters())) for y in outputs]
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_a_hook_sees_all_tokens_of_the_last_block():
    model, seen = small(), []
    last = model.blocks[-1]
    for module in (last, last.mlp, last.attn.qkv, model.blocks, model.norm):
        handle = module.register_forward_hook(lambda module, args, out: seen.append(out.shape[1]))
        model(torch.randn(2, 3, 16, 16))
        handle.remove()
        assert seen.pop() == 17
    model(torch.randn(2, 3, 16, 16))
    assert not seen


class Mean(nn.Module):
    """Replaces each token by the mean of all."""

    def forward(self, x):
        return x.mean(1, keepdim=True).expand_as(x)


class Adapted(nn.Linear):
    """A linear layer with an added term, as in LoRA, that mixes tokens."""

    def forward(self, x):
        return super().forward(x) + x.mean(1, keepdim=True).repeat(1, 1, 3)


@pytest.mark.parametrize("place", ["attn", "mlp", "norm1", "norm2", "attn.qkv", "norm"])
def test_a_replaced_part_sees_all_tokens(place, randomise):
    """The last block computes all tokens if one of its parts, or the norm, was replaced."""
    model, images = small().eval(), torch.randn(2, 3, 16, 16)
    randomise(model)
    block, other = model.blocks[-1], Mean()
    if place == "attn.qkv":
        block.attn.qkv = Adapted(24, 72)
    else:
        setattr(model if place == "norm" else block, place, other)
    torch.testing.assert_close(model(images), model.forward_head(model.forward_features(images)))


def test_maps_in_an_unknown_order_are_refused():
    with pytest.raises(UserError, match="output_fmt 'NHWC' is unknown"):
        small().forward_intermediates(torch.randn(1, 3, 16, 16), output_fmt="NHWC")


def test_other_image_and_patch_sizes_equal_timms():
    shape = dict(embed_dim=24, depth=1, num_heads=3, num_classes=5)
    ours, theirs = (timm.create_model(f"{p}vit_tiny_patch16_224", **shape) for p in ("bias_lab_", ""))
    ours.load_state_dict(theirs.state_dict())
    for change in (dict(img_size=(64, 96)), dict(patch_size=(8, 8)), dict(img_size=(48, 48), patch_size=(16, 16))):
        ours.set_input_size(**change)
        theirs.set_input_size(**change)
        images = torch.randn(2, 3, *ours.patch_embed.img_size)
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-5)
        assert [info["reduction"] for info in ours.feature_info] == [max(ours.patch_embed.patch_size)]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch32_224"])
def test_fresh_weights_have_timms_distribution(name, same_start):
    ours, theirs = (timm.create_model(f"{p}{name}", depth=2, num_classes=100) for p in ("bias_lab_", ""))
    same_start(ours, theirs)


def test_patches_that_do_not_fill_the_image():
    with pytest.raises(UserError, match="^patches of 16x16 don't fill a 40x40 image; patches of 20x20 do$"):
        timm.create_model("bias_lab_vit_tiny_patch16_224", img_size=40)
    with pytest.raises(UserError, match="patches of 5x5 don't fill"):
        small().set_input_size(patch_size=5)
    check_grid((32, 48), (16, 8))


def test_an_image_of_another_size():
    with pytest.raises(
        UserError, match="^images of 20x16 don't fit a model for 16x16; resize them, or call set_input_size$"
    ):
        small()(torch.randn(1, 3, 20, 16))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (dict(in_chans=0), "0 channels"),
        (dict(num_classes=-1), "-1 classes"),
        (dict(num_heads=5), "5 heads don't divide a width of 192"),
        (dict(global_pool="max"), "global_pool 'max' is unknown"),
        (dict(class_token=False), "needs a class token"),
    ],
    ids=str,
)
def test_values_that_no_vit_can_take(keywords, message):
    with pytest.raises(UserError, match=message):
        timm.create_model("bias_lab_vit_tiny_patch16_224", depth=1, **keywords)


def test_dropping_samples_and_features():
    """drop_rate is the classifier's dropout. drop_path_rate rises to the last block. Evaluation has neither."""
    model, images = small(drop_rate=0.5, drop_path_rate=0.4), torch.randn(2, 3, 16, 16)
    assert [block.drop_path.rate for block in model.blocks] == pytest.approx([0, 0.2, 0.4])
    assert model.head_drop.p == 0.5
    model.eval()
    assert torch.equal(model(images), model(images))


def test_the_mini_size_is_the_published_one_of_2_8_million():
    """Lee et al. 2021, arXiv:2112.13492: 12 heads of 16, an MLP of twice the width."""
    model = timm.create_model("bias_lab_vit_mini", num_classes=100)
    assert model.blocks[0].attn.num_heads == 12
    assert 2.65e6 < sum(p.numel() for p in model.parameters()) < 2.85e6


@pytest.mark.parametrize("options", [{}, dict(n=2, norm=True), dict(n=[0, 2], reshape=True, return_prefix_tokens=True)])
def test_intermediate_layers_are_timm_s(options: dict[str, Any]) -> None:
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3).eval()
    ours = timm.create_model("bias_lab_vit_tiny_patch16_224", img_size=32, depth=3).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        one, other = (model.get_intermediate_layers(images, **options) for model in (ours, theirs))
    for mine, its in zip(one, other, strict=True):
        torch.testing.assert_close(mine, its, atol=1e-5, rtol=1e-5)
