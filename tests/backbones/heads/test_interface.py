"""A head and a backbone as one model, for images that are rectangles."""

import pytest
import torch
from torch import nn

from bias_lab import catalogue
from bias_lab.backbones import build, create
from bias_lab.backbones.heads import interface
from bias_lab.backbones.heads.interface import dense, maps_of, spread
from bias_lab.errors import UserError

MICRO = [name for name in catalogue.BACKBONES if name.endswith("_micro") and catalogue.traits(name).head]
SIZE, CHANNELS, CLASSES = (36, 48), 2, 7


def model(name: str, head: str = "", size: tuple[int, int] = SIZE) -> interface.DenseModel:
    torch.manual_seed(0)
    encoder = create(name, image_size=size, channels=CHANNELS, classes=None)
    return dense(encoder, name, head=head, classes=CLASSES, channels=CHANNELS, image_size=size)


@pytest.mark.parametrize(
    ("name", "head"), [(n, h) for n in MICRO for h in catalogue.HEADS if catalogue.heads.can_have(n, h)]
)
def test_every_pair_gives_a_class_for_each_pixel_and_learns_in_every_part_that_it_uses(name: str, head: str) -> None:
    net = model(name, head)
    logits = net(torch.randn(2, CHANNELS, *SIZE))
    assert logits.shape == (2, CLASSES, *SIZE)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.head.parameters() if p.ndim > 1)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.encoder.parameters())


def test_a_cnn_takes_sides_that_its_stride_does_not_divide() -> None:
    for head in ("unet", "matched", "linear"):
        assert model("resnet_micro", head, (37, 45))(torch.randn(2, CHANNELS, 37, 45)).shape == (2, CLASSES, 37, 45)


def test_patches_that_do_not_fill_the_image_are_refused_with_sides_that_work() -> None:
    swin = create("swin_micro", image_size=30, channels=CHANNELS, classes=None, patch=4)  # cuts two pixels off
    with pytest.raises(
        UserError, match=r"patches of 4 pixels don't fill an image of 30x30; .*the nearest are 32 and 32"
    ):
        dense(swin, "swin_micro", head="", classes=CLASSES, channels=CHANNELS, image_size=30)


def test_the_head_is_the_classifier_and_its_parameters_are_not_the_backbones() -> None:
    net = model("vit_micro", "pyramid")
    bare = create("vit_micro", image_size=SIZE, channels=CHANNELS, classes=None)
    assert net.get_classifier() is net.head
    assert build.parameters(net) == build.parameters(bare)
    assert interface.parameters(net.head) > 0


def test_flops_of_a_linear_head_are_those_of_a_product() -> None:
    net = model("vit_micro", "linear")
    assert interface.head_flops(net, SIZE, CHANNELS) == 9 * 12 * 96 * CLASSES  # places, width, classes


def test_layers_of_the_encoder_lie_below_the_head() -> None:
    from timm.models._manipulate import group_parameters

    for name in ("vit_micro", "swin_micro", "resnet_micro"):
        net = model(name)
        bare = create(name, image_size=SIZE, channels=CHANNELS, classes=None)
        layers = group_parameters(net, net.group_matcher(), reverse=True)
        own = group_parameters(bare, bare.group_matcher(), reverse=True)
        assert {k: v for k, v in layers.items() if k.startswith("encoder.")} == {
            f"encoder.{k}": v for k, v in own.items()
        }
        assert all(v > max(own.values()) - 1 for k, v in layers.items() if k.startswith("head."))


def test_maps_are_those_of_the_encoder_and_measuring_them_changes_nothing() -> None:
    encoder = create("resnet_micro", image_size=SIZE, channels=CHANNELS, classes=None).train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    found = maps_of(encoder, CHANNELS, SIZE)
    assert [(at.channels, at.rows, at.columns) for at in found][-1] == (112, 5, 6)
    assert encoder.training
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_a_model_without_intermediates_is_refused() -> None:
    with pytest.raises(UserError, match="Linear has no forward_intermediates"):
        maps_of(nn.Linear(2, 2), 2, 4)


def test_spread_takes_the_last_and_no_map_twice() -> None:
    for count in range(1, 30):
        for most in range(1, 6):
            taken = spread(count, most)
            assert len(set(taken)) == len(taken) == min(count, most)
            assert taken[-1] == count - 1
            assert min(taken) >= 0
