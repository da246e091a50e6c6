"""`bias-lab` with the stand-in for training: `python -m tests.sweep.drive COMMAND …`, for tests that send signals."""

import signal
import sys

from bias_lab import cli
from bias_lab.sweep import engines

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts jobs in the background ignores it
    engines.EXECUTE = "tests.sweep.fake_execute"
    sys.exit(cli.main())
