"""Estimate how long runs take: a fixed cost for each run, and seconds an image for each kind of run."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from statistics import median
from typing import NamedTuple

from bias_lab.catalogue import DATASETS, costs
from bias_lab.definition import LADDER, Run, images_seen, pretrains, run_id, trains

STEPS = 40  # fixed costs that a fit tries
RECENT = 0.95  # weight of a duration beside that of the next one, since the load of a machine changes
APART = 1.5  # two numbers of images whose ratio is above this tell a fixed cost from the cost of an image
LATEST, FIRM = 5, 3  # runs that tell the present load of the machine, and how many of them are needed
PERSISTENCE = 2 / 3  # power of that load in the estimate: 0 if it were chance, 1 if it lasted to the end
TELLING = 0.1  # share of a run after which its own speed is a better estimate than that of others


class Kind(NamedTuple):
    """What the cost of an image depends on."""

    backbone: str
    side: int
    protocol: str  # empty for a pretraining
    pretraining: str  # its regime, empty for other runs
    recipe: str
    priors: str
    batch_size: int
    optimizer: str
    head: str
    patch: int  # 0: the one that is chosen by the side


class UnderWay(NamedTuple):
    """A run that was begun. began: when. first, share: the share of it that was done then, and that is done now."""

    run: Run
    began: float
    first: float = 0.0
    share: float = 0.0

    def whole(self, now: float) -> float | None:
        """Return the seconds that all of the run would take at its speed since it was begun, None if it is too early.

        A run that goes on from a checkpoint is not as fast as its share says.
        """
        done = self.share - self.first
        return (now - self.began) / done if done > 0 and done >= TELLING * (1 - self.first) else None


class Clock:
    """Estimate the time left from the durations of runs.

    A run takes `fixed + seconds an image * images`. Both are fitted to the runs that ended, the latest of which weigh
    most. The last few of them tell how much slower or faster the machine is now, which is counted in part, since some
    of it will pass. Their median is taken, so that one odd run does not count. A kind of which no run has ended takes
    the cost that the lab's table has for its backbone, at the speed of the kinds that are known.
    """

    def __init__(self, runs: Iterable[Run], workers: int, *, now: Callable[[], float] = time.monotonic) -> None:
        """runs: those to carry out. workers: how many are carried out at a time. now: the time in seconds."""
        self.workers, self.now = max(workers, 1), now
        self.ahead = Counter[tuple[Kind, int]]()  # kind and images → runs that have not ended
        self.under_way: dict[str, UnderWay] = {}  # run_id → what is known of it
        self.spent: dict[tuple[Kind, int], tuple[float, float]] = {}  # kind and images → weight, weighted seconds
        self.latest: list[tuple[tuple[Kind, int], float]] = []  # kind and images, seconds of the runs that ended last
        self.count = 0
        self.freed = 0  # workers whose run ended and that have not begun another one yet
        self._fit: tuple[float, dict[Kind, float]] | None = None
        self.extend(runs)

    def extend(self, runs: Iterable[Run]) -> None:
        """Add runs that are to be carried out too."""
        self.ahead.update(map(_key, runs))

    def drop(self, runs: Iterable[Run]) -> None:
        """Remove runs that are not to be carried out after all."""
        self.ahead.subtract(map(_key, runs))

    def add(self, run: Run, seconds: float) -> None:
        """Add the duration of a finished run, of this sweep or an earlier one. One of zero steps tells no speed."""
        if pretrains(run) and not images_seen(run):
            return
        self.spent = {key: (RECENT * weight, RECENT * total) for key, (weight, total) in self.spent.items()}
        weight, total = self.spent.get(_key(run), (0.0, 0.0))
        self.spent[_key(run)] = (weight + 1, total + seconds)
        if trains(run):  # what takes a second or none, such as nearest neighbours, tells nothing of the load
            self.latest = [*self.latest[1 - LATEST :], (_key(run), seconds)]
        self.count += 1
        self._fit = None

    def begin(self, run: Run, share: float = 0.0) -> None:
        """Record the start of a run. share: of it that was done before, where it goes on from a checkpoint."""
        self.under_way[run_id(run)] = UnderWay(run, self.now(), share, share)
        self.freed = max(0, self.freed - 1)

    def advance(self, run: Run, share: float) -> float | None:
        """Record which share of a run is done, and return the seconds that it has left, None where it is too early."""
        known = self.under_way[run_id(run)]
        known = known._replace(share=share, first=min(known.first, share))  # steps after the checkpoint are repeated
        self.under_way[run_id(run)] = known
        whole = known.whole(self.now())
        return None if whole is None else whole * (1 - share)

    def end(self, run: Run, *, finished: bool) -> float:
        """Record the end of a run and return the seconds that it took since it was begun."""
        known = self.under_way.pop(run_id(run), UnderWay(run, self.now()))
        seconds = self.now() - known.began
        self.ahead[_key(run)] -= 1
        self.freed += 1
        if finished and 1 - known.first >= TELLING:
            self.add(run, seconds / (1 - known.first))
        return seconds

    def left(self) -> float | None:
        """Return the estimated seconds left, or None as long as nothing tells the speed of this machine."""
        if self.spent:
            return self.estimate()
        wholes = [(known.run, known.whole(self.now())) for known in self.under_way.values()]
        telling = {_key(run): (1.0, seconds) for run, seconds in wholes if seconds is not None}
        if not telling:
            return None
        self.spent = telling
        try:
            return self.estimate()
        finally:
            self.spent, self._fit = {}, None

    def estimate(self) -> float:
        """Return the estimated seconds left, by the lab's table where no run has ended yet."""
        total = sum(count * self.cost(*key) for key, count in self.ahead.items() if count > 0)
        rests = []
        for known in self.under_way.values():
            usual, elapsed, whole = self.cost(*_key(known.run)), self.now() - known.began, known.whole(self.now())
            rest = (
                max(usual * (1 - known.first) - elapsed, elapsed / 10) if whole is None else whole * (1 - known.share)
            )
            total += rest - usual
            rests.append(rest)
        not_ended = sum(count for count in self.ahead.values() if count > 0)
        with_work = len(self.under_way) + self.freed if self.under_way else self.workers
        at_once = max(1, min(self.workers, with_work, not_ended))
        waiting = self.ahead - Counter(_key(known.run) for known in self.under_way.values())  # counts above 0 alone
        return max([0.0, total / at_once, *rests, *(self.cost(*key) for key in waiting)])

    def cost(self, kind: Kind, images: int) -> float:
        """Return the estimated seconds of one run of a kind that sees so many images, at the present load."""
        return self._usual(kind, images) * self._load()

    def _load(self) -> float:
        """Return how much longer runs take now than the fit has it, as far as that is expected to last."""
        if len(self.latest) < FIRM:
            return 1.0
        now = median(seconds / max(self._usual(*key), 1e-9) for key, seconds in self.latest)
        return float(now**PERSISTENCE)

    def _usual(self, kind: Kind, images: int) -> float:
        """Return the seconds that the fit has for one run of a kind that sees so many images."""
        fixed, rates = self._fitted()
        if kind not in rates:
            same = [rate / _table(known) for known, rate in rates.items() if known.backbone == kind.backbone]
            speeds = same or [rate / _table(known) for known, rate in rates.items()]
            rates[kind] = _table(kind) * (median(speeds) if speeds else 1.0)
        return fixed + rates[kind] * images

    def _fitted(self) -> tuple[float, dict[Kind, float]]:
        """Return the fixed seconds of a run and the seconds an image of each kind, with the least relative error."""
        if self._fit is None:
            points = [
                (kind, max(images, 1), max(total / w, 1e-6), w) for (kind, images), (w, total) in self.spent.items()
            ]
            least = min((seconds for *_, seconds, _ in points), default=0.0)
            several = any(
                a[0] == b[0] and a[1] > APART * b[1] for a in points for b in points
            )  # otherwise no duration tells the two costs apart
            usual = min(costs.FIXED * self._speed(points), 0.3 * least) if points else costs.FIXED
            tried = [least * step / STEPS for step in range(STEPS)] if several else [usual]
            self._fit = min((_with_fixed(fixed, points) for fixed in tried), key=lambda found: found[2])[:2]
        return self._fit

    def _speed(self, points: list[tuple[Kind, int, float, float]]) -> float:
        """Return how slow this machine is beside the one of the table."""
        return median(seconds / (costs.FIXED + _table(kind) * images) for kind, images, seconds, _ in points)


