"""The cores and GPUs that a process may use."""

import os
from pathlib import Path

import pytest

from bias_lab import machine


@pytest.mark.parametrize(("text", "expected"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", None)])
def test_the_quota_of_a_container_limits_the_cores(tmp_path: Path, text: str, expected: int | None) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    mine = len(os.sched_getaffinity(0))
    assert machine.cores(quota) == min(mine, expected or mine)
    assert machine.cores(tmp_path / "absent") == mine


def test_gpus_are_those_in_cuda_visible_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert machine.gpus() == ["1", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpus() == []
