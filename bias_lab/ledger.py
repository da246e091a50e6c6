"""Keep a sweep's folder: its file names, atomic writes, claims, and the commit of a run.

The folder is the source of truth (docs/design.md, A run's folder). A run is finished when its `result.json` is there.
This file is written last, in one step. The table, the report and W&B are made from the folder and can be made again.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from bias_lab.definition import Run, from_json, run_id, to_json
from bias_lab.errors import UserError

RUN, RESULT, FAILURE = "run.json", "result.json", "failure.json"
METRICS, LOG, WEIGHTS, PREDICTIONS = "metrics.jsonl", "log.txt", "weights.safetensors", "predictions.parquet"
CHECKPOINT, PREVIOUS = "checkpoint.ckpt", "previous.checkpoint.ckpt"
ATTEMPTS = "attempts"  # one byte for each time that the run was begun, so that a kill counts too
ATTEMPT, COMMITTED = "attempt-", "committed"  # folders of a run: an attempt at work, and the one that counts
LOCK = ".lock"  # held by the sweep that works on a folder, and by the process that works on an attempt
TABLE, REPORT = "results.parquet", "report.html"
EXPERIMENT, PLACES, TUNED = "experiment.json", "places.json", "tuned.json"
ENDED = ("finished", "failed", "diverged")  # states of a run that is not continued


def run_folder(folder: Path, run_id: str) -> Path:
    """Return the folder of one run."""
    return folder / "runs" / run_id


def state(folder: Path, run_id: str) -> str:
    """Return `finished`, `failed`, `diverged` (never tried again), `started` (can be resumed) or `missing`."""
    here = run_folder(folder, run_id)
    if (here / RESULT).is_file():
        return "finished"
    if (here / FAILURE).is_file():
        return "diverged" if read_json(here / FAILURE).get("reason") == "diverged" else "failed"
    return "started" if (here / RUN).is_file() else "missing"


def read_run(folder: Path, run_id: str) -> Run:
    """Return the definition of a run that was begun."""
    return from_json(read_json(run_folder(folder, run_id) / RUN))


def read_json(path: Path) -> Any:
    """Return a JSON file's content. Raise UserError that names the file if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        what = f"{path} is not JSON ({error.msg}, line {error.lineno})"
        raise UserError(what, remedy="restore or remove it") from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:  # not UTF-8, a huge number, or too deep
        raise UserError(f"{path} is not JSON ({error})", remedy="restore or remove it") from error


def write_json(path: Path, value: Any) -> None:
    """Write a value with sorted keys, so that equal values give equal bytes. Raise ValueError for NaN."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a kill leaves either the old content or the new one."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` at the end, and is removed after an error.

    The temporary file lies in the target's folder and is synced before the rename, and the folder after it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp gives 0600, and others must be able to read a result
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


class Claim(Protocol):
    """The right to work on something, which one holder has at a time. A lease for several machines can be another."""

    def take(self) -> bool:
        """Take the claim and return True, or return False at once if another process holds it."""

    def release(self) -> None:
        """Give the claim back."""

    def holder(self) -> str:
        """Return a name of the holder for people (a process number), or an empty string if nobody holds the claim."""


class LocalLock:
    """A claim within one machine: a lock on a file, which the kernel releases when its holder dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path, thread_local=False)

    def take(self) -> bool:
        if not self._acquired():
            return False
        self.path.write_text(str(os.getpid()))
        return True

    def release(self) -> None:
        self._lock.release()

    def holder(self) -> str:
        if not os.access(self.path, os.W_OK):  # absent, or in a folder that can only be read
            return ""
        if self._acquired():
            self._lock.release()
            return ""
        return self.path.read_text().strip() or "unknown"

    def _acquired(self) -> bool:
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True


