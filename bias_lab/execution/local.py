"""Carry out runs in worker processes on this machine.

A worker imports torch once and carries out one run after another. If it dies (kill -9, a segfault, no memory), its run
is recorded as failed and a new worker takes its device.
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
from typing import IO, Any, Self

from bias_lab import machine
from bias_lab.definition import Run, Settings, run_id, to_json
from bias_lab.errors import UserError
from bias_lab.execution import engine
from bias_lab.execution import worker as worker_module
from bias_lab.execution.engine import DiskFullError, Engine, Event
from bias_lab.execution.queue import Queue
from bias_lab.execution.worker import record_failure

TICK = 0.25  # seconds to wait for an answer

# A spinning OpenMP thread takes a core from its neighbour: two 2-thread processes that competed fell to 1 step/s.
QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


@dataclass(slots=True, eq=False)
class Worker:
    """Hold one worker process and the run that it carries out.

    answers: the pipe of its answers. output: what it prints outside of runs. device: its GPU as CUDA_VISIBLE_DEVICES
    names it, empty if it may use all.
    """

    process: subprocess.Popen[bytes]
    answers: IO[bytes]
    output: IO[bytes]
    device: str = ""
    ready: bool = False
    run: Run | None = None
    buffer: bytes = b""
    orders: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        assert self.process.stdin is not None  # Popen was asked for a pipe
        self.orders = self.process.stdin

    def send(self, order: dict[str, Any]) -> None:
        """Write an order to the worker. If the worker has died, the end of its answers reports that."""
        try:
            self.orders.write(json.dumps(order).encode() + b"\n")
            self.orders.flush()
        except BrokenPipeError:
            return

    def printed(self) -> str:
        """Return what the worker printed outside of runs."""
        self.output.seek(0)
        return self.output.read().decode(errors="replace").strip()

    def exit_reason(self) -> str:
        """Wait for the end of the process and return how it ended."""
        code = self.process.wait()
        if code >= 0:
            return f"the worker ended with exit code {code}"
        memory = "; the machine may be out of memory" if -code == signal.SIGKILL else ""
        return f"the worker was killed by {signal.Signals(-code).name}{memory}"


class Local(Engine):
    """Carry out runs in worker processes, which start when there is work for them.

    By default there is one worker on each GPU, or one worker with one thread on each CPU core.
    """

    def __init__(self, folder: Path, settings: Settings, *, module: str | None = None) -> None:
        """module: the module whose `execute` and `preflight` a worker calls (default: `engine.EXECUTE`)."""
        self.folder, self.settings, self.module = folder, settings, module or engine.EXECUTE
        self.devices = machine.gpus() if settings.device in ("auto", "cuda") else []
        one_device = settings.device.startswith("cuda")
        self.most = settings.workers or len(self.devices) or (1 if one_device else machine.cores())
        self.workers: list[Worker] = []
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for worker in self.workers:
            if kind is None:
                worker.send({"kind": "stop"})
            else:
                worker.process.kill()  # its run can be resumed
        for worker in list(self.workers):
            try:
                worker.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                worker.process.kill()
            self._remove(worker)
        self.selector.close()

    def preflight(self, runs: Iterable[Run]) -> list[str]:
        """Let the first worker check the runs while the others start, and return its warnings.

        Raise UserError for a user's mistake, and RuntimeError if the check breaks or no worker can start.
        """
        runs = list(runs)
        self.start_workers(len(runs))
        order = {"kind": "preflight", "runs": [to_json(run) for run in runs], **self._place()}
        first = self.workers[0]
        first.send(order)
        while True:
            for worker, answer in self._answers():
                if answer is None:
                    if worker is first and worker.ready:
                        raise RuntimeError(f"preflight: {worker.exit_reason()}\n{worker.printed()}")
                    self._drop_idle(worker)
                    if worker is first:
                        first = self.workers[0]
                        first.send(order)
                elif answer["kind"] == "user_error":
                    raise UserError(*answer["error"])
                elif answer["kind"] == "broken":
                    raise RuntimeError(f"preflight failed\n{answer['traceback']}")
                elif answer["kind"] == "cleared":
                    return [str(warning) for warning in answer["warnings"]]

    def work(self, queue: Queue) -> Iterator[Event]:
        """Carry out all runs of the queue, several at a time, and yield what happens.

        Raise DiskFullError when the disk is full.
        """
        while queue.open():
            yield from self._assign(queue)
            for worker, answer in self._answers():
                yield from self._handle(worker, answer, queue)
            yield Event("tick")

    def _assign(self, queue: Queue) -> Iterator[Event]:
        busy = sum(worker.run is not None for worker in self.workers)
        self.start_workers(busy + queue.ready())
        for worker in self.workers:
            if worker.ready and worker.run is None and (run := queue.take()) is not None:
                worker.run = run
                worker.send({"kind": "run", "run": to_json(run), **self._place()})
                yield Event("started", run)

    def _handle(self, worker: Worker, answer: dict[str, Any] | None, queue: Queue) -> Iterator[Event]:
        run = worker.run
        if answer is None:
            if run is None:
                self._drop_idle(worker)
                return
            answer = record_failure(self.folder, run_id(run), "died", worker.exit_reason())
            self._remove(worker)
        if answer["kind"] == "ready" or run is None:
            return
        worker.run = None
        if answer["kind"] == "full":
            raise DiskFullError(answer["exception"])
        queue.done(run, finished=answer["kind"] == "finished")
        if "CUDA" in answer.get("exception", "") and worker in self.workers:
            worker.process.kill()  # after a CUDA error every later call in the process fails too
            self._remove(worker)
        yield Event(answer["kind"], run, answer.get("reason", ""), answer.get("exception", ""))

    def _place(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "settings": asdict(self.settings)}

    # --- processes ---------------------------------------------------------------------------------------------------

    def start_workers(self, wanted: int) -> None:
        """Start workers until there are `wanted`, or `most` if that is less."""
        while len(self.workers) < min(self.most, wanted):
            self.workers.append(self._start())

    def _start(self) -> Worker:
        device = self._free_device()
        environment = self._environment(device)
        read, write = os.pipe()
        output = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the worker lives)
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
        worker = Worker(process, os.fdopen(read, "rb", buffering=0), output, device)
        self.selector.register(worker.answers, selectors.EVENT_READ, worker)
        return worker

    def _free_device(self) -> str:
        """Return the GPU with the fewest living workers. A replacement thus takes the GPU of the worker that died."""
        used = [worker.device for worker in self.workers]
        return min(self.devices, key=used.count) if len(self.devices) > 1 else ""

    def _environment(self, device: str) -> dict[str, str]:
        """Return the environment of a worker. What the user has set of KEEP_HEAP stays as it is."""
        threads = str(max(1, machine.cores() // self.most) if self.devices else 1)
        environment = {**machine.KEEP_HEAP, **os.environ, **QUIET}
        environment.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads)
        if device:
            environment["CUDA_VISIBLE_DEVICES"] = device
        package = str(Path(worker_module.__file__).parents[2])  # this copy of the package, installed or not
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH", "")]))
        return environment

    def _answers(self) -> list[tuple[Worker, dict[str, Any] | None]]:
        """Return the complete answers that arrived within a tick. None stands for a worker that died."""
        answers: list[tuple[Worker, dict[str, Any] | None]] = []
        for key, _ in self.selector.select(TICK):
            worker: Worker = key.data
            data = worker.answers.read(1 << 16)
            if data == b"":
                answers.append((worker, None))
                continue
            *lines, worker.buffer = (worker.buffer + (data or b"")).split(b"\n")
            for line in lines:
                worker.ready = True
                answers.append((worker, json.loads(line)))
        return answers

    def _drop_idle(self, worker: Worker) -> None:
        """Remove a worker that died without a run. If it never started, go on with fewer workers.

        Raise RuntimeError with what it printed if no worker is left.
        """
        reason, printed = worker.exit_reason(), worker.printed()
        self._remove(worker)
        if worker.ready:
            return
        self.most = len(self.workers)
        if not self.workers:
            raise RuntimeError(f"no worker could start: {reason}\n{printed}")

    def _remove(self, worker: Worker) -> None:
        if worker not in self.workers:
            return
        self.workers.remove(worker)
        self.selector.unregister(worker.answers)
        worker.process.wait()
        for stream in (worker.answers, worker.output):
            stream.close()
        try:
            worker.orders.close()
        except BrokenPipeError:
            return  # it died before it read its last order
