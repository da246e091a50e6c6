"""Run a command line: `bias-lab COMMAND`. The commands stand in the other files of this folder, grouped by purpose.

They import what they need inside their functions, so that `--help` takes less than a second.
"""

import argparse
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from bias_lab.cli import flags, reading, sweeps, tools
from bias_lab.errors import UserError

USER_ERROR, INTERRUPTED = 2, 130  # exit codes (1: runs failed)

COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], Callable[[flags.Parser], None]]] = {
    "sweep": (sweeps.sweep, flags.sweep),
    "train": (sweeps.train, flags.train),
    "experiments": (tools.experiments, flags.nothing),
    "status": (reading.status, flags.folder),
    "show": (reading.show, flags.show),
    "report": (reading.report, flags.report),
    "tuned": (reading.tuned, flags.tuned),
    "backbones": (tools.backbones, flags.backbones),
    "datasets": (tools.datasets, flags.datasets),
    "subset": (tools.subset, flags.subset),
    "bench": (tools.bench, flags.bench),
    "wandb-sync": (reading.wandb_sync, flags.wandb_sync),
    "wandb-dashboard": (reading.wandb_dashboard, flags.wandb_dashboard),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 runs failed, 2 a user's mistake, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)  # a scheduler's request to stop
    try:
        arguments = flags.parse(words, COMMANDS)
        arguments.typed = shlex.join(["bias-lab", *words])
        code: int = arguments.run(arguments)
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("stopped: finished runs are kept, and the same command continues the sweep", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `bias-lab status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from bias_lab.execution.worker import disk_full

        if not disk_full(error):
            raise
        print("error: no space left on the disk; make room, then give the same command to continue", file=sys.stderr)
        return USER_ERROR


def _terminate(*_: object) -> NoReturn:
    raise KeyboardInterrupt
