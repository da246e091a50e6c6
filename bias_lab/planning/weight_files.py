"""Check without torch that a weights file is whole, so that a damaged one is named before anything else is planned.

Only its outline is read. What it holds is read by a worker.
"""

import json
import pickletools
import struct
import zipfile
from pathlib import Path

from bias_lab.errors import UserError

AGAIN = "download or write it again"
LONGEST = 100 * 2**20  # bytes of a .safetensors header, which the format allows


def check(path: Path) -> None:
    """Raise UserError if a weights file is empty, cut off, or neither of the formats."""
    if path.suffix == ".safetensors":
        _check_safetensors(path)
    elif path.suffix != ".npz":
        _check_pickle(path)


def _check_safetensors(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 0 < length <= min(size - 8, LONGEST):
            raise UserError(f"{path} is not a whole .safetensors file (its header is cut off)", remedy=AGAIN)
        text = file.read(length)
    try:
        entries = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, AttributeError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a whole .safetensors file (its header is damaged)", remedy=AGAIN) from error
    if not all(isinstance(end, int) for end in ends) or 8 + length + max(ends, default=0) != size:
        raise UserError(f"{path} is not a whole .safetensors file (its tensors are cut off)", remedy=AGAIN)


def _check_pickle(path: Path) -> None:
    """Check a file that torch.save wrote: an archive, or pickles one after another."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            if not zipfile.is_zipfile(path):
                raise UserError(f"{path} is not a whole PyTorch file (its archive is cut off)", remedy=AGAIN)
            return
        file.seek(0)
        try:
            for opcode, _, _ in pickletools.genops(file):
                if opcode.name == "STOP":
                    return
        except Exception as error:  # foreign bytes raise whatever they mean as a pickle
            raise UserError(f"{path} is not a whole PyTorch file (it is no pickle)", remedy=AGAIN) from error
