"""`bias-lab` with stand-ins for training and the report: `python -m tests.sweep.drive …`, for tests of signals."""

import signal
import sys
from pathlib import Path

from bias_lab import cli, ledger
from bias_lab.analysis import report
from bias_lab.sweep import engines


def page(folder: Path) -> Path:
    """In place of the report: as atomic as it, without its figures."""
    ledger.write_bytes(folder / ledger.REPORT, b"<!doctype html>")
    return folder / ledger.REPORT


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts jobs in the background ignores it
    engines.EXECUTE = "tests.sweep.fake_execute"
    report.write = page
    sys.exit(cli.main())
