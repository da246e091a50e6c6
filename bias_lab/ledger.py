"""What a sweep's folder holds, and how it is written: file names, atomic writes, the claim, the state of a run.

The folder is the truth (DESIGN 3.1): a run is finished when, and only when, its `result.json` is there, and that file
appears by rename. Everything else (the table, the report, W&B) is made from it and can be made again.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from bias_lab.definition import Run, from_json
from bias_lab.errors import UserError

RUN, RESULT, FAILURE = "run.json", "result.json", "failure.json"
METRICS, LOG, WEIGHTS, PREDICTIONS = "metrics.jsonl", "log.txt", "weights.safetensors", "predictions.parquet"
CHECKPOINT = "checkpoint.ckpt"
LOCK = ".lock"  # held by the sweep that is at work
TABLE, REPORT, EXPERIMENT, PLACES, TUNED = (
    "results.parquet",
    "report.html",
    "experiment.json",
    "places.json",
    "tuned.json",
)

COLUMNS = tuple(
    "run_id experiment task dataset image_size backbone architecture family parameters flops recipe intervention "
    "budget regime protocol source size draw seed status collapsed top1 top5 macro_f1 ece loss train_top1 "
    "train_loss loss_slope steps samples_seen seconds attempts classes test_images dataset_fingerprint "
    "learning_rate correct commit device versions".split()
)


def run_folder(folder: Path, run_id: str) -> Path:
    return folder / "runs" / run_id


def state(folder: Path, run_id: str) -> str:
    """`finished`, `failed`, `diverged` (never tried again), `started` (resumable) or `missing`."""
    here = run_folder(folder, run_id)
    if (here / RESULT).is_file():
        return "finished"
    if (here / FAILURE).is_file():
        return "diverged" if read_json(here / FAILURE).get("reason") == "diverged" else "failed"
    return "started" if (here / RUN).is_file() else "missing"


def read_run(folder: Path, run_id: str) -> Run:
    return from_json(read_json(run_folder(folder, run_id) / RUN))


def read_json(path: Path) -> Any:
    """A JSON file's content. Raises UserError that names the file if it is damaged (ours are written whole)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not JSON ({error.msg}, line {error.lineno})", remedy="restore or remove it"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Sorted keys, one byte sequence for one value; NaN is refused, since JSON has none."""
    write_bytes(
        path, (json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()
    )


def write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; on leaving, it takes `path`'s place whole, or, after an error, vanishes.

    Temporary file in the target folder, fsync, rename, fsync of the folder: a kill at any moment leaves the old file or
    the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp gives 0600, and a published result must be readable
        _fsync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the folder for one sweep; the kernel frees it when a holder dies.

    Raises UserError if another holds it, or if nothing can be written there.
    """
    with _lock(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise UserError(
                f"another sweep is at work on {folder} (process {holder})", remedy="wait for it, or use another --out"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _lock(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LOCK).open("a+")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        why = "a file" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise UserError(f"{folder} can't be a sweep's folder: {why}", remedy="use another --out") from error


def attempts(folder: Path, run_id: str) -> int:
    """How many times the run was begun: a line each in `attempts`, so that a kill is counted too."""
    path = run_folder(folder, run_id) / "attempts"
    return len(path.read_bytes()) if path.is_file() else 0


def begin_attempt(folder: Path, run_id: str) -> int:
    """Count one more attempt; returns its number, from 1."""
    path = run_folder(folder, run_id) / "attempts"
    with path.open("ab") as file:
        file.write(b".")
        file.flush()
        os.fsync(file.fileno())
    return attempts(folder, run_id)


@functools.cache  # a worker's first answer stands: edits made while it runs are not the code that it runs
def code_hash() -> str:
    """Hash of the lab's own source where it can change a result; results carry it, so that other code is noticed."""
    root = Path(__file__).parent
    rooms = ("data", "backbones", "training")
    files = [root / "definition.py", *(file for room in rooms for file in (root / room).rglob("*.py"))]
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(files):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def commit() -> str:
    """The commit of the lab's checkout, read from git's own files (no git needed); empty when installed elsewhere."""
    git = Path(__file__).parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        if (git / ref).is_file():
            return (git / ref).read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return next((line.split()[0] for line in packed if line.endswith(" " + ref)), "")
