"""Spread work over processes that end with this one, and show its progress. No torch."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

TICK = 0.2  # seconds after which a waiting thread sees a Ctrl-C that the system gave to another thread
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # the environment of a process
SHOWN = 1500  # items from which on a terminal shows a progress bar

Part = TypeVar("Part", bound=tuple[Sequence[Any], Any])  # some items, and what to do with them


def in_processes(
    do: Callable[[Part], Any], parts: Iterator[Part], workers: int, advance: Callable[[int], None]
) -> list[Any]:
    """Return the result of each part, in order. A few parts a process are under way at any time.

    do: a function of a module, which processes import. advance: takes the number of items of a part that is done.

    Raises RuntimeError if a process ends early, and whatever a part raises (an OSError if the disk is full). Then, and
    after a Ctrl-C, all processes are killed at once.
    """
    results: list[Any] = []
    others = {*multiprocessing.active_children()}
    processes: dict[multiprocessing.process.BaseProcess, None] = {}
    waiting: deque[tuple[Future[Any], int]] = deque()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
        try:
            while True:
                for part in islice(parts, 4 * workers - len(waiting)):
                    with _quiet_start():
                        waiting.append((pool.submit(do, part), len(part[0])))
                    processes.update(dict.fromkeys({*multiprocessing.active_children()} - others))
                if not waiting:
                    return results
                future, count = waiting.popleft()
                while not future.done():
                    wait((future,), TICK)
                results.append(future.result())
                advance(count)
        except BaseException as error:
            if not isinstance(error, BrokenProcessPool):  # in that case the pool terminates them
                for process in processes:
                    process.kill()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                dead = min(processes, key=lambda each: each.exitcode in (None, 0, -signal.SIGTERM), default=None)
                which = f"process {dead.pid}, with exit code {dead.exitcode}" if dead else "it did not start"
                raise RuntimeError(f"a decoding process ended early: {which}") from None
            if isinstance(error, BrokenPipeError):
                raise RuntimeError("a decoding process ended early: it did not start") from None
            raise


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Let a process start with one thread, without a Ctrl-C from the terminal, and without the user's script.

    A started process inherits the environment and the blocked signals. It would also import the main module again, and
    a script without `if __name__ == "__main__"` would then run twice.
    """
    main, environment = sys.modules["__main__"], {name: os.environ.get(name) for name in ONE_THREAD}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        sys.modules["__main__"] = types.ModuleType("__main__")
        os.environ.update(ONE_THREAD)
        yield
    finally:
        for name, value in environment.items():
            del os.environ[name]
            os.environ.update({} if value is None else {name: value})
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone, even if that was killed."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar for long work on a terminal. Yields the function that advances it by a number of items."""
    if total < SHOWN or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
