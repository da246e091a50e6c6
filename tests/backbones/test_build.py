import shutil
import subprocess
import sys
import textwrap
import warnings

import pytest
import timm
import timm.optim
import timm.utils
import torch
from torch import nn

from bias_lab import catalogue
from bias_lab.backbones import build, create, mlp, mobilevit, pixels, small, swin, vit
from bias_lab.errors import UserError

BIG = ("_small_", "_base_", "resnet50", "_384")  # 20 M parameters and more, or many tokens, take seconds each
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if any(part in name for part in BIG) else ())
    for name in catalogue.BACKBONES
]
OURS = ["vit_micro", "swin_micro", "mobilevit_micro"]
TRACED = ["vit_micro", *(pytest.param(name, marks=pytest.mark.slow) for name in OURS[1:])]  # 5 seconds each


def micro(name, **keywords):
    return create(name, **dict(image_size=28, channels=1, classes=10) | keywords)


@pytest.mark.parametrize("name", NAMES)
def test_the_interface_that_every_backbone_answers(name):
    """docs/design.md, A backbone's interface, at 32 pixels. Large ViTs get 64 tokens, not 1,024."""
    torch.manual_seed(0)
    patch = 4 if catalogue.architecture(name) == "vit" and any(part in name for part in BIG) else None
    model, images = create(name, image_size=32, channels=3, classes=5, patch=patch).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits, features = model(images), model.forward_features(images)
        assert logits.shape == (2, 5)
        torch.testing.assert_close(model.forward_head(features), logits, atol=1e-5, rtol=1e-4)
        assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)
        last, maps = model.forward_intermediates(images)
        assert last.shape == features.shape
        assert [y.shape[1] for y in maps] == [info["num_chs"] for info in model.feature_info]
        assert [y.shape[2] for y in maps] == [-(-32 // info["reduction"]) for info in model.feature_info]
        only = model.forward_intermediates(images, indices=1, norm=False, output_fmt="NCHW", intermediates_only=True)
        torch.testing.assert_close(only[0], maps[-1])
    channels_last = catalogue.architecture(name) in ("vit", "swin")
    assert model.num_features == features.shape[-1 if channels_last else 1]
    assert model.num_classes == 5
    assert model.get_classifier().out_features == 5
    for coarse in (False, True):
        groups = timm.models.group_parameters(model, model.group_matcher(coarse=coarse))
        assert sum(len(names) for names in groups.values()) == len(list(model.parameters()))
    for key in ("first_conv", "classifier"):
        model.get_submodule(model.pretrained_cfg[key])
    if catalogue.architecture(name) in ("vit", "swin"):
        assert model.no_weight_decay() <= {n for n, _ in model.named_parameters()}
        model.set_input_size(img_size=(48, 48))
        assert model(torch.randn(1, 3, 48, 48)).shape == (1, 5)
        model.set_input_size(img_size=(32, 32))
    model.set_grad_checkpointing(True)
    model.train()(images).sum().backward()
    model.reset_classifier(7)
    assert model.eval()(images).shape == (2, 7)
    model.reset_classifier(0)
    assert model(images).shape == (2, model.head_hidden_size)


@pytest.mark.parametrize("name", OURS)
def test_checkpointing_changes_no_gradient(name):
    model, images = micro(name), torch.randn(2, 1, 28, 28)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(images).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", OURS)
def test_timms_tools(name):
    features = timm.create_model(f"bias_lab_{name}", features_only=True, out_indices=(0, 1), in_chans=1)
    maps = features(torch.randn(1, 1, 28, 28))
    assert [y.shape[1] for y in maps] == features.feature_info.channels()
    whole = timm.create_model(f"bias_lab_{name}", in_chans=1)
    whole.load_state_dict(features.model.state_dict(), strict=False)
    torch.testing.assert_close(
        features.eval()(torch.ones(1, 1, 28, 28))[1],
        whole.eval().forward_intermediates(torch.ones(1, 1, 28, 28), intermediates_only=True)[1],
    )
    groups = timm.optim.param_groups_layer_decay(whole, layer_decay=0.5, no_weight_decay_list=no_decay(whole))
    assert len({group["lr_scale"] for group in groups}) >= 4
    assert sum(len(group["params"]) for group in groups) == len(list(whole.parameters()))
    average = timm.utils.ModelEmaV3(whole, decay=0.5)
    before = average.module.get_classifier().bias.clone()
    with torch.no_grad():
        whole.get_classifier().bias.add_(1.0)
    average.update(whole)
    torch.testing.assert_close(average.module.get_classifier().bias, before + 0.5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mobilevit_xxs"])
def test_features_only_gives_the_maps_that_timm_s_model_gives(name):
    ours = timm.create_model(f"bias_lab_{name}", features_only=True)
    theirs = timm.create_model(name, features_only=True)
    for tell in ("channels", "reduction"):
        assert getattr(ours.feature_info, tell)() == getattr(theirs.feature_info, tell)(), tell
    assert ours.feature_info.out_indices == theirs.feature_info.out_indices


@pytest.mark.parametrize("name", ["vit_micro", "swin_micro", "mobilevit_micro", "efficientnet_micro"])
def test_features_only_of_a_small_model_gives_the_maps_that_it_has(name):
    features = timm.create_model(f"bias_lab_{name}", features_only=True)
    with torch.no_grad():
        maps = features(torch.zeros(1, 3, 28, 28))
    assert [y.shape[1] for y in maps] == features.feature_info.channels()


def no_decay(model):
    return model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()


@pytest.mark.parametrize("name", TRACED)
def test_export_and_compile_in_one_graph(name):
    model, images = micro(name).eval(), torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        expected = model(images)
        torch._dynamo.reset()
        torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(images), expected)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", TRACED)
def test_an_export_takes_any_number_of_images(name):
    model, images = micro(name).eval(), torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        batch = torch.export.Dim("B", min=1, max=64)
        exported = torch.export.export(model, (images[:2],), dynamic_shapes=({0: batch},)).module()
        torch.testing.assert_close(exported(images), model(images), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_compiled_training(name):
    torch._dynamo.reset()
    model, images = micro(name), torch.randn(4, 1, 28, 28)
    model(images).square().mean().backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    torch.compile(model, fullgraph=True, backend="aot_eager")(images).square().mean().backward()
    for n, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[n], atol=1e-5, rtol=1e-3, msg=lambda text, n=n: f"{n}: {text}")


@pytest.mark.parametrize("name", OURS)
def test_autocast_and_channels_last(name):
    model, images = micro(name).eval(), torch.randn(2, 1, 28, 28)
    expected = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(images)
        half.float().sum().backward()
        with torch.no_grad():
            fast = model(images)
    assert half.dtype == fast.dtype == torch.bfloat16
    for y in (half, fast):
        assert (y - expected).abs().max() < 0.05 * max(1, expected.abs().max())
    other = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(other), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mobilevit_xxs"])
def test_a_timm_checkpoint_loads_and_ours_loads_in_timm(name, tmp_path):
    from safetensors.torch import load_file, save_file

    small = dict(num_classes=4) | (dict(depths=(1, 1), num_heads=(3, 6)) if "swin" in name else {})
    small |= dict(depth=1) if "vit_tiny" in name else {}
    theirs = timm.create_model(name, **small)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours = timm.create_model(f"bias_lab_{name}", checkpoint_path=tmp_path / "theirs.safetensors", **small)
    save_file(ours.state_dict(), tmp_path / "ours.safetensors")
    again = timm.create_model(name, checkpoint_path=tmp_path / "ours.safetensors", **small)
    for key, value in load_file(tmp_path / "theirs.safetensors").items():
        assert torch.equal(again.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("vit_tiny_patch16_224", dict(img_size=48, patch_size=8, depth=1)),
        ("swin_tiny_patch4_window7_224", dict(img_size=64, window_size=4, depths=(1, 1), num_heads=(3, 6))),
    ],
)
def test_weights_of_another_size_are_resampled_as_timm_does(name, other, tmp_path):
    torch.manual_seed(0)
    built = {key: value for key, value in other.items() if key in ("depth", "depths", "num_heads")}
    torch.save(timm.create_model(name, **built).state_dict(), tmp_path / "weights.pth")
    given = dict(pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / "weights.pth")), **other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's, about the speed of its resampling
        ours, theirs = (timm.create_model(f"{prefix}{name}", **given) for prefix in ("bias_lab_", ""))
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key


