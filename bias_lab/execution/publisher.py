"""Rewrite the table and the report beside a running sweep."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self


class Publisher:
    """Call `publish` in a thread while a sweep runs, rarely enough that the workers are not slowed down.

    Only one call runs at a time. After a call that took t seconds, the next one starts at least SHARE * t seconds later
    (and never less than LEAST seconds later). `problem` describes the last call that failed, and is empty otherwise.
    """

    SHARE = 20
    LEAST = 3.0  # seconds

    def __init__(self, publish: Callable[[], None], *, now: Callable[[], float] = time.monotonic) -> None:
        self.publish, self.now = publish, now
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="report")
        self.running: Future[float] | None = None
        self.waiting = False
        self.next = 0.0
        self.problem = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self._collect()

    def request(self) -> None:
        """Ask for a call because there are new results."""
        self.waiting = True
        self.tick()

    def tick(self) -> None:
        """Start a requested call if enough time has passed since the last one."""
        self._collect()
        if self.waiting and self.running is None and self.now() >= self.next:
            self.waiting = False
            self.running = self.pool.submit(self._publish)

    def _publish(self) -> float:
        """Return the seconds that the call took."""
        began = time.perf_counter()
        self.publish()
        return time.perf_counter() - began

    def _collect(self) -> None:
        """Record the end of the last call. An error in it is kept as `problem` and does not stop the sweep."""
        if self.running is None or not self.running.done() or self.running.cancelled():
            return
        error = self.running.exception()
        if error:
            self.problem = f"the report could not be written: {type(error).__name__}: {error}"
        self.next = self.now() + (self.LEAST if error else max(self.LEAST, self.SHARE * self.running.result()))
        self.running = None
