"""The report beside a running sweep."""

import time
from collections.abc import Callable

from bias_lab.execution.publisher import Publisher


def wait(condition: Callable[[], bool]) -> None:
    while not condition():  # pytest's time limit ends a test that hangs
        time.sleep(0.01)


def test_the_report_is_written_rarely_and_never_twice_at_once() -> None:
    calls: list[float] = []
    now = [0.0]
    with Publisher(lambda: calls.append(now[0]), now=lambda: now[0]) as publisher:
        publisher.request()
        wait(lambda: publisher.running is not None and publisher.running.done())
        publisher.request()  # too soon after the first call
        publisher.tick()
        assert len(calls) == 1
        now[0] = publisher.LEAST + 1
        publisher.tick()
        wait(lambda: len(calls) == 2)
    assert calls == [0.0, publisher.LEAST + 1]


def test_an_error_is_kept_and_the_next_call_runs() -> None:
    calls: list[int] = []

    def publish() -> None:
        calls.append(1)
        raise ValueError("planted")

    now = [0.0]
    with Publisher(publish, now=lambda: now[0]) as publisher:
        for _ in range(2):
            publisher.request()
            wait(lambda: publisher.running is None or publisher.running.done())
            publisher.tick()
            now[0] += publisher.LEAST
    assert len(calls) == 2
    assert publisher.problem == "the report could not be written: ValueError: planted"
