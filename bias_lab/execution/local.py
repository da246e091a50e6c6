"""Who carries out runs: `Local`, warm worker processes on this machine. An engine hands on runs and knows no learning.

A worker that dies (kill -9, a segfault, no memory) costs its run and is replaced; leaving the `with` block ends all.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from bias_lab import machine
from bias_lab.definition import Run, Settings, run_id, to_json
from bias_lab.errors import UserError
from bias_lab.execution import worker as worker_module
from bias_lab.execution.queue import Queue
from bias_lab.execution.worker import record_failure

EXECUTE = "bias_lab.training.execute"  # the module whose `execute` and `preflight` a worker calls
TICK = 0.25  # seconds between two looks at the clock

# a spinning OpenMP thread takes a core from its neighbour: two contended 2-thread processes fell to 1 step a second
QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True, slots=True)
class Event:
    """What happened. kind: started, finished, failed, tick."""

    kind: str
    run: Run | None = None
    reason: str = ""
    exception: str = ""


class DiskFullError(Exception):
    """No space left where the sweep writes."""


@dataclass(slots=True, eq=False)
class Worker:
    """One process, and what it is doing."""

    process: subprocess.Popen[bytes]
    answers: IO[bytes]
    output: IO[bytes]  # what it prints outside of runs
    ready: bool = False
    run: Run | None = None
    buffer: bytes = b""
    order: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        assert self.process.stdin is not None  # Popen was asked for a pipe
        self.order = self.process.stdin

    def send(self, order: dict[str, Any]) -> None:
        try:
            self.order.write(json.dumps(order).encode() + b"\n")
            self.order.flush()
        except BrokenPipeError:
            return  # it died; its answers' end says so

    def printed(self) -> str:
        self.output.seek(0)
        return self.output.read().decode(errors="replace").strip()

    def obituary(self) -> str:
        """How it died, for the run that it took along."""
        code = self.process.wait()
        if code >= 0:
            return f"the worker ended with exit code {code}"
        name = signal.Signals(-code).name
        perhaps = "; out of memory, perhaps" if -code == signal.SIGKILL else ""
        return f"the worker was killed by {name}{perhaps}"


class Local:
    """Workers on this machine, one thread each on a CPU, started when there is work for them."""

    def __init__(self, folder: Path, settings: Settings, *, module: str | None = None) -> None:
        self.folder, self.settings, self.module = folder, settings, module or EXECUTE
        self.devices = machine.gpus() if settings.device in ("auto", "cuda") else []
        self.most = (
            settings.workers or len(self.devices) or (1 if settings.device.startswith("cuda") else machine.cores())
        )
        self.workers: list[Worker] = []
        self.started = 0
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> "Local":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            if kind is None:
                worker.send({"kind": "stop"})
            else:
                worker.process.kill()  # whatever it leaves is resumable
        for worker in list(self.workers):
            try:
                worker.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                worker.process.kill()
            self._bury(worker)
        self.selector.close()

    def preflight(self, runs: Iterable[Run]) -> list[str]:
        """What only the heavy half can refuse, asked of the first worker while the others warm up; returns warnings.

        Raises UserError as the worker's preflight does.
        """
        runs = list(runs)
        self._hire(len(runs))
        order = {"kind": "preflight", "runs": [to_json(run) for run in runs], **self._place()}
        asked = self.workers[0]
        asked.send(order)
        while True:
            for worker, answer in self._answers():
                if answer is None:
                    if worker is asked and worker.ready:
                        raise RuntimeError(f"preflight: {worker.obituary()}\n{worker.printed()}")
                    self._failed_to_start(worker)
                    if worker is asked:
                        asked = self.workers[0]
                        asked.send(order)
                elif answer["kind"] == "refused":
                    raise UserError(*answer["error"])
                elif answer["kind"] == "broken":
                    raise RuntimeError(f"preflight failed\n{answer['traceback']}")
                elif answer["kind"] == "cleared":
                    return [str(warning) for warning in answer["warnings"]]

    def work(self, queue: Queue) -> Iterator[Event]:
        """Carry out all runs of the queue, several at a time; a tick at least every quarter of a second.

        Raises DiskFullError; then nothing of the runs under way looks finished.
        """
        while queue.open():
            yield from self._hand_out(queue)
            for worker, answer in self._answers():
                yield from self._heard(worker, answer, queue)
            yield Event("tick")

    def _hand_out(self, queue: Queue) -> Iterator[Event]:
        busy = sum(worker.run is not None for worker in self.workers)
        self._hire(busy + queue.ready())
        for worker in self.workers:
            if worker.ready and worker.run is None and (run := queue.take()) is not None:
                worker.run = run
                worker.send({"kind": "run", "run": to_json(run), **self._place()})
                yield Event("started", run)

    def _heard(self, worker: Worker, answer: dict[str, Any] | None, queue: Queue) -> Iterator[Event]:
        run = worker.run
        if answer is None:
            if run is None:
                self._failed_to_start(worker)
                return
            answer = record_failure(self.folder, run_id(run), "died", worker.obituary())
            self._bury(worker)
        if answer["kind"] == "ready" or run is None:
            return
        worker.run = None
        if answer["kind"] == "full":
            raise DiskFullError(answer["exception"])
        queue.done(run, finished=answer["kind"] == "finished")
        if "CUDA" in answer.get("exception", "") and worker in self.workers:
            worker.process.kill()  # after a CUDA error every later call of the process fails too
            self._bury(worker)
        yield Event(answer["kind"], run, answer.get("reason", ""), answer.get("exception", ""))

    def _place(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "settings": asdict(self.settings)}

    # --- processes -----------------------------------------------------------------------------------------------

    def _hire(self, wanted: int) -> None:
        while len(self.workers) < min(self.most, wanted):
            self.workers.append(self._start())

    def _start(self) -> Worker:
        environment = {**machine.KEEP_HEAP, **os.environ, **QUIET}  # a heap that the user has set is the user's
        threads = str(max(1, machine.cores() // self.most) if self.devices else 1)
        environment.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads)
        if len(self.devices) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = self.devices[self.started % len(self.devices)]
        package = str(Path(worker_module.__file__).parents[2])  # the lab that is running, installed or not
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH", "")]))
        read, write = os.pipe()
        output = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the worker)
        command = [sys.executable, "-P", "-m", worker_module.__name__]  # -P: the current folder shadows no module
        process = subprocess.Popen(
            [*command, "--answers", str(write), "--parent", str(os.getpid()), "--module", self.module],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=(write,),
            env=environment,
            process_group=0,  # a Ctrl-C at the terminal reaches the sweep alone
        )
        os.close(write)
        os.set_blocking(read, False)
        worker = Worker(process, os.fdopen(read, "rb", buffering=0), output)
        self.selector.register(worker.answers, selectors.EVENT_READ, worker)
        self.started += 1
        return worker

    def _answers(self) -> list[tuple[Worker, dict[str, Any] | None]]:
        """Whole answers that have come within a tick; None from a worker that died."""
        heard: list[tuple[Worker, dict[str, Any] | None]] = []
        for key, _ in self.selector.select(TICK):
            worker: Worker = key.data
            data = worker.answers.read(1 << 16)
            if data == b"":
                heard.append((worker, None))
                continue
            *lines, worker.buffer = (worker.buffer + (data or b"")).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                worker.ready = True
                heard.append((worker, answer))
        return heard

    def _failed_to_start(self, worker: Worker) -> None:
        """A worker died idle. With another alive the sweep goes on, smaller; else the reason is told."""
        why, printed = worker.obituary(), worker.printed()
        was_ready = worker.ready
        self._bury(worker)
        if was_ready:
            return
        self.most = len(self.workers)
        if not self.workers:
            raise RuntimeError(f"no worker could start: {why}\n{printed}")

    def _bury(self, worker: Worker) -> None:
        if worker not in self.workers:
            return
        self.workers.remove(worker)
        self.selector.unregister(worker.answers)
        worker.process.wait()
        for stream in (worker.answers, worker.output):
            stream.close()
        try:
            worker.order.close()
        except BrokenPipeError:
            return  # it died with an order unread
