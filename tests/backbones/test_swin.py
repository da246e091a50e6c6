import warnings

import pytest
import timm
import torch
from torch import nn

from bias_lab.backbones import fast_swin, swin, windows
from bias_lab.backbones.swin import PatchMerging, Stage, SwinTransformer
from bias_lab.errors import UserError

VARIANTS = [
    *(f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")),
    "swin_base_patch4_window12_384",
]
SMALL = dict(embed_dim=16, depths=(2, 3), num_heads=(2, 4), num_classes=5, drop_path_rate=0.0)


@pytest.mark.parametrize("name", VARIANTS)
def test_published_names_and_shapes(name, same_names):
    with torch.device("meta"):
        same_names(timm.create_model(f"bias_lab_{name}"), timm.create_model(name))


@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes(name, same_computation):
    heads = swin.SIZES[name]["num_heads"][0]
    small = dict(img_size=32, window_size=4, depths=(2, 2), num_heads=(heads, 2 * heads), num_classes=5)
    small["drop_path_rate"] = 0.0
    images = torch.randn(2, 3, 32, 32)
    same_computation(timm.create_model(f"bias_lab_{name}", **small), timm.create_model(name, **small), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes_at_full_size(name, same_computation):
    ours, theirs = (timm.create_model(n, drop_path_rate=0.0) for n in (f"bias_lab_{name}", name))
    same_computation(ours, theirs, torch.randn(1, *theirs.pretrained_cfg["input_size"]))


@pytest.mark.parametrize(
    "keywords",
    [
        dict(img_size=32, patch_size=2, window_size=4),
        dict(img_size=28, patch_size=2, window_size=7),  # second stage: one window, no shift
        dict(img_size=(32, 48), patch_size=2, window_size=4),
        dict(img_size=(32, 48), patch_size=2, window_size=(4, 6)),
        dict(img_size=36, patch_size=2, window_size=4),  # 18: windows don't fill the map
        dict(img_size=(26, 38), patch_size=2, window_size=5),  # odd maps too: 13 x 19, then 7 x 10
        dict(
            img_size=(16, 40), patch_size=4, window_size=7
        ),  # the window shrinks in one direction and shifts in the other
        dict(img_size=30, patch_size=4, window_size=3),  # the patches don't fill the image
        dict(img_size=16, patch_size=1, window_size=5, in_chans=1),
        dict(img_size=32, patch_size=4, window_size=4, num_classes=0),
        dict(img_size=32, patch_size=4, window_size=4, num_classes=0, global_pool=""),
        dict(img_size=32, patch_size=4, window_size=4, mlp_ratio=2.0),
    ],
    ids=str,
)
def test_any_map_and_window(keywords, same_computation):
    name, shape = "swin_tiny_patch4_window7_224", SMALL | keywords
    side = shape["img_size"] if isinstance(shape["img_size"], tuple) else (shape["img_size"],) * 2
    images = torch.randn(2, shape.get("in_chans", 3), *side)
    same_computation(timm.create_model(f"bias_lab_{name}", **shape), timm.create_model(name, **shape), images)


def as_text(model):
    """Give a model's blocks a hook, so that the text of `swin.py` runs and not the faster order."""
    for module in model.modules():
        if isinstance(module, swin.Block):
            module.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize("map_size", [(8, 8), (6, 10), (3, 9)])
def test_window_order_equals_the_official_order(map_size, randomise):
    stage = Stage(16, 2, map_size, False, (4, 4), [0.0] * 4, 2.0)
    randomise(stage)
    x, y = torch.randn(2, *map_size, 16), []
    weight = torch.randn_like(x)
    for each in (stage, as_text(stage)):
        for p in each.parameters():
            p.grad = None
        y.append(each(x))
        (y[-1] * weight).sum().backward()
        y += [p.grad.clone() for p in each.parameters()]
    fast, text = y[: len(y) // 2], y[len(y) // 2 :]
    for one, other in zip(fast, text, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_walk_of_swin_tiny():
    """Patch merging and the head have the shapes in docs/design.md, Shapes."""
    merging, x = PatchMerging(96), torch.randn(3, 3136, 96)
    map_ = x.reshape(3, 56, 56, 96)
    assert merging(map_).shape == (3, 28, 28, 192)
    assert merging.norm.normalized_shape == (384,)
    assert merging.reduction.weight.shape == (192, 384)
    with torch.no_grad():  # the four tokens of a square, columns before rows
        merging.norm = nn.Identity()
        merging.reduction = nn.Identity()
        four = merging(map_)[0, 3, 5]
    corners = [map_[0, 6, 10], map_[0, 7, 10], map_[0, 6, 11], map_[0, 7, 11]]
    assert torch.equal(four, torch.cat(corners))
    model = SwinTransformer(**SMALL | dict(img_size=32, window_size=4))
    features = torch.randn(2, 4, 4, 32)
    torch.testing.assert_close(model.forward_head(features), model.head.fc(features.flatten(1, 2).mean(1)))


def whole_window_shift_error(stage, step):
    x = torch.randn(2, 8, 8, 16)
    with torch.no_grad():
        return (stage(x.roll((step, step), (1, 2))) - stage(x).roll((step, step), (1, 2))).abs().max().item()


def test_unshifted_windows_commute_with_whole_window_shifts(randomise):
    stage = Stage(16, 2, (8, 8), False, (4, 4), [0.0], 2.0)
    randomise(stage)
    assert whole_window_shift_error(stage, 4) <= 1e-5
    assert whole_window_shift_error(stage, 1) > 0.1  # a window is not a convolution


def test_a_circular_convolution_commutes_with_every_shift():
    """A control: the windows lack this equivariance."""
    conv, x = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(conv(x.roll((1, 2), (2, 3))), conv(x).roll((1, 2), (2, 3)))


PLANTED_SHAPE = dict(SMALL, img_size=32, patch_size=2, window_size=4)


@pytest.mark.parametrize("error", ["transposed window", "mask off by one", "shared bias table", "late shift"])
def test_a_planted_error_is_found(error, same_computation, monkeypatch):
    """The comparison with timm notices a small error in the geometry or the weights."""
    if error == "transposed window":
        cut = windows.window_partition
        monkeypatch.setattr(windows, "window_partition", lambda x, w: cut(x, w).transpose(1, 2))
    if error == "mask off by one":
        mask = windows.shift_mask
        monkeypatch.setattr(
            windows, "shift_mask", lambda size, w, s: mask(size, w, (s[0] + 1, s[1] + 1) if any(s) else s)
        )
    if error == "late shift":
        order = fast_swin.window_order
        monkeypatch.setattr(fast_swin, "window_order", lambda size, w, s: order(size, w, (s[0], 0)))
    ours, theirs = (timm.create_model(f"{p}swin_tiny_patch4_window7_224", **PLANTED_SHAPE) for p in ("bias_lab_", ""))
    if error == "shared bias table":
        first, second = (block.attn for block in ours.layers[0].blocks)
        second.relative_position_bias_table = first.relative_position_bias_table
    with pytest.raises(AssertionError):
        same_computation(ours, theirs, torch.randn(2, 3, 32, 32))


def test_other_sizes_equal_timms():
    ours, theirs = (timm.create_model(f"{p}swin_tiny_patch4_window7_224", **PLANTED_SHAPE) for p in ("bias_lab_", ""))
    ours.load_state_dict(theirs.state_dict())
    changes = (
        dict(img_size=(48, 64)),  # windows keep their share of the map, here 6 x 8
        dict(img_size=(64, 64), window_size=(4, 4)),
        dict(patch_size=(4, 4)),
        dict(img_size=(40, 40)),
    )
    for change in changes:
        ours.set_input_size(**change)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm's, about the speed of its resampling
            theirs.set_input_size(**change)
        images = torch.randn(2, 3, *ours.patch_embed.img_size)
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), atol=1e-5, rtol=1e-5)
        assert [i["reduction"] for i in ours.feature_info] == [i["reduction"] for i in theirs.feature_info]


def test_inference_and_training_agree(randomise):
    """Attention uses SDPA without gradients, and is written out with them."""
    model, images = SwinTransformer(**PLANTED_SHAPE).eval(), torch.randn(2, 3, 32, 32)
    randomise(model)
    with torch.no_grad():
        fast = model(images)
    torch.testing.assert_close(fast, model(images), atol=1e-5, rtol=1e-5)


def block_calls(model, images, monkeypatch):
    """Return the logits of one inference, and the number of samples in each call of a block."""
    seen = []
    whole = fast_swin.run_block
    monkeypatch.setattr(
        fast_swin, "run_block", lambda block, x, padding: (seen.append(len(x)), whole(block, x, padding))[1]
    )
    with torch.no_grad():
        return model(images), seen


@pytest.mark.parametrize(("size", "first"), [(32, [2, 2, 1, 2, 2, 1]), (36, [1] * 10)])  # 36: windows not filled
def test_inference_goes_a_few_samples_at_a_time_and_computes_the_same(size, first, randomise, monkeypatch):
    model, images = SwinTransformer(**PLANTED_SHAPE | dict(img_size=size)).eval(), torch.randn(5, 3, size, size)
    randomise(model)
    expected = model(images)  # with gradients the whole batch goes at once
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(fast_swin, "TOKENS", model.layers[0].map_size[0] ** 2 + 50)  # for each thread
    got, seen = block_calls(model, images, monkeypatch)
    assert seen[: len(first)] == first
    assert seen[-1] == 5, "the few tokens of a later stage go at once"
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_hook_sees_the_whole_batch_as_maps(monkeypatch):
    model, images = SwinTransformer(**PLANTED_SHAPE).eval(), torch.randn(5, 3, 32, 32)
    monkeypatch.setattr(fast_swin, "TOKENS", 1)
    seen = []
    model.layers[0].blocks[0].mlp.register_forward_hook(lambda module, given, out: seen.append(out.shape))
    with torch.no_grad():
        model(images)
    assert seen == [(5, 16, 16, 16)]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:FutureWarning")
def test_a_traced_model_takes_another_batch(randomise, monkeypatch):
    model, images = SwinTransformer(**PLANTED_SHAPE).eval(), torch.randn(5, 3, 32, 32)
    randomise(model)
    monkeypatch.setattr(fast_swin, "TOKENS", 1)
    with torch.no_grad():
        traced = torch.jit.trace(model, images[:2], check_trace=False)
        torch.testing.assert_close(traced(images), model(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("state", ["training", "gradients"])
def test_a_training_batch_goes_at_once(state, monkeypatch):
    model, images = SwinTransformer(**PLANTED_SHAPE).train(state == "training"), torch.randn(5, 3, 32, 32)
    monkeypatch.setattr(fast_swin, "TOKENS", 1)
    seen = []
    whole = fast_swin.run_block
    monkeypatch.setattr(
        fast_swin, "run_block", lambda block, x, padding: (seen.append(len(x)), whole(block, x, padding))[1]
    )
    with torch.set_grad_enabled(state == "gradients"):
        model(images)
    assert set(seen) == {5}


def test_fresh_weights_have_timms_distribution(same_start):
    shape = dict(depths=(2, 2), num_heads=(3, 6), num_classes=100)
    same_start(*(timm.create_model(f"{p}swin_tiny_patch4_window7_224", **shape) for p in ("bias_lab_", "")))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (dict(in_chans=0), "0 channels"),
        (dict(num_classes=-2), "-2 classes"),
        (dict(global_pool="max"), "global_pool 'max' is unknown"),
        (dict(num_heads=(5, 6, 12, 24)), "5 heads don't divide a width of 96"),
        (dict(img_size=64, output=3), "unexpected keyword"),
    ],
    ids=str,
)
def test_values_that_no_swin_can_take(keywords, message):
    with pytest.raises((UserError, TypeError), match=message):
        timm.create_model("bias_lab_swin_tiny_patch4_window7_224", **keywords)


def test_stochastic_depth_rises_over_all_blocks():
    model = SwinTransformer(**dict(SMALL, img_size=32, window_size=4, drop_path_rate=0.4))
    rates = [block.drop_path.rate for stage in model.layers for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_a_new_head_with_a_pooling_that_is_none():
    with pytest.raises(UserError, match="global_pool 'token' is unknown"):
        timm.create_model("bias_lab_swin_micro", num_classes=2).reset_classifier(3, "token")