def test_pretrained_weights_are_timms():
    """A name has timm's own configuration, which says where its weights are. The test needs no hub."""
    ours = timm.create_model("bias_lab_swin_tiny_patch4_window7_224", img_size=64, window_size=4, num_classes=8)
    theirs = timm.get_pretrained_cfg("swin_tiny_patch4_window7_224")
    assert ours.pretrained_cfg["hf_hub_id"] == theirs.hf_hub_id
    assert ours(torch.randn(1, 3, 64, 64)).shape == (1, 8)


# --- names and settings ----------------------------------------------------------------------------------------------


def test_every_model_of_the_lab_has_a_row_and_a_size():
    sizes = {name for module in (vit, swin, mobilevit, small, mlp, pixels) for name in module.SIZES}
    assert sizes == {name for name, row in catalogue.BACKBONES.items() if row.ours}
    assert all(timm.is_model(f"bias_lab_{name}") for name in sizes)


def test_a_labs_name_wins_and_timms_can_be_forced():
    ours = create("vit_tiny_patch16_224", image_size=32, channels=3, classes=2)
    theirs = create("timm:vit_tiny_patch16_224", image_size=32, channels=3, classes=2)
    assert type(ours).__module__ == "bias_lab.backbones.vit"
    assert type(theirs).__module__ == "timm.models.vision_transformer"
    assert ours.patch_embed.patch_size == theirs.patch_embed.patch_size == (2, 2)


