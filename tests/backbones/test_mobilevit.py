import re

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from bias_lab.backbones.mobilevit import (
    SIZES,
    ConvNormAct,
    InvertedResidual,
    MobileViT,
    MobileViTBlock,
    convolve,
    divisible,
    fold,
    unfold,
)
from bias_lab.errors import UserError

VARIANTS = ["mobilevit_xxs", "mobilevit_xs", "mobilevit_s"]
# the next batch norm subtracts what these add to a channel, so their true gradient is 0, and rounding noise in float32
VANISHING = r"stages\.[01]\.\d\.conv3_1x1\.bn\.bias|stages\.\d\.1\.norm\.bias"


@pytest.mark.parametrize("name", VARIANTS)
def test_published_names_and_shapes(name, same_names):
    with torch.device("meta"):
        same_names(timm.create_model(f"bias_lab_{name}"), timm.create_model(name))


@pytest.mark.parametrize("side", [64, 80], ids=["filled", "resized"])  # 80: the maps are 10, 5, 3
@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes(name, side, same_computation):
    ours, theirs = (timm.create_model(n, num_classes=5, in_chans=2) for n in (f"bias_lab_{name}", name))
    same_computation(ours, theirs, torch.randn(2, 2, side, side), VANISHING)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes_at_full_size(name, same_computation):
    torch.manual_seed(0)
    ours, theirs = (timm.create_model(n) for n in (f"bias_lab_{name}", name))
    same_computation(ours, theirs, torch.randn(2, 3, 256, 256), VANISHING)


def test_gradients_in_double_precision(randomise, gradient_errors, gradient_sizes):
    """In double precision every gradient is timm's, and those of VANISHING are 0."""
    ours, theirs = (timm.create_model(n, num_classes=5).double() for n in ("bias_lab_mobilevit_xxs", "mobilevit_xxs"))
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict())
    errors = gradient_errors(ours, theirs, torch.randn(3, 3, 32, 32).double(), torch.randn(3, 5).double())
    assert max(errors.values()) < 1e-9
    vanishing = {name: size for name, size in gradient_sizes(theirs).items() if re.fullmatch(VANISHING, name)}
    assert len(vanishing) == 7
    assert max(vanishing.values()) < 1e-12


def test_unfold_and_fold_are_inverse():
    x = torch.randn(3, 5, 6, 8)
    sequences = unfold(x, 2)
    assert sequences.shape == (3 * 4, 12, 5)
    assert torch.equal(sequences[4 + 3, 5], x[1, :, 1 * 2 + 1, 1 * 2 + 1])  # image 1, place (1, 1), patch (1, 1)
    assert torch.equal(fold(sequences, 2, 6, 8), x)


def test_a_fold_of_another_patch_order_is_not_the_identity():
    x = torch.randn(1, 2, 4, 4)
    planted = (
        unfold(x, 2).reshape(2, 2, 4, 2).transpose(0, 1).reshape(4, 4, 2)
    )  # rows and columns of places are swapped
    assert not torch.equal(fold(planted, 2, 4, 4), x)


def test_the_walk_through_a_block():
    """The steps of a block (local, unfold, global, fold, fuse) have the shapes in docs/design.md, Shapes."""
    block, x = MobileViTBlock(48, 64, 2, patch=2, drop_path=0.0).eval(), torch.randn(2, 48, 8, 8)
    local = convolve(block.conv_kxk(x), block.conv_1x1)
    assert local.shape == (2, 64, 8, 8)  # d > C
    sequences = unfold(local, 2)
    assert sequences.shape == (2 * 4, 16, 64)
    assert block.transformer(sequences).shape == (8, 16, 64)
    projected = block.conv_proj(fold(sequences, 2, 8, 8))
    assert projected.shape == (2, 48, 8, 8)
    assert torch.cat([x, projected], 1).shape == (2, 96, 8, 8)
    assert block(x).shape == (2, 48, 8, 8)


def test_only_pixels_at_the_same_place_attend_to_one_another():
    block = MobileViTBlock(8, 12, 1, patch=2, drop_path=0.0).eval()
    x = torch.randn(1, 12, 8, 8)
    changed = x.clone()
    changed[0, :, 2, 5] += torch.randn(12)  # place (0, 1) of its patch
    with torch.no_grad():
        a, b = (fold(block.transformer(unfold(y, 2)), 2, 8, 8) for y in (x, changed))
    moved = (a - b).abs().amax(1)[0] > 1e-7
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[0::2, 1::2] = True
    assert torch.equal(moved, expected)


def test_a_pointwise_convolution_is_a_matrix_product():
    conv, x = nn.Conv2d(5, 7, 1, bias=False), torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(convolve(x, conv), conv(x))


def used_norm(width: int) -> nn.BatchNorm2d:
    """Return a batch norm in evaluation, whose weights and statistics are neither 0 nor 1."""
    norm = nn.BatchNorm2d(width)
    with torch.no_grad():
        for values in (norm.weight, norm.running_var):
            values.uniform_(0.3, 3.0)
        for values in (norm.bias, norm.running_mean):
            values.normal_()
    return norm.eval()


CONVOLUTIONS = {
    "1x1": dict(kernel_size=1),
    "3x3": dict(kernel_size=3, padding=1, stride=2),
    "each channel alone": dict(kernel_size=3, padding=1, groups=6),
}


