"""A warm process: it imports the heavy half once and then carries out one run after another.

Orders come as JSON lines on standard input, answers go as JSON lines to a pipe of their own (`--answers FD`), since
libraries print where they like. The end of the input means that the sweep is gone, killed perhaps, and ends the worker
at once, whatever it is doing: what it leaves is resumable.
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

LOG_TAIL = 4000  # characters of the log that a failure keeps
_PDEATHSIG = 1  # prctl's number for "send me a signal when my parent dies"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bias_lab.execution.worker")
    parser.add_argument("--answers", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--module", required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to answer
    faulthandler.enable()  # a segfault leaves its stack in the run's log
    die_with(arguments.parent)
    sys.path.append(str(Path.cwd()))  # a user's own backbone may lie where bias-lab was started
    orders: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    with os.fdopen(arguments.answers, "w", encoding="utf-8") as answers:

        def answer(values: dict[str, Any]) -> None:
            answers.write(json.dumps(values) + "\n")
            answers.flush()

        ledger.code_hash()  # of the source that is about to be imported, whatever is edited later
        module = importlib.import_module(arguments.module)
        answer({"kind": "ready"})
        while True:
            order = orders.get()
            if order["kind"] == "stop":
                return
            answer(preflight(module, order) if order["kind"] == "preflight" else carry_out(module, order))


def die_with(parent: int) -> None:
    """Ask the kernel for a SIGKILL when the sweep's process dies, so that two sweeps never write one run's folder.

    Linux only; elsewhere the end of the input, which follows within milliseconds, does the same.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before we could ask


def _listen(orders: "queue.Queue[dict[str, Any]]") -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    os._exit(1)


def preflight(module: ModuleType, order: dict[str, Any]) -> dict[str, Any]:
    """What only the heavy half can refuse, asked before the first run."""
    try:
        runs = [from_json(run) for run in order["runs"]]
        warnings = module.preflight(runs, Path(order["folder"]), Settings(**order["settings"]))
    except UserError as error:
        return {"kind": "refused", "error": [error.what, error.allowed, error.remedy]}
    except Exception:
        logging.getLogger(__name__).exception("preflight")
        return {"kind": "broken", "traceback": traceback.format_exc()}
    return {"kind": "cleared", "warnings": list(warnings)}


def carry_out(module: ModuleType, order: dict[str, Any]) -> dict[str, Any]:
    """One run. Answers `finished`; or `failed`, with its reason on disk; or `full` when the disk is."""
    run, folder = from_json(order["run"]), Path(order["folder"])
    try:
        here = ledger.run_folder(folder, run_id(run))
        here.mkdir(parents=True, exist_ok=True)
        with _Output(here / ledger.LOG):
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
    """Write `failure.json`; returns the worker's answer. reason: `diverged`, `user`, `error` or `died`."""
    here = ledger.run_folder(folder, name)
    if (here / ledger.RESULT).is_file():
        return {"kind": "finished"}  # what went wrong came after the result was whole
    ledger.write_json(here / ledger.FAILURE, {"reason": reason, "exception": exception, "log": tail(here / ledger.LOG)})
    return {"kind": "failed", "reason": reason, "exception": exception}


def tail(log: Path) -> str:
    if not log.is_file():
        return ""
    data = log.read_bytes()[-LOG_TAIL:]
    return data.decode("utf-8", errors="replace")


def disk_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota is behind an exception, however a library wrapped it."""
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
    """The exception as one line: a user's mistake as it reads, ours with its type."""
    text = " ".join(str(error).split())
    plain = isinstance(error, Diverged | UserError)
    return text if plain and text else f"{type(error).__name__}: {text}".rstrip(": ")


class _Output:
    """Whatever the process prints, C libraries included, goes to the run's log meanwhile."""

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
