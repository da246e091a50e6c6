"""Choose and describe the device that a run is computed on."""

import os
import platform
import re
from pathlib import Path

import torch

from bias_lab.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device of a name, where `auto` is a GPU if there is one. Raise UserError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= count:
        raise UserError(
            f"device '{name}' does not exist here",
            "devices: " + ", ".join(["cpu", *(f"cuda:{k}" for k in range(count))]),
            "leave out --device to use the fastest",
        )
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Return the device's name for people: the GPU's, or the machine and its count of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"


def cpuinfo() -> str:
    """Return Linux's description of the processor, and an empty string elsewhere."""
    place = Path("/proc/cpuinfo")
    return place.read_text(encoding="utf-8") if place.is_file() else ""


def bf16_units(info: str) -> str:
    """Return the processor's units that multiply bf16 (flags of Intel, AMD and ARM), joined by commas."""
    return ", ".join(unit for unit in ("amx_bf16", "avx512_bf16", "bf16") if re.search(rf"\b{unit}\b", info))


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bf16 itself. Otherwise it computes in fp32 and rounds, which is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(bf16_units(cpuinfo()))
