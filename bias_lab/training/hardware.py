"""What the processor is and what it multiplies."""

import re
from pathlib import Path

import torch


def cpuinfo() -> str:
    """What Linux tells of the processor; empty elsewhere."""
    place = Path("/proc/cpuinfo")
    return place.read_text(encoding="utf-8") if place.is_file() else ""


def bf16_units(info: str) -> str:
    """Which of the processor's units multiply bf16 (Intel's and AMD's flags, ARM's); empty if it tells of none."""
    return ", ".join(unit for unit in ("amx_bf16", "avx512_bf16", "bf16") if re.search(rf"\b{unit}\b", info))


def multiplies_bf16(device: torch.device) -> bool:
    """Whether bf16 pays on a device, rather than being worked out in fp32 and rounded."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(bf16_units(cpuinfo()))