@contextlib.contextmanager
def claim(folder: Path, kind: Callable[[Path], Claim] = LocalLock) -> Iterator[None]:
    """Hold a folder for one sweep. Raise UserError if another sweep holds it, or if nothing can be written there."""
    lock = kind(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = lock.take()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        why = "a file" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise UserError(f"{folder} can't be a sweep's folder: {why}", remedy="use another --out") from error
    if not taken:
        what = f"another sweep is at work on {folder} (process {lock.holder()})"
        raise UserError(what, remedy="wait for it, or use another --out")
    try:
        yield
    finally:
        lock.release()


def holder(folder: Path) -> str:
    """Return the process number of the sweep that holds a folder, or an empty string if none does."""
    return LocalLock(folder / LOCK).holder()


class Attempt:
    """One try at a run. Files written to `folder` become the run's when the attempt is published.

    number: how many times the run was begun, this time included.
    """

    def __init__(self, here: Path, number: int) -> None:
        self.here, self.number = here, number
        self.folder, self.claim = _take_folder(here, number)

    def publish(self, result: dict[str, Any]) -> None:
        """Write `result.json` and make this attempt's files the run's, unless another attempt came first.

        The rename of the folder fails if another attempt has been renamed before, so exactly one attempt counts. A kill
        after it is completed by `finish_publishing`.
        """
        write_json(self.folder / RESULT, result)
        for path in (*self.folder.iterdir(), self.folder):
            _fsync(path)
        try:
            if not (self.here / RESULT).is_file():
                self.folder.rename(self.here / COMMITTED)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        _finish_publishing(self.here)
        shutil.rmtree(self.folder, ignore_errors=True)  # it is still there if another attempt came first


@contextlib.contextmanager
def attempt(folder: Path, run: Run) -> Iterator[Attempt]:
    """Begin an attempt at a run: count it and give it a folder that no other process works in.

    The folder of an interrupted attempt is taken over with its checkpoint and its rows of metrics.
    """
    here = run_folder(folder, run_id(run))
    write_json(here / RUN, to_json(run))
    begun = Attempt(here, begin_attempt(folder, run_id(run)))
    try:
        yield begun
    finally:
        begun.claim.release()  # another attempt may take over the folder, if this one was not published


def finish_publishing(folder: Path, run_id: str) -> bool:
    """Complete what a killed attempt began to publish, and return whether the run is finished."""
    here = run_folder(folder, run_id)
    _finish_publishing(here)
    return (here / RESULT).is_file()


def _finish_publishing(here: Path) -> None:
    """Move the committed attempt's files to their run, `result.json` last, then remove what only attempts need.

    Several processes may do this at once. They move files of the folder that they opened, whatever takes its name
    later, and a folder that was `committed` while there was no result is the first commit.
    """
    with contextlib.suppress(FileNotFoundError):  # nothing is committed, or another process has completed it
        descriptor = os.open(here / COMMITTED, os.O_RDONLY)
        try:
            if not (here / RESULT).is_file():
                names = {entry.name for entry in os.scandir(descriptor)} - {LOCK, CHECKPOINT, PREVIOUS, RESULT}
                for name in (*sorted(names), RESULT):
                    if name == RESULT:
                        _fsync(here)
                    with contextlib.suppress(FileNotFoundError):  # another process has moved it
                        os.replace(name, here / name, src_dir_fd=descriptor)
                _fsync(here)
        finally:
            os.close(descriptor)
    if not (here / RESULT).is_file():
        return
    shutil.rmtree(here / COMMITTED, ignore_errors=True)
    for name in (FAILURE, CHECKPOINT, PREVIOUS):
        (here / name).unlink(missing_ok=True)
    for path in here.glob(f"{ATTEMPT}*"):
        lock = LocalLock(path / LOCK)
        with contextlib.suppress(FileNotFoundError):
            if lock.take():  # an attempt at work is left alone and drops itself
                shutil.rmtree(path, ignore_errors=True)
                lock.release()


def _take_folder(here: Path, number: int) -> tuple[Path, Claim]:
    """Return the folder of an attempt and the claim on it: an interrupted attempt's if there is one, else a new one."""
    interrupted = sorted(here.glob(f"{ATTEMPT}*"), key=lambda path: _mtime(path / CHECKPOINT), reverse=True)
    new = (here / f"{ATTEMPT}{k}" for k in range(number, number + 1_000))
    for path in (*interrupted, *new):
        with contextlib.suppress(FileExistsError, FileNotFoundError):  # another process took it or removed it
            if path not in interrupted:
                path.mkdir()
            claim = LocalLock(path / LOCK)
            if claim.take():
                _keep_only_progress(path, here)
                return path, claim
    raise RuntimeError(f"{here} has no free name for an attempt")


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _keep_only_progress(attempt: Path, here: Path) -> None:
    """Remove all but checkpoints and metrics of an attempt. An attempt without a checkpoint gets an older version's.

    Older versions of the lab computed in the run's own folder. Their metrics are copied first, so that a kill leaves
    no checkpoint without its rows.
    """
    for path in attempt.iterdir():
        if path.name not in (LOCK, METRICS, CHECKPOINT, PREVIOUS):
            path.unlink()
    if not (attempt / CHECKPOINT).is_file() and not (attempt / PREVIOUS).is_file():
        older = [here / name for name in (PREVIOUS, CHECKPOINT) if (here / name).is_file()]
        for path in (here / METRICS, *older) if older else ():
            if path.is_file():
                write_bytes(attempt / path.name, path.read_bytes())


def metrics_file(here: Path) -> Path:
    """Return the file with a run's rows of metrics, which is the newest attempt's if none is published."""
    files = [here / METRICS, *here.glob(f"{ATTEMPT}*/{METRICS}")]
    return files[0] if (here / RESULT).is_file() else max(files, key=_mtime)


def attempts(folder: Path, run_id: str) -> int:
    """Return how many times a run was begun."""
    path = run_folder(folder, run_id) / ATTEMPTS
    return len(path.read_bytes()) if path.is_file() else 0


def begin_attempt(folder: Path, run_id: str) -> int:
    """Count one more attempt and return its number, from 1."""
    with (run_folder(folder, run_id) / ATTEMPTS).open("ab") as file:
        file.write(b".")
        file.flush()
        os.fsync(file.fileno())
    return attempts(folder, run_id)


@functools.cache  # a worker keeps its first answer, since later edits are not the code that it runs
def code_hash() -> str:
    """Return a hash of the source that can change a result. Results carry it, so that other code is noticed."""
    root = Path(__file__).parent
    rooms = ("data", "backbones", "training")
    files = [root / "definition.py", *(file for room in rooms for file in (root / room).rglob("*.py"))]
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(files):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@functools.cache
def commit() -> str:
    """Return the commit of the lab's checkout by git, or an empty string without a checkout or git."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():  # an installed package may lie within someone else's repository
        return ""
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return git.stdout.strip() if git.returncode == 0 else ""
