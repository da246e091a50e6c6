"""Test the table of backbones and architectures."""

import pytest

from bias_lab.catalogue import (
    BACKBONES,
    FAMILIES,
    architecture,
    family,
    is_own,
    nearest,
    traits,
)


def test_all_seven_architectures_have_a_micro_size() -> None:
    micro = {row.architecture for name, row in BACKBONES.items() if name.endswith("_micro")}
    assert micro - {"mlp"} == set(FAMILIES)


def test_controls_belong_to_no_family_that_is_compared() -> None:
    controls = {name for name in BACKBONES if traits(name).control}
    assert controls == {"mlp_micro", "mlp_mini", "pixels"}
    assert {family(name) for name in controls} == {"other"}
    assert not {architecture(name) for name in controls} & set(FAMILIES)
    assert traits("mlp_micro").learns
    assert not traits("pixels").learns
    assert not traits("my.module:factory").control  # a guest's row of defaults
    assert not traits("vit_micro_wide").control  # a plain ViT
    assert {name for name, row in BACKBONES.items() if row.variant} == {"vit_micro_wide", "vit_mini_wide"}


@pytest.mark.parametrize(
    ("name", "kind", "group"),
    [
        ("vit_micro", "vit", "transformer"),
        ("vit_micro_wide", "vit", "transformer"),
        ("mlp_micro", "mlp", "other"),
        ("bias_lab_mlp_micro", "mlp", "other"),
        ("bias_lab_pixels", "pixels", "other"),
        ("pixels", "pixels", "other"),
        ("swin_micro", "swin", "transformer"),
        ("mobilevit_micro", "mobilevit", "hybrid"),
        ("efficientvit_micro", "efficientvit", "hybrid"),
        ("resnet_micro", "resnet", "cnn"),
        ("resnet18", "resnet", "cnn"),
        ("timm:resnet18", "resnet", "cnn"),
        ("bias_lab_vit_tiny_patch16_224", "vit", "transformer"),
        ("deit_tiny_patch16_224", "vit", "transformer"),
        ("mobilenetv3_large_100", "mobilenetv3", "cnn"),
        ("efficientnet_b0", "efficientnet", "cnn"),
        ("tf_efficientnet_lite0", "efficientnet", "cnn"),
        ("efficientvit_b1", "efficientvit", "hybrid"),
        ("convnext_tiny", "convnext_tiny", "other"),
        ("my.module:factory", "my.module:factory", "other"),
    ],
)
def test_architecture_and_family_of_any_name(name: str, kind: str, group: str) -> None:
    assert architecture(name) == kind
    assert family(name) == group


def test_own_backbones_are_told_from_timms() -> None:
    assert is_own("package.module:factory")
    assert not is_own("timm:resnet18")
    assert not is_own("resnet18")


def test_a_slip_is_told_from_another_model() -> None:
    assert nearest("resnet_mirco") == "resnet_micro"
    assert nearest("deit_tiny_patch16_242") == ""  # other digits, another model
    assert nearest("deit_tny_patch16_224") == "deit_tiny_patch16_224"
    assert nearest("resnet_micro") == nearest("resnet50") == nearest("my.module:resnet_mirco") == ""
