"""Names as plain data: families, what a backbone can take, nearest matches."""

import pytest

from bias_lab.catalogue import (
    BACKBONES,
    DATASETS,
    FAMILIES,
    REGIMES,
    architecture,
    check_regime,
    dataset,
    family,
    is_own,
    nearest,
)
from bias_lab.errors import UserError


def test_all_seven_architectures_have_a_micro_size() -> None:
    micro = {row.architecture for name, row in BACKBONES.items() if name.endswith("_micro")}
    assert micro == set(FAMILIES)


@pytest.mark.parametrize(
    ("name", "kind", "group"),
    [
        ("vit_micro", "vit", "transformer"),
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


def test_mae_is_refused_for_a_cnn_with_the_reason_and_the_way_out() -> None:
    why = "resnet_micro can't take the regime 'mae': .*visible patches.*vit_micro.*"
    with pytest.raises(UserError, match=why + "resnet_micro takes supervised, simmim, dino, formula$"):
        check_regime("resnet_micro", "mae")
    with pytest.raises(UserError, match="unknown regime 'simim'; did you mean 'simmim'"):
        check_regime("vit_micro", "simim")
    for regime in REGIMES:
        check_regime("vit_micro", regime)


def test_datasets_by_name() -> None:
    row = dataset("fashion_mnist_12k")
    assert (row.pool, row.test_images, row.classes, row.channels) == (10_000, 2_000, 10, 1)
    with pytest.raises(UserError, match="did you mean 'fashion_mnist_12k'"):
        dataset("fashion_mnist12k")
    for name, row in DATASETS.items():
        assert row.name == name
        assert len(row.class_counts) in (0, row.classes), name
        assert row.licence, name
        assert row.citation, name
