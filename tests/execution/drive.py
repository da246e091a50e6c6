"""Run `bias-lab` with stand-ins for training and the report, to test signals: `python -m tests.execution.drive`."""

import signal
import sys
from pathlib import Path

from bias_lab import ledger
from bias_lab.cli import main
from bias_lab.execution import engine
from bias_lab.report import report


def page(folder: Path, **_: object) -> Path:
    """Write an empty page in place of the report, which takes seconds."""
    ledger.write_bytes(folder / ledger.REPORT, b"<!doctype html>")
    return folder / ledger.REPORT


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for jobs in the background
    engine.EXECUTE = "tests.execution.fake_execute"
    report.write = page
    sys.exit(main.main())
