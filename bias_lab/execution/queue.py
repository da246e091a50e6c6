"""Hand out runs in plan order. A run waits only for its own pretraining."""

import heapq
from collections import defaultdict
from collections.abc import Iterable

from bias_lab.definition import Run, run_id


class Queue:
    """Hold the runs of a sweep that remain to be carried out."""

    def __init__(self, runs: Iterable[Run], finished: Iterable[str] = ()) -> None:
        """runs: in plan order. finished: ids of pretrainings that are finished already."""
        self._runs: list[Run] = []
        self._places: dict[Run, int] = {}  # a run's place in the plan. Runs that follow it later have the same one
        self._ready: list[tuple[int, int]] = []  # a heap of (place in the plan, number of the run)
        self._waiting: dict[str, list[int]] = defaultdict(list)
        self._under_way = 0
        self._finished = set(finished)
        self.add(runs)

    def add(self, runs: Iterable[Run], *, after: Run | None = None) -> None:
        """Add runs at the end of the plan, or at the place of the run that they follow."""
        for run in runs:
            number = len(self._runs)
            self._runs.append(run)
            self._places[run] = number if after is None else self._places[after]
            if run.pretraining and run.pretraining not in self._finished:
                self._waiting[run.pretraining].append(number)
            else:
                self._push(number)

    def open(self) -> bool:
        """Return whether a run is ready or under way."""
        return bool(self._ready or self._under_way)

    def ready(self) -> int:
        """Return how many runs could start now."""
        return len(self._ready)

    def take(self) -> Run | None:
        """Return the first run that can start, or None, and count it as under way."""
        if not self._ready:
            return None
        self._under_way += 1
        return self._runs[heapq.heappop(self._ready)[1]]

    def done(self, run: Run, *, finished: bool) -> None:
        """Record the end of a run. If it finished, the runs that waited for it can start."""
        self._under_way -= 1
        if finished:
            self._finished.add(run_id(run))
            for number in self._waiting.pop(run_id(run), ()):
                self._push(number)

    def _push(self, number: int) -> None:
        heapq.heappush(self._ready, (self._places[self._runs[number]], number))

    def blocked(self) -> list[Run]:
        """Return the runs that wait for a pretraining that did not finish."""
        return [self._runs[number] for numbers in self._waiting.values() for number in numbers]
