"""Define the interface of an engine, which carries out the runs of a queue. An engine contains no learning code.

A new engine is one module with a class that implements `Engine`, and one row in `catalogue/engines.py`.
"""

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from bias_lab import catalogue
from bias_lab.definition import Run, Settings
from bias_lab.execution.queue import Queue

EXECUTE = "bias_lab.training.execute"  # module with the functions `execute` and `preflight`, which workers call


@dataclass(frozen=True, slots=True)
class Event:
    """Report what happened to a run.

    kind: `started`, `finished`, `failed`, or `tick` (nothing happened, and `run` is None).
    reason, exception: for `failed`, as in the run's failure.json.
    """

    kind: str
    run: Run | None = None
    reason: str = ""
    exception: str = ""


class DiskFullError(Exception):
    """Report that the disk or quota of the sweep's folder is full."""


class Engine(Protocol):
    """Carry out runs within a `with` block. Leaving the block ends all work, and an error kills it.

    most: how many runs are carried out at a time at most. An engine may lower it while it works.
    """

    most: int

    def __init__(self, folder: Path, settings: Settings) -> None:
        """folder: the sweep's folder."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...

    def preflight(self, runs: Iterable[Run]) -> list[str]:
        """Check what needs torch or pixels before the first run, and return warnings, one line each.

        Raise UserError for a user's mistake.
        """

    def work(self, queue: Queue) -> Iterator[Event]:
        """Carry out all runs of the queue and yield what happens, with a tick at least every quarter of a second.

        The engine takes runs from the queue and reports their end to it. It leaves result.json or failure.json in the
        folder of each run that ended. Raise DiskFullError when the disk is full. Unfinished runs can then be resumed.
        """


def open_engine(name: str, folder: Path, settings: Settings) -> Engine:
    """Return the engine of this name from `catalogue.ENGINES`. Raise UserError if there is none.

    folder: the sweep's folder, to which runs are written.
    """
    module, _, factory = catalogue.engine(name).module.partition(":")
    engine: Engine = getattr(importlib.import_module(module), factory)(folder, settings)
    return engine
