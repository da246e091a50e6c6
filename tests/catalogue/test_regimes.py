"""Regimes by name."""

import pytest

from bias_lab.catalogue import (
    REGIMES,
    check_regime,
)
from bias_lab.errors import UserError


def test_mae_is_refused_for_a_cnn_with_the_reason_and_the_way_out() -> None:
    why = "resnet_micro can't take the regime 'mae': .*visible patches.*vit_micro.*"
    with pytest.raises(UserError, match=why + "resnet_micro takes supervised, simmim, dino, formula$"):
        check_regime("resnet_micro", "mae")
    with pytest.raises(UserError, match="unknown regime 'simim'; did you mean 'simmim'"):
        check_regime("vit_micro", "simim")
    for regime in REGIMES:
        check_regime("vit_micro", regime)
