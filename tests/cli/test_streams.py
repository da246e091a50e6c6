"""Printing to a console that can't show a character, and into a pipe that its reader has closed."""

import os
import subprocess
import sys

import pytest

from tests.cli.commands import ROOT

PRINTS = """
import sys
from bias_lab.cli import streams
streams.prepare(report_closed=sys.argv[1] == "report")
from rich.console import Console
for number in range(20_000):
    print("é", number)
Console().print("✓ done")
sys.stdout.flush()
sys.exit(7)
"""


def run(*words: str, stdout: object = subprocess.PIPE, **environment: str) -> tuple[int, bytes, bytes]:
    """Run the script above and return its exit code, standard output and standard error."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with subprocess.Popen(
        [sys.executable, "-c", PRINTS, *words], stdout=stdout, stderr=subprocess.PIPE, env=given
    ) as it:
        if it.stdout is None:
            return it.wait(), b"", it.stderr.read() if it.stderr else b""
        out, err = it.communicate(timeout=60)
        return it.returncode, out, err


def test_what_the_console_cannot_show_is_escaped() -> None:
    code, out, err = run("", PYTHONIOENCODING="ascii")
    assert (code, err) == (7, b"")
    assert out.startswith(b"\\xe9 0\n")
    assert out.endswith(b"\\u2713 done\n")
    assert run("", PYTHONIOENCODING="utf-8")[1].startswith("é 0\n".encode())


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("report", ["report", ""])
def test_a_pipe_that_its_reader_closed_ends_nothing(report: str, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code, _, err = run(report, stdout=writing, PYTHONUNBUFFERED=unbuffered)
    os.close(writing)
    assert code == 7
    assert err.decode() == (
        "bias-lab: the output was closed, so the rest of it is not shown; the command goes on\n" if report else ""
    )


def test_a_stream_that_is_closed_from_the_start_is_replaced() -> None:
    code = (
        "import os, subprocess, sys\n"
        "os.close(0), os.close(1)\n"
        f"os.execv(sys.executable, [sys.executable, '-c', {PRINTS!r}, ''])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stderr) == (7, b"")