@pytest.mark.parametrize("keywords", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_norm_in_evaluation_is_the_convolutions_scale_and_bias(keywords):
    conv, norm = nn.Conv2d(6, 6, bias=False, **keywords), used_norm(6)
    x = torch.randn(2, 6, 5, 4, requires_grad=True)
    expected, y = norm(conv(x)), convolve(x, conv, norm)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    leaves = (x, conv.weight, norm.weight, norm.bias)
    weights = torch.randn_like(y)
    for mine, theirs in zip(
        torch.autograd.grad((y * weights).sum(), leaves),
        torch.autograd.grad((expected * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_a_map_that_others_hold_is_not_overwritten():
    """The activation works in place only where no hook and no other module can hold the map."""
    block, x = ConvNormAct(5, 5, 1).eval(), torch.randn(2, 5, 3, 4)
    with torch.no_grad():
        expected = F.silu(block.bn(block.conv(x)))
        torch.testing.assert_close(block(x), expected)
        kept = []
        handle = block.bn.register_forward_hook(lambda _module, _given, out: kept.append(out))
        torch.testing.assert_close(block(x), expected)
        assert kept[0].min() < -0.3, "the norm's output, not that of the activation"
        handle.remove()
        block.conv, block.bn = nn.Identity(), nn.Identity()
        before = x.clone()
        torch.testing.assert_close(block(x), F.silu(before))
        assert torch.equal(x, before)


def block_of(conv, norm):
    """A `ConvNormAct` with these parts and without an activation."""
    block = ConvNormAct(conv.in_channels, conv.out_channels, 1, act=False)
    block.conv, block.bn = conv, norm
    return block


def test_a_norm_that_reads_its_input_is_called():
    conv, x = nn.Conv2d(5, 7, 1, bias=False), torch.randn(8, 5, 3, 4)
    for norm in (used_norm(7).train(), nn.BatchNorm2d(7, track_running_stats=False).eval(), nn.InstanceNorm2d(7)):
        y = block_of(conv, norm)(x)
        assert y.mean((0, 2, 3)).sub(norm.bias if norm.affine else 0).abs().max() < 1e-5
    norm = used_norm(7).train()
    block_of(conv, norm)(x)
    assert norm.num_batches_tracked == 1


def test_a_norm_with_a_hook_or_without_weights_is_called():
    conv, norm, x, seen = nn.Conv2d(5, 7, 1, bias=False), used_norm(7), torch.ones(1, 5, 3, 4), []
    expected = norm(conv(x))
    norm.register_forward_hook(lambda *_: seen.append(1))
    torch.testing.assert_close(block_of(conv, norm)(x), expected)
    assert seen == [1]
    weightless = nn.BatchNorm2d(7, affine=False).eval()
    torch.testing.assert_close(block_of(conv, weightless)(x), weightless(conv(x)))


def test_a_residual_stands_where_shapes_agree():
    assert InvertedResidual(8, 8, stride=1, ratio=2, drop_path=0.0).residual
    assert not InvertedResidual(8, 8, stride=2, ratio=2, drop_path=0.0).residual
    assert not InvertedResidual(8, 16, stride=1, ratio=2, drop_path=0.0).residual


def test_widths_are_multiples_of_eight():
    assert [divisible(w) for w in (3, 8, 12, 27, 44, 100)] == [8, 8, 16, 32, 48, 104]


def test_memory_format_of_the_input_changes_nothing():
    model, images = MobileViT(**SIZES["mobilevit_micro"]).eval(), torch.randn(2, 3, 28, 28)
    other = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model(other))
        assert model.forward_features(images).is_contiguous(memory_format=torch.channels_last)


def test_fresh_weights_have_timms_distribution(same_start):
    same_start(*(timm.create_model(f"{prefix}mobilevit_xxs", num_classes=100) for prefix in ("bias_lab_", "")))


def test_stochastic_depth_is_timms():
    ours, theirs = (timm.create_model(f"{p}mobilevit_xxs", drop_path_rate=0.3) for p in ("bias_lab_", ""))
    expected = {n.rstrip("12"): m.drop_prob for n, m in theirs.named_modules() if type(m).__name__ == "DropPath"}
    rates = {n: m.rate for n, m in ours.named_modules() if type(m).__name__ == "DropPath" and m.rate > 0}
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (dict(in_chans=0), "0 channels"),
        (dict(num_classes=-1), "-1 classes"),
        (dict(global_pool="max"), "global_pool 'max' is unknown"),
    ],
    ids=str,
)
def test_values_that_no_mobilevit_can_take(keywords, message):
    with pytest.raises(UserError, match=message):
        timm.create_model("bias_lab_mobilevit_xxs", **keywords)


def test_a_new_head_with_a_pooling_that_is_none():
    with pytest.raises(UserError, match="global_pool 'token' is unknown"):
        timm.create_model("bias_lab_mobilevit_xxs", num_classes=2).reset_classifier(3, "token")


def test_a_pointwise_convolution_with_a_hook_or_replaced_is_called():
    model = timm.create_model("bias_lab_mobilevit_xxs", num_classes=2).eval()
    images = torch.randn(1, 3, 64, 64)
    before, seen = model(images), []
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    handles = [m.register_forward_hook(lambda *_: seen.append(1)) for m in convolutions]
    torch.testing.assert_close(model(images), before, atol=1e-5, rtol=1e-5)
    assert len(seen) == len(convolutions) > 10
    for handle in handles:
        handle.remove()

    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    conv = model.final_conv.conv
    model.final_conv.conv = Doubled(conv.in_channels, conv.out_channels, 1, bias=False)
    model.final_conv.conv.load_state_dict(conv.state_dict())
    maps = model.stages(model.stem(images))
    torch.testing.assert_close(model.forward_features(images), F.silu(model.final_conv.bn(2 * conv(maps))))