def _with_fixed(fixed: float, points: list[tuple[Kind, int, float, float]]) -> tuple[float, dict[Kind, float], float]:
    """Return a fixed cost, the cost of an image of each kind that fits best with it, and the squared relative error."""
    above: dict[Kind, float] = defaultdict(float)
    below: dict[Kind, float] = defaultdict(float)
    for kind, images, seconds, weight in points:
        above[kind] += weight * images * (seconds - fixed) / seconds**2
        below[kind] += weight * (images / seconds) ** 2
    rates = {kind: max(0.0, above[kind] / below[kind]) for kind in below}
    error = sum(w * ((fixed + rates[kind] * images) / s - 1) ** 2 for kind, images, s, w in points)
    return fixed, rates, error


def _table(kind: Kind) -> float:
    return costs.seconds_per_image(kind.backbone, kind.side, kind.pretraining)


def _key(run: Run) -> tuple[Kind, int]:
    """Return the kind of a run, and the images that it is charged for: those seen, and a third of those evaluated."""
    row = DATASETS.get(run.dataset)
    side = run.image_size or (row.image_size if row else 28)
    seen = images_seen(run) if run.samples_seen is not None else LADDER.first * run.budget
    read = 0 if pretrains(run) else (row.test_images if row else 0) + run.size
    side = round((side * (run.image_width or side)) ** 0.5)
    protocol, regime = ("", run.regime) if pretrains(run) else (run.protocol, "")
    at_step = (run.recipe, run.priors, run.batch_size, run.optimizer, run.head, run.patch or 0)
    kind = Kind(run.backbone, side, protocol, regime, *at_step)
    return kind, round(trains(run) * seen + costs.READING * read)
