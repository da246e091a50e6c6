"""Parts of a worker that need no process: full disks and records of failures."""

import errno
from pathlib import Path

import pytest

from bias_lab import ledger
from bias_lab.execution import worker


def wrapped(inner: Exception) -> Exception:
    try:
        raise RuntimeError("could not save") from inner
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        OSError(errno.EDQUOT, "x"),
        wrapped(OSError(errno.ENOSPC, "x")),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_recognised_in_wrapped_exceptions(error: Exception) -> None:
    assert worker.disk_full(error)


def test_other_errors_are_not_a_full_disk() -> None:
    assert not worker.disk_full(OSError(errno.EACCES, "x"))
    assert not worker.disk_full(wrapped(ValueError("x")))


def test_a_failure_keeps_the_end_of_a_log_with_invalid_bytes(tmp_path: Path) -> None:
    here = ledger.run_folder(tmp_path, "abc")
    here.mkdir(parents=True)
    (here / ledger.LOG).write_bytes(b"x" * 10_000 + b"\xff the end")
    assert worker.record_failure(tmp_path, "abc", "error", "why")["kind"] == "failed"
    kept = ledger.read_json(here / ledger.FAILURE)
    assert len(kept["log"]) == worker.LOG_TAIL
    assert kept["log"].endswith("� the end")


def test_an_error_after_the_result_is_no_failure(tmp_path: Path) -> None:
    here = ledger.run_folder(tmp_path, "abc")
    ledger.write_json(here / ledger.RESULT, {})
    assert worker.record_failure(tmp_path, "abc", "died", "why") == {"kind": "finished"}
    assert not (here / ledger.FAILURE).exists()
