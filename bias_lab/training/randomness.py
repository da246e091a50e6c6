"""Global generators reseeded at every step from (seed, purpose, step), so that dropout and drop-path survive a resume.

Draws of batches and augmentation don't come from here: they are keyed by sample in `data/`. What is left is what layers
draw from torch's global generator, and pretrainings: MAE's and SimMIM's masks, DINO's views. Keyed by
the step and never by what was drawn before, a run that was interrupted draws what it would have drawn (DESIGN 3.4).
"""

import hashlib
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


def key(seed: int, purpose: str, step: int = 0) -> int:
    """A 63-bit seed that is a pure function of its arguments, on every platform."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(seed: int, purpose: str, step: int = 0) -> None:
    """Seed torch's global generators (CPU and, if used, GPU)."""
    torch.manual_seed(key(seed, purpose, step))


class StepSeeds(Callback):
    """Reseeds before every training step."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        reseed(self.seed, "step", trainer.global_step)