@pytest.mark.parametrize(
    ("name", "image_size", "expected"),
    [
        ("vit_micro", 28, (4, None, None)),
        ("vit_micro", 32, (4, None, None)),
        ("vit_micro", 64, (8, None, None)),
        ("vit_micro", 30, (5, None, None)),
        ("swin_micro", 28, (2, 7, None)),
        ("swin_micro", 32, (2, 4, None)),
        ("swin_micro", 64, (4, 4, None)),
        ("vit_micro_wide", 28, (4, None, None)),
        ("mlp_micro", 32, (None, None, None)),
        ("pixels", 32, (None, None, None)),
        ("resnet_micro", 28, (None, None, "open")),
        ("resnet_micro", 64, (None, None, "stock")),
        ("resnet18", 64, (None, None, "open")),
        ("resnet18", 224, (None, None, "stock")),
        ("vit_base_patch16_224", 224, (16, None, None)),
        ("vit_base_patch16_224", 384, (16, None, None)),
        ("swin_tiny_patch4_window7_224", 224, (4, 7, None)),
        ("swin_tiny_patch4_window7_224", 64, (2, 4, None)),
        ("timm:deit3_small_patch16_224", 64, (4, None, None)),
        ("timm:swin_s3_tiny_224", 224, (4, 7, None)),
        ("timm:convnext_atto", 64, (None, None, None)),
    ],
)
def test_settings(name, image_size, expected):
    chosen = build.settings(name, image_size=image_size)
    assert (chosen["patch"], chosen["window"], chosen["stem"]) == expected


def test_without_classes_the_features_come_out():
    model = micro("vit_micro", classes=None).eval()
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, model.head_hidden_size)


@pytest.mark.parametrize("name", [name for name in catalogue.BACKBONES if name.endswith(("_micro", "_mini"))])
def test_stochastic_depth_reaches_every_backbone(name, randomise):
    """The strong recipe sets it for every backbone, so none may take the rate and drop nothing."""
    images = torch.randn(4, 1, 28, 28)
    for rate in (0.0, 0.9):
        model = micro(name, drop_path=rate).train()
        randomise(model)  # a fresh residual branch may be 0
        outputs = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            outputs.append(model(images))
        assert torch.equal(*outputs) == (rate == 0)


def test_what_is_given_is_kept():
    assert build.settings("vit_micro", image_size=28, patch=7)["patch"] == 7
    assert micro("vit_micro", patch=7).patch_embed.grid_size == (4, 4)
    assert micro("swin_micro", window=5).layers[0].blocks[0].attn.window_size == (5, 5)
    assert micro("resnet_micro", stem="stock").conv1.stride == (2, 2)


def test_any_timm_model_is_a_backbone():
    model = create("convnext_atto", image_size=64, channels=1, classes=3)
    assert model(torch.randn(1, 1, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("vit_mirco", {}, "^unknown backbone 'vit_mirco'; did you mean 'vit_micro'\\?"),
        ("timm:resnet81", {}, "^unknown backbone 'resnet81'; did you mean 'resnet[0-9]+'"),
        ("vit_micro", dict(patch=5), "^patches of 5x5 don't fill a 28x28 image; patches of 4x4 do$"),
        ("vit_micro", dict(channels=0), "^0 channels"),
        (
            "vit_micro",
            dict(classes=0),
            "^0 classes are too few; give 1 or more, or None for no classifier$",
        ),
        ("vit_micro", dict(classes=-1), "^-1 classes"),
        ("vit_micro", dict(image_size=0), "^an image size of 0 pixels is too small; give 1 or more$"),
        ("resnet18", dict(image_size=0), "^an image size of 0 pixels is too small"),
        ("resnet_micro", dict(stem="opne"), "^unknown stem 'opne'; did you mean 'open'\\?$"),
        ("vgg11", dict(drop_path=0.1), "^vgg11 does not take drop_path_rate=0.1$"),
        ("nowhere.at_all:make", {}, "^no module 'nowhere.at_all'"),
        ("timm:", {}, "^unknown backbone ''"),
    ],
    ids=str,
)
def test_one_line_for_a_mistake(name, keywords, message):
    with pytest.raises(UserError, match=message) as caught:
        micro(name, **keywords)
    assert "\n" not in str(caught.value)


