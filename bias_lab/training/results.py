"""What a result is made of: its tables and files, and where it came from (device, versions, subset)."""

import hashlib
import os
import platform
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import timm
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from bias_lab import __version__, ledger
from bias_lab.data.subsets import Selection


def slope(losses: list[float]) -> float | None:
    """Relative change of the training loss over the last quarter of its rows; -0.1: it still fell by a tenth.

    The mean of the last eighth against that of the eighth before it; None with fewer than 8 rows.
    """
    eighth = len(losses) // 8
    if eighth < 1:
        return None
    last = sum(losses[-eighth:]) / eighth
    before = sum(losses[-2 * eighth : -eighth]) / eighth
    return (last - before) / max(abs(before), 1e-12)


def save_predictions(logits: Tensor, labels: Tensor, path: Path) -> None:
    """One row a test image: index, label, predicted, confidence (the largest probability)."""
    confidence, predicted = logits.softmax(1).max(1)
    table = pd.DataFrame(
        {
            "index": np.arange(len(labels), dtype=np.int32),
            "label": labels.numpy().astype(np.int32),
            "predicted": predicted.numpy().astype(np.int32),
            "confidence": confidence.numpy(),
        }
    )
    with ledger.replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def save_weights(encoder: nn.Module, path: Path) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    ledger.write_bytes(path, to_safetensors(tensors))


def subset_hash(selection: Selection) -> str:
    data = selection.indices.astype("<i8").tobytes() + selection.labels.astype("<i8").tobytes()
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"


def versions() -> dict[str, str]:
    return {
        "bias_lab": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
    }
