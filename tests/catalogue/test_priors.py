"""Priors by name: one spelling for one combination, and which backbones can take them."""

import importlib

import pytest

from bias_lab import catalogue
from bias_lab.catalogue import ARCHITECTURES, PRIORS, Prior, check_priors, join_priors, parse_priors, prior_words
from bias_lab.catalogue import priors as module
from bias_lab.errors import UserError

BOTH = "mean_pooling+sincos_positions"
LOCAL = Prior(
    name="local_attention", module="m:L", words="local attention", architectures=("vit",), why="-", number="window"
)


def test_rows_name_architectures_and_classes_that_are_there() -> None:
    for name, row in PRIORS.items():
        assert row.name == name
        assert set(row.architectures) <= set(ARCHITECTURES)
        assert not set(name) & set("+:")
        where, _, kind = row.module.partition(":")
        assert hasattr(importlib.import_module(where), kind)


def test_no_text_is_no_prior_and_several_are_joined_in_order() -> None:
    assert parse_priors("") == ()
    assert parse_priors("sincos_positions") == (("sincos_positions", None),)
    assert parse_priors(BOTH) == (("mean_pooling", None), ("sincos_positions", None))
    assert join_priors(["sincos_positions", "mean_pooling"]) == BOTH
    assert join_priors([]) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sincos_position", "unknown prior 'sincos_position'; did you mean 'sincos_positions'"),
        ("sincos_positions+", "unknown prior ''"),
        ("sincos_positions+mean_pooling", "are not sorted; write mean_pooling\\+sincos_positions"),
        ("mean_pooling+mean_pooling", "the prior 'mean_pooling' is named twice"),
        ("mean_pooling:3", "prior 'mean_pooling:3': mean_pooling takes no number; write mean_pooling"),
        ("mean_pooling:", "mean_pooling takes no number"),
        ("local_attention", "local_attention needs a whole number, the window; for example local_attention:3"),
        ("local_attention:03", "needs a whole number"),
        ("local_attention:-3", "needs a whole number"),
        ("local_attention:²", "needs a whole number"),
        ("local_attention:0", "0 is below 1"),
        ("local_attention:3+local_attention:5", "the prior 'local_attention' is named twice"),
    ],
)
def test_every_other_spelling_is_refused(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRIORS, "local_attention", LOCAL)
    with pytest.raises(UserError, match=message):
        parse_priors(text)


def test_a_prior_may_take_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRIORS, "local_attention", LOCAL)
    assert parse_priors("local_attention:3+mean_pooling") == (("local_attention", 3), ("mean_pooling", None))
    assert prior_words("local_attention:3+mean_pooling") == "local attention (window 3) and mean pooling"


@pytest.mark.parametrize(
    ("backbone", "text", "reason"),
    [
        ("resnet_micro", "mean_pooling", "only a plain ViT reads its class from a class token; .*vit_micro"),
        ("swin_micro", "sincos_positions", "only a plain ViT"),
        ("vit_micro", "no_batch_norm", "it replaces the batch norms of a ResNet; .*resnet_micro"),
        ("mlp_micro", "mean_pooling", "only a plain ViT"),
        ("pixels", "mean_pooling", "only a plain ViT"),
        ("my.module:vit", "mean_pooling", "built elsewhere"),
        ("timm:vit_tiny_patch16_224", "mean_pooling", "built elsewhere"),
        ("vit_medium_patch16_gap_240", "mean_pooling", "built elsewhere"),
        ("resnet34", "no_batch_norm", "built elsewhere"),
    ],
)
def test_a_backbone_that_can_not_take_a_prior_is_refused_with_the_reason(backbone: str, text: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"{backbone} can't take the prior '{text}': .*{reason}"):
        check_priors(backbone, text)


@pytest.mark.parametrize("backbone", ["vit_micro", "vit_micro_wide", "vit_mini", "deit_tiny_patch16_224"])
def test_a_plain_vit_of_the_lab_takes_both_of_its_priors(backbone: str) -> None:
    check_priors(backbone, BOTH)
    check_priors(backbone, "")


def test_priors_in_words() -> None:
    assert prior_words("") == "no prior"
    assert prior_words("no_batch_norm") == "group norm instead of batch norm"
    assert prior_words("a_prior_of_tomorrow:7") == "a prior of tomorrow (7)"
    assert prior_words("a+b+c") == "a, b and c"
    assert catalogue.PRIORS is module.PRIORS
