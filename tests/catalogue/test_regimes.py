"""Regimes by name, and what goes together."""

from dataclasses import fields

import pytest

from bias_lab.catalogue import REGIMES, check_regime, check_source
from bias_lab.definition import Run
from bias_lab.errors import UserError


def test_mae_is_refused_for_a_cnn_with_the_reason_and_the_backbones_that_can() -> None:
    why = "resnet_micro can't take the regime 'mae': .*visible patches.*vit_micro.*"
    with pytest.raises(UserError, match=why + "resnet_micro takes supervised, simmim, dino, formula$"):
        check_regime("resnet_micro", "mae")
    with pytest.raises(UserError, match="unknown regime 'simim'; did you mean 'simmim'"):
        check_regime("vit_micro", "simim")
    for regime in REGIMES:
        check_regime("vit_micro", regime)


def test_what_has_no_weights_takes_none_from_elsewhere() -> None:
    check_regime("pixels", "scratch")
    for regime in ("weights", "mae", "simmim", "dino", "supervised", "formula"):
        with pytest.raises(UserError, match=f"pixels has no weights, .* the regime '{regime}'; it takes scratch$"):
            check_regime("pixels", regime)
    for regime in ("scratch", "weights", "simmim", "dino", "supervised", "formula"):
        check_regime("mlp_micro", regime)


def test_a_source_that_a_regime_can_not_take_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"'supervised' pretrains with labels, so the target \('pool'\) can't be its source"
    ):
        check_source("supervised", "")
    with pytest.raises(UserError, match="the regime 'formula' can't pretrain on 'cifar10'; give fractals"):
        check_source("formula", "cifar10")
    with pytest.raises(UserError, match="unknown source 'fractal'; did you mean 'fractals'"):
        check_source("mae", "fractal")
    for regime, source in (("formula", "fractals"), ("supervised", "cifar10"), ("mae", ""), ("dino", "folder:0")):
        check_source(regime, source)


def test_rows_name_fields_of_a_run() -> None:
    names = {field.name for field in fields(Run)}
    for regime in REGIMES.values():
        assert {*regime.fields, *filter(None, [regime.starts_from])} <= names
        assert bool(regime.module) == (regime.starts_from == "pretraining")
