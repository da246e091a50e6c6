"""A complete engine: it carries out runs one by one in this process. With its row it is all that an engine needs."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Self

from bias_lab.definition import Run, Settings, to_json
from bias_lab.execution import worker
from bias_lab.execution.engine import Engine, Event
from bias_lab.execution.queue import Queue
from tests.execution import fake_execute


class Toy(Engine):
    most = 1

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...

    def preflight(self, runs: Iterable[Run]) -> list[str]:
        return fake_execute.preflight(list(runs), self.folder, self.settings)

    def work(self, queue: Queue) -> Iterator[Event]:
        while (run := queue.take()) is not None:
            yield Event("started", run)
            order = {"run": to_json(run), "folder": str(self.folder), "settings": asdict(self.settings)}
            answer = worker.carry_out(fake_execute, order)
            queue.done(run, finished=answer["kind"] == "finished")
            yield Event(answer["kind"], run, answer.get("reason", ""), answer.get("exception", ""))
            yield Event("tick")