def test_an_own_backbone(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        textwrap.dedent(
            """
            import timm
            from torch import nn

            def thin(num_classes, in_chans):
                return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

            def changed(**kwargs):
                return timm.create_model("bias_lab_vit_micro", depth=2, **kwargs)

            def resnet(**kwargs):
                return timm.create_model("resnet10t", **kwargs)

            def wrong(num_classes, in_chans):
                return "model"
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    assert micro("my_models:thin")(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    model = micro("my_models:changed", drop_path=0.1)
    assert len(model.blocks) == 2
    assert model.blocks[-1].drop_path.rate == 0.1
    assert micro("my_models:resnet").eval()(torch.randn(1, 1, 28, 28)).shape == (1, 10)  # it takes no img_size
    assert micro("my_models:changed", patch=7).patch_embed.patch_size == (7, 7)
    with pytest.raises(UserError, match="^my_models:thin does not take patch_size=7$"):
        micro("my_models:thin", patch=7)
    with pytest.raises(UserError, match="^unknown factory of my_models 'thing'; did you mean 'thin'"):
        micro("my_models:thing")
    place = r"\(.*my_models.py, line \d+\)"
    said = f"^the factory my_models:wrong returned an object of the type str {place}; a torch.nn.Module is needed$"
    with pytest.raises(UserError, match=said):
        micro("my_models:wrong")


def test_parameters_leave_the_classifier_out():
    assert build.parameters(micro("vit_micro", classes=10)) == build.parameters(micro("vit_micro", classes=1000))
    linear = nn.Linear(3, 4)
    assert build.parameters(linear) == 16


def test_flops_of_a_vit_by_hand():
    """Count multiply-adds of the patches, of a block's projections, scores, mixture and MLP, and of the head.

    The last block computes one token alone.
    """
    N, D, patches, values, depth = 50, 96, 49, 16, 4
    block = N * 12 * D * D + 2 * N * N * D
    last = N * 2 * D * D + 10 * D * D + 2 * N * D  # keys and values of all tokens, the rest of the class token
    expected = patches * values * D + (depth - 1) * block + last + D * 10
    model = micro("vit_micro").train()
    assert build.flops(model, 28, 1) == expected
    assert model.training


def test_importing_the_light_half_imports_no_torch():
    code = "import sys, bias_lab.catalogue as c; c.choose_patch(64, 28, 4); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- sizes and training ----------------------------------------------------------------------------------------------

PUBLISHED = [
    ("vit_tiny_patch16_224", 224),
    ("swin_tiny_patch4_window7_224", 224),
    ("mobilevit_xxs", 256),
    ("resnet18", 224),
    ("efficientnet_b0", 224),
    ("mobilenetv3_large_100", 224),
    ("efficientvit_b0", 224),
]


def two_steps(name, side, channels=3):
    """Do two optimizer steps on two images. Check that losses and gradients are finite and the head changes."""
    torch.manual_seed(0)
    model = create(name, image_size=side, channels=channels, classes=4, drop_path=0.1).train()
    before = model.get_classifier().weight.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images, labels = torch.randn(2, channels, side, side), torch.tensor([0, 3])
    for _ in range(2):
        loss = nn.functional.cross_entropy(model(images), labels)
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert not torch.equal(model.get_classifier().weight, before)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), PUBLISHED)
def test_published_sizes_train(name, side):
    assert build.settings(name, image_size=side) == dict(
        patch={"vit": 16, "swin": 4}.get(catalogue.architecture(name)),
        window=7 if "swin" in name else None,
        stem=None if "patch" in name else "stock",
    )
    two_steps(name, side)


@pytest.mark.slow
@pytest.mark.parametrize("side", [28, 32, 64])
@pytest.mark.parametrize("name", [name for name in catalogue.BACKBONES if name.endswith(("_micro", "_mini"))])
def test_small_sizes_train(name, side):
    two_steps(name, side, channels=1)


@pytest.mark.slow
def test_inductor_computes_the_same():
    """torch.compile with its defaults, forward and backward. It needs a C++ compiler, and a minute for one model."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler for torch.compile's default backend")
    torch._dynamo.reset()
    model, images = micro("vit_micro"), torch.randn(4, 1, 28, 28)
    expected = model(images)
    expected.square().mean().backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters()}
    model.zero_grad()
    given = torch.compile(model, fullgraph=True)(images)
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-4)
    given.square().mean().backward()
    floor = 1e-3 * max(grad.abs().max() for grad in gradients.values())
    for key, p in model.named_parameters():
        assert (p.grad - gradients[key]).abs().max() <= 1e-3 * max(gradients[key].abs().max(), floor), key


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mobilevit_xxs"])
def test_dropping_is_timms_draw_for_draw(name, randomise):
    """With the same seed, dropout and stochastic depth in training give timm's logits."""
    small = dict(num_classes=4, drop_rate=0.3, drop_path_rate=0.5)
    small |= dict(img_size=64, depth=3) if "vit_tiny" in name else {}
    small |= dict(img_size=64, window_size=4, depths=(1, 2), num_heads=(3, 6)) if "swin" in name else {}
    ours, theirs = (timm.create_model(f"{prefix}{name}", **small).train() for prefix in ("bias_lab_", ""))
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict())
    images, logits = torch.randn(8, 3, 64, 64), []
    for model in (ours, theirs):
        torch.manual_seed(3)
        logits.append(model(images))
    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mobilevit_xxs"])
