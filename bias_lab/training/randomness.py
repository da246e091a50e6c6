"""Reseed the global generators at every step, so that an interrupted run draws what it would have drawn.

Batches and augmentation have keyed draws of their own in `data/`. Layers (dropout, drop-path) and pretrainings (masks
of MAE and SimMIM, views of DINO) draw from torch's global generator, seeded by (seed, purpose, step). See
docs/design.md, Determinism.
"""

import hashlib

import torch


def key(seed: int, purpose: str, step: int = 0) -> int:
    """Return a 63-bit seed that is a pure function of its arguments on every platform."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(seed: int, purpose: str, step: int = 0) -> None:
    """Seed torch's global generators (CPU and, if used, GPU)."""
    torch.manual_seed(key(seed, purpose, step))
