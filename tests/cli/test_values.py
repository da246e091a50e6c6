"""Values of flags are read as runs hold them."""

import argparse

import pytest

from bias_lab.cli import values
from bias_lab.errors import UserError


def test_channel_values_are_read_as_a_run_holds_them() -> None:
    assert values.channels("0.50, .25,1") == "0.5,0.25,1"
    assert values.channels("0.5") == "0.5"
    for wrong in ("0.5,0.5", "red", "1.5,0.5,0.5", "nan,0.5,0.5", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a value from 0 to 1 for each channel"):
            values.channels(wrong)


def test_a_name_is_one_of_several() -> None:
    assert values.one_of("W&B mode", "offline", ("offline", "online")) == "offline"
    with pytest.raises(UserError, match="unknown W&B mode 'onlin'; did you mean 'online'"):
        values.one_of("W&B mode", "onlin", ("offline", "online"))
