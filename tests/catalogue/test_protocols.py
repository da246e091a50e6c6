"""Protocols by name."""

from bias_lab.catalogue import PROTOCOLS


def test_what_trains_needs_a_learning_rate_and_what_does_not_needs_none() -> None:
    assert list(PROTOCOLS) == ["finetune", "linear_probe", "knn"]
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.needs_learning_rate == protocol.trains
