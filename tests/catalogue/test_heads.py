"""Heads by name: which backbone can have which, and what its own is."""

import importlib

import pytest

from bias_lab.catalogue import ARCHITECTURES, BACKBONES, HEADS, check_head, head_of, head_words
from bias_lab.catalogue.heads import can_have
from bias_lab.errors import UserError


def test_rows_name_architectures_and_classes_that_are_there() -> None:
    for name, row in HEADS.items():
        assert row.name == name
        assert {*row.architectures, *row.excluded} <= set(ARCHITECTURES)
        where, _, kind = row.module.partition(":")
        assert hasattr(importlib.import_module(where), kind)
        assert bool(row.why) == bool(row.architectures or row.excluded)


def test_every_backbone_has_a_head_of_its_own_or_is_a_control() -> None:
    for name, row in BACKBONES.items():
        own = head_of(name, "")
        assert (own == "") == ARCHITECTURES[row.architecture].control
        if own:
            check_head(name, "")
            check_head(name, own)
            check_head(name, "matched")
    assert head_of("vit_micro", "") == "linear"
    assert {head_of(name, "") for name in ("swin_micro", "resnet18", "mobilevit_xxs", "timm:convnext_tiny")} == {"unet"}
    assert head_of("timm:vit_tiny_patch16_224", "") == "linear"
    assert can_have("my.module:net", "segvit")


@pytest.mark.parametrize(
    ("backbone", "head", "message"),
    [
        ("vit_micro", "unet", "vit_micro can't have the head 'unet': a plain ViT keeps one resolution.*swin_micro"),
        ("resnet_micro", "segvit", "resnet_micro can't have the head 'segvit': .*backbones that can: vit_micro"),
        ("swin_micro", "pyramid", "can't have the head 'pyramid': .*; swin_micro takes linear, unet,"),
        ("resnet_micro", "unett", "unknown head 'unett'; did you mean 'unet'"),
        ("pixels", "", "pixels gives no map of an image, so it can't segment"),
        ("mlp_micro", "linear", "mlp_micro gives no map of an image"),
    ],
)
def test_a_wrong_pair_is_refused_with_the_reason_and_the_way_out(backbone: str, head: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_head(backbone, head)


def test_heads_in_words() -> None:
    assert head_words("") == "own head"
    assert head_words("segvit") == "attention-to-mask head"
    assert head_words("a_head_of_tomorrow") == "a head of tomorrow"
