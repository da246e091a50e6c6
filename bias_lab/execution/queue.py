"""Which run is next: the plan's order, and a run waits for its own pretraining alone."""

import heapq
from collections import defaultdict
from collections.abc import Iterable

from bias_lab.definition import Run, run_id


class Queue:
    """Runs to carry out. `take` gives the first that can begin; `done` frees those that waited for it."""

    def __init__(self, runs: Iterable[Run], finished: Iterable[str] = ()) -> None:
        """runs: in the plan's order. finished: ids of pretrainings that are there already."""
        self._runs = list(runs)
        self._ids = [run_id(run) for run in self._runs]
        self._ready: list[int] = []
        self._waiting: dict[str, list[int]] = defaultdict(list)
        self._under_way = 0
        there = set(finished)
        for place, run in enumerate(self._runs):
            if run.pretraining and run.pretraining not in there:
                self._waiting[run.pretraining].append(place)
            else:
                self._ready.append(place)  # ascending: a heap already

    def open(self) -> bool:
        """Whether anything is left to begin or under way."""
        return bool(self._ready or self._under_way)

    def ready(self) -> int:
        """How many could begin now."""
        return len(self._ready)

    def take(self) -> Run | None:
        if not self._ready:
            return None
        self._under_way += 1
        return self._runs[heapq.heappop(self._ready)]

    def done(self, run: Run, *, finished: bool) -> None:
        """A run came to its end; those that waited for it can begin if it finished."""
        self._under_way -= 1
        if finished:
            for place in self._waiting.pop(run_id(run), ()):
                heapq.heappush(self._ready, place)

    def blocked(self) -> list[Run]:
        """Runs that wait for a pretraining that did not finish."""
        return [self._runs[place] for places in self._waiting.values() for place in places]