def test_layer_decay_is_timms(name):
    """timm's tool gives each parameter the learning rate and weight decay of timm's own model."""
    scales = []
    for prefix in ("bias_lab_", ""):
        model = timm.create_model(f"{prefix}{name}")
        groups = timm.optim.param_groups_layer_decay(model, layer_decay=0.7, no_weight_decay_list=no_decay(model))
        names = {id(p): key for key, p in model.named_parameters()}
        scales.append({names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]})
    assert scales[0] == scales[1]


def test_a_dynamic_image_size_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="vit_micro does not take dynamic_img_size=True"):
        timm.create_model("bias_lab_vit_micro", dynamic_img_size=True)
    assert timm.create_model("bias_lab_vit_micro", dynamic_img_size=False).patch_embed.img_size == (28, 28)


# --- rectangles ------------------------------------------------------------------------------------------------------

SMALL = [name for name in catalogue.BACKBONES if name.endswith(("_micro", "_mini"))] + ["pixels"]
OTHERS = ("resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mobilevit_xxs", "efficientvit_b0")
TIMM = ("timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224", "convnext_atto", "resnet10t")


@pytest.mark.parametrize("name", [*SMALL, *OTHERS, *TIMM])
def test_a_model_takes_both_sides_of_a_rectangle(name: str) -> None:
    size = (96, 128) if name not in SMALL else (24, 40)
    model = create(name, image_size=size, channels=3, classes=5).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, *size)).shape == (1, 5)
        maps = model.forward_intermediates(torch.zeros(1, 3, *size), intermediates_only=True)
    assert all(x.ndim == 4 for x in maps)
    if maps[-1].shape[2] > 1:
        assert maps[-1].shape[3] > maps[-1].shape[2]
    assert build.flops(model, size, 3) > 0


def test_a_square_given_as_two_sides_is_that_square() -> None:
    for name in ("vit_micro", "swin_mini", "resnet_micro", "mobilevit_xxs"):
        assert build.settings(name, image_size=(48, 48)) == build.settings(name, image_size=48)
    for side in range(8, 300):
        assert catalogue.choose_patch((side, side), 224, 16) == catalogue.choose_patch(side, 224, 16)
        assert catalogue.choose_window((side, side), 7) == catalogue.choose_window(side, 7)


@pytest.mark.parametrize("name", ["vit_micro", "swin_micro", "timm:vit_tiny_patch16_224"])
def test_sides_that_no_patch_divides_are_refused_with_those_that_work(name: str) -> None:
    with pytest.raises(
        UserError, match=r"don't fill an image of 97x128; multiples of \d+ work, the nearest are \d+ and"
    ):
        create(name, image_size=(97, 128), channels=3, classes=5)
    with pytest.raises(UserError, match=r"patches of 5 pixels don't fill an image of 96x128; .* are 95 and 130"):
        create(name, image_size=(96, 128), channels=3, classes=5, patch=5)
    with pytest.raises(UserError, match=r"don't fill an image of 33x50"):  # 1 divides both, and gives 1,650 patches
        create(name, image_size=(33, 50), channels=3, classes=5)


def test_a_side_below_one_pixel_is_refused() -> None:
    with pytest.raises(UserError, match="is too small"):
        create("resnet_micro", image_size=(96, 0), channels=3, classes=5)
