"""Hand out runs in plan order. A run waits only for its own pretraining."""

import heapq
from collections import defaultdict
from collections.abc import Iterable

from bias_lab.definition import Run, run_id


class Queue:
    """Hold the runs of a sweep that remain to be carried out."""

    def __init__(self, runs: Iterable[Run], finished: Iterable[str] = ()) -> None:
        """runs: in plan order. finished: ids of pretrainings that are finished already."""
        self._runs = list(runs)
        self._ready: list[int] = []
        self._waiting: dict[str, list[int]] = defaultdict(list)
        self._under_way = 0
        finished = set(finished)
        for place, run in enumerate(self._runs):
            if run.pretraining and run.pretraining not in finished:
                self._waiting[run.pretraining].append(place)
            else:
                self._ready.append(place)  # ascending numbers are a heap already

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
        return self._runs[heapq.heappop(self._ready)]

    def done(self, run: Run, *, finished: bool) -> None:
        """Record the end of a run. If it finished, the runs that waited for it can start."""
        self._under_way -= 1
        if finished:
            for place in self._waiting.pop(run_id(run), ()):
                heapq.heappush(self._ready, place)

    def blocked(self) -> list[Run]:
        """Return the runs that wait for a pretraining that did not finish."""
        return [self._runs[place] for places in self._waiting.values() for place in places]
