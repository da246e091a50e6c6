import pytest
import timm
import torch
from torch import nn

from bias_lab import catalogue
from bias_lab.backbones import build, create
from bias_lab.backbones.small import SIZES, Residual, first_conv, set_drop_path, set_stem

MICRO = [name for name in catalogue.BACKBONES if name.endswith("_micro")]
MINI = [name for name in catalogue.BACKBONES if name.endswith("_mini")]


@pytest.mark.parametrize(("names", "side"), [(MICRO, 28), (MINI, 32)], ids=["micro", "mini"])
def test_one_architecture_each_within_2x_of_one_another(names, side):
    assert {catalogue.architecture(name) for name in names if not catalogue.traits(name).control} == set(
        catalogue.FAMILIES
    )
    assert spread(names, side, 1) < 2


def spread(names, side, channels):
    """Return the largest number of parameters over the smallest."""
    with torch.device("meta"):
        counts = [build.parameters(create(name, image_size=side, channels=channels, classes=10)) for name in names]
    return max(counts) / min(counts)


@pytest.mark.parametrize("size", ["micro", "mini"])
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3)])
def test_the_controls_are_as_large_as_the_others_of_their_size(size, side, channels):
    names = MICRO if size == "micro" else MINI
    assert {f"mlp_{size}", f"vit_{size}"} < set(names)
    assert spread([*names, f"vit_{size}_wide"], side, channels) < 2


@pytest.mark.parametrize("size", ["micro", "mini"])
def test_the_second_vit_is_wider_and_shallower(size):
    one, other = (create(f"vit_{size}{end}", image_size=32, channels=3, classes=10) for end in ("", "_wide"))
    assert other.embed_dim > one.embed_dim
    assert len(other.blocks) < len(one.blocks)
    assert other.patch_embed.grid_size == one.patch_embed.grid_size
    assert 0.5 < build.flops(other, 32, 3) / build.flops(one, 32, 3) < 1.1


@pytest.mark.parametrize("name", [name for name in MICRO if not catalogue.traits(name).control])
def test_the_last_map_of_a_28_pixel_image_is_at_least_4x4(name):
    model = create(name, image_size=28, channels=1, classes=10).eval()
    maps = model.forward_intermediates(torch.randn(1, 1, 28, 28), intermediates_only=True)
    assert min(maps[-1].shape[2:]) >= 4
    for y, info in zip(maps, model.feature_info, strict=True):
        assert y.shape[1] == info["num_chs"]
        assert y.shape[2] == -(-28 // info["reduction"])


@pytest.mark.parametrize(
    "name", ["resnet18", "efficientnet_b0", "mobilenetv3_large_100", "efficientvit_b0", "mobilevit_xxs"]
)
def test_an_open_stem_keeps_the_resolution(name):
    stock, model = timm.create_model(name, num_classes=3), timm.create_model(name, num_classes=3)
    set_stem(model, "open")
    assert first_conv(model).stride == (1, 1)
    factor = 4 if name == "resnet18" else 2
    before, after = ([i["reduction"] for i in m.feature_info][-1] for m in (stock, model))
    assert before == factor * after
    image = torch.randn(1, 3, 64, 64)
    sides = [m.eval().forward_intermediates(image, intermediates_only=True)[-1].shape[2] for m in (stock, model)]
    assert sides[1] == factor * sides[0]
    if name != "resnet18":  # its 7x7 convolution becomes a 3x3
        model.load_state_dict(stock.state_dict())
    set_stem(model, "open")
    assert first_conv(model).stride == (1, 1)


def test_a_micro_models_stem_can_halve():
    model = create("resnet_micro", image_size=64, channels=3, classes=10)
    assert first_conv(model).stride == (2, 2)
    assert model.feature_info[-1]["reduction"] == 16
    assert create("resnet_micro", image_size=64, channels=3, classes=10, stem="open").feature_info[-1]["reduction"] == 8


def test_the_cnns_are_timms_classes():
    with torch.device("meta"):
        models = {name: create(name, image_size=32, channels=1, classes=2) for name in SIZES}
    kinds = {name.split("_")[0]: type(model).__name__ for name, model in models.items()}
    assert kinds == dict(
        resnet="ResNet", efficientnet="EfficientNet", mobilenetv3="MobileNetV3", efficientvit="EfficientVit"
    )


def test_a_resnets_open_stem_is_initialised_like_its_other_convolutions():
    torch.manual_seed(0)
    model = create("resnet18", image_size=32, channels=3, classes=10)
    assert isinstance(model.maxpool, nn.Identity)
    assert model.conv1.weight.shape == (64, 3, 3, 3)
    assert model.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


def test_efficientvit_has_stochastic_depth():
    """Rates rise from 0 to the last branch. The names stay as in timm, and so does the output in evaluation."""
    torch.manual_seed(0)
    stock, model = (timm.create_model("efficientvit_b0", num_classes=3) for _ in range(2))
    set_drop_path(model, 0.3)
    model.load_state_dict(stock.state_dict(), strict=True)
    branches = [module for module in model.modules() if isinstance(module, Residual)]
    rates = [branch.drop_path.rate for branch in branches]
    assert rates == pytest.approx([0.3 * i / (len(rates) - 1) for i in range(len(rates))])
    assert len(rates) == sum(type(m).__name__ == "ResidualBlock" and m.shortcut is not None for m in stock.modules())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.eval()(images), stock.eval()(images))
    branch, x = branches[-1].train(), torch.randn(64, 128, 2, 2)
    branch.drop_path.rate = 0.5
    kept = (branch(x) - x).flatten(1).abs().amax(1) > 0
    assert 16 < kept.sum() < 48


def test_the_walk_of_a_cnns_head():
    """The last map, its mean and the logits have the shapes in docs/design.md, Shapes."""
    model = create("resnet18", image_size=32, channels=3, classes=8).eval()
    x = torch.randn(4, 512, 1, 1)
    assert model.forward_head(x, pre_logits=True).shape == (4, 512)
    assert torch.equal(model.forward_head(x, pre_logits=True), x.flatten(1))
    assert model.forward_head(x).shape == (4, 8)
