"""Protocols by name."""

import pytest

from bias_lab.catalogue import PROTOCOLS, check_protocol
from bias_lab.errors import UserError


def test_what_trains_needs_a_learning_rate_and_what_does_not_needs_none() -> None:
    assert list(PROTOCOLS) == ["finetune", "linear_probe", "knn"]
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.needs_learning_rate == protocol.trains


def test_what_has_no_weights_is_read_out_and_not_trained() -> None:
    message = "pixels has no weights to train, so the protocol 'finetune' can't use it; protocols that can: "
    with pytest.raises(
        UserError, match=f"^{message}linear_probe, knn; a control that can be trained: mlp_micro, mlp_mini$"
    ):
        check_protocol("pixels", "finetune")
    for protocol in ("linear_probe", "knn"):
        check_protocol("pixels", protocol)
    for backbone in ("mlp_micro", "vit_micro", "my.module:factory"):
        for protocol in PROTOCOLS:
            check_protocol(backbone, protocol)
