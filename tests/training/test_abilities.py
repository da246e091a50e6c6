"""Which pretrainings a backbone can take, found by a step of each."""

import json
import subprocess
import sys

import pytest

from bias_lab.catalogue import REGIMES
from bias_lab.training.abilities import refusals


def test_a_cnn_takes_all_but_mae_and_says_why() -> None:
    why = refusals("resnet_micro", image_size=28, channels=1)
    assert set(why) == {name for name, row in REGIMES.items() if row.module}
    assert [name for name, reason in why.items() if reason] == ["mae"]
    assert "plain ViT" in why["mae"] or "it has no" in why["mae"]


@pytest.mark.slow
def test_a_process_of_its_own_prints_it_for_a_user_s_backbone() -> None:
    words = [sys.executable, "-m", "bias_lab.training.abilities", "tests.training.tiny:tiny", "28", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    why = json.loads(done.stdout.splitlines()[-1])
    assert not why["supervised"]
    assert "forward_features" in why["dino"]
