"""The device of a run, and whether it multiplies bf16."""

import pytest
import torch

from bias_lab.errors import UserError
from bias_lab.training import hardware

INTEL = "model name\t: Some CPU\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n"


@pytest.mark.parametrize(
    ("info", "pays"), [(INTEL, True), ("Features\t: fp asimd bf16\n", True), ("flags : avx2", False)]
)
def test_bf16_pays_on_a_cpu_with_a_unit_for_it(info: str, pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpuinfo", lambda: info)
    assert hardware.multiplies_bf16(torch.device("cpu")) is pays


def test_a_gpu_that_only_emulates_bf16_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert hardware.multiplies_bf16(torch.device("cuda")) is False


def test_what_linux_tells_is_read_and_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "cpuinfo").write_text(INTEL)
    monkeypatch.setattr(hardware, "Path", lambda _: tmp_path / "cpuinfo")
    assert hardware.cpuinfo() == INTEL
    monkeypatch.setattr(hardware, "Path", lambda _: tmp_path / "nowhere")
    assert hardware.cpuinfo() == ""


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is there")
    with pytest.raises(UserError, match="cuda:3"):
        hardware.choose_device("cuda:3")
    assert hardware.choose_device("auto") == torch.device("cpu")
