"""A worker process: import torch once, then carry out one run after another.

Orders arrive as JSON lines on standard input. Answers leave as JSON lines through a pipe of their own (`--answers FD`),
because libraries print to standard output. The end of the input means that the sweep has ended or was killed. The
worker then exits at once, and its run can be resumed.
"""

import argparse
import ctypes
import errno
import faulthandler
import importlib
import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from bias_lab import ledger
from bias_lab.definition import Settings, from_json, run_id
from bias_lab.errors import Diverged, UserError

LOG_TAIL = 4000  # bytes of the log that a failure keeps
_PDEATHSIG = 1  # prctl's PR_SET_PDEATHSIG: send a signal to this process when its parent dies


def main() -> None:
    """Answer orders until the order `stop` or the end of the input."""
    parser = argparse.ArgumentParser(prog="bias_lab.execution.worker")
    parser.add_argument("--answers", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--module", required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep handles Ctrl-C
    faulthandler.enable()  # a segfault writes its stack to the run's log
    die_with(arguments.parent)
    sys.path.append(str(Path.cwd()))  # a user's own backbone may lie where bias-lab was started
    orders: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read_orders, args=(orders,), daemon=True).start()
    with os.fdopen(arguments.answers, "w", encoding="utf-8") as answers:

        def answer(values: dict[str, Any]) -> None:
            answers.write(json.dumps(values) + "\n")
            answers.flush()

        ledger.code_hash()  # keeps the hash of the source that is imported next, even if files are edited later
        module = importlib.import_module(arguments.module)
        answer({"kind": "ready"})
        while True:
            order = orders.get()
            if order["kind"] == "stop":
                return
            answer(preflight(module, order) if order["kind"] == "preflight" else carry_out(module, order))


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when the sweep's process dies, so that no two processes write one run.

    Only Linux can do that. Elsewhere the end of the input has the same effect within milliseconds.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the request


def _read_orders(orders: "queue.Queue[dict[str, Any]]") -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    os._exit(1)


def preflight(module: ModuleType, order: dict[str, Any]) -> dict[str, Any]:
    """Check the runs of an order with `module.preflight` and return the answer.

    Its kind is `cleared` (with `warnings`), `user_error` (with `error`) or `broken` (with `traceback`).
    """
    try:
        runs = [from_json(run) for run in order["runs"]]
        warnings = module.preflight(runs, Path(order["folder"]), Settings(**order["settings"]))
    except UserError as error:
        return {"kind": "user_error", "error": [error.what, error.allowed, error.remedy]}
    except Exception:
        logging.getLogger(__name__).exception("preflight")
        return {"kind": "broken", "traceback": traceback.format_exc()}
    return {"kind": "cleared", "warnings": list(warnings)}


def carry_out(module: ModuleType, order: dict[str, Any]) -> dict[str, Any]:
    """Carry out the run of an order with `module.execute` and return the answer.

    Its kind is `finished`, `failed` (the run's folder then holds failure.json) or `full` (the disk is).
    """
    run, folder = from_json(order["run"]), Path(order["folder"])
    try:
        here = ledger.run_folder(folder, run_id(run))
        here.mkdir(parents=True, exist_ok=True)
        with _OutputTo(here / ledger.LOG):
            try:
                module.execute(run, folder, Settings(**order["settings"]))
                (here / ledger.FAILURE).unlink(missing_ok=True)
                return {"kind": "finished"}
            except Exception as error:
                if disk_full(error):
                    raise
                logging.getLogger(__name__).exception("this run failed")
                traceback.print_exc()
                return record_failure(folder, run_id(run), _reason(error), _line(error))
    except Exception as error:
        if disk_full(error):
            return {"kind": "full", "exception": _line(error)}
        raise


def record_failure(folder: Path, name: str, reason: str, exception: str) -> dict[str, Any]:
    """Write failure.json for the run with the id `name` and return the worker's answer.

    reason: `diverged`, `user`, `error` or `died`. A run that has a result counts as finished: the error came later.
    """
    here = ledger.run_folder(folder, name)
    if (here / ledger.RESULT).is_file():
        return {"kind": "finished"}
    ledger.write_json(here / ledger.FAILURE, {"reason": reason, "exception": exception, "log": tail(here / ledger.LOG)})
    return {"kind": "failed", "reason": reason, "exception": exception}


def tail(log: Path) -> str:
    """Return the end of a log, empty if there is no log."""
    return log.read_bytes()[-LOG_TAIL:].decode("utf-8", errors="replace") if log.is_file() else ""


def disk_full(error: BaseException | None) -> bool:
    """Return whether a full disk or quota caused an exception, even if a library wrapped the original one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: Exception) -> str:
    if isinstance(error, Diverged):
        return "diverged"
    return "user" if isinstance(error, UserError) else "error"


def _line(error: Exception) -> str:
    """Return the exception as one line. Its type is left out where the message was written for users."""
    text = " ".join(str(error).split())
    for_users = isinstance(error, Diverged | UserError)
    return text if for_users and text else f"{type(error).__name__}: {text}".rstrip(": ")


class _OutputTo:
    """Redirect all output of the process to a run's log, the output of C libraries and child processes included."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __enter__(self) -> None:
        self.kept = [os.dup(1), os.dup(2)]
        file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)

    def __exit__(self, *_: object) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, kept in enumerate(self.kept, start=1):
            os.dup2(kept, number)
            os.close(kept)


if __name__ == "__main__":
    main()
