"""Run a command line: `bias-lab COMMAND`. The commands stand in the other files of this folder, grouped by purpose.

They import what they need inside their functions, so that `--help` takes less than a second.
"""

import contextlib
import errno
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bias_lab.cli import flags, reading, streams, sweeps, tools
from bias_lab.cli.flags import Command
from bias_lab.errors import UserError

USER_ERROR, INTERRUPTED = 2, 130  # exit codes (1: runs failed)

REFUSED = (errno.EACCES, errno.EPERM, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EROFS, errno.ENAMETOOLONG)
REMEDY = "give another path, or permission"  # where the system refuses to open what was typed
WORKING = (["sweep"], ["train"], ["bench"])  # what goes on for long after the first line
COMMANDS = {
    command.name: command
    for command in (
        Command("sweep", sweeps.sweep, flags.sweep, "run an experiment, several runs at a time"),
        Command("train", sweeps.train, flags.train, "carry out one run, given by flags or like another run (--like)"),
        Command("experiments", tools.experiments, flags.nothing, "list the experiments that come with the package"),
        Command("status", reading.status, flags.folder, "print which runs are finished, running, failed and missing"),
        Command("runs", reading.runs, flags.runs, "list the runs of a folder: ids, results, and where the weights lie"),
        Command("show", reading.show, flags.show, "print one run: its definition, its result, and how to repeat it"),
        Command("report", reading.report, flags.report, "write the table and the report of a folder again"),
        Command("tuned", reading.tuned, flags.tuned, "choose learning rates from the tuning runs of a folder"),
        Command("backbones", tools.backbones, flags.backbones, "list the backbones of the lab"),
        Command("datasets", tools.datasets, flags.datasets, "list the datasets by name, or check one"),
        Command("subset", tools.subset, flags.subset, "write a manifest: the training images of one draw in order"),
        Command("bench", tools.bench, flags.bench, "measure the lab against its references"),
        Command("wandb-sync", reading.wandb_sync, flags.wandb_sync, "export the runs of a folder to W&B"),
        Command("wandb-dashboard", reading.wandb_dashboard, flags.wandb_dashboard, "save a W&B workspace and a report"),
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 runs failed, 2 a user's mistake, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    streams.prepare(report_closed=words[:1] in WORKING)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)  # a scheduler's request to stop
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("stopped: finished runs are kept, and the same command continues the sweep", file=sys.stderr)
        return INTERRUPTED
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":
            raise
        print(f"error: {_odd_name(error.object[max(0, error.start - 40) : error.end + 40])}", file=sys.stderr)
        return USER_ERROR
    except Exception as error:
        from bias_lab.execution.worker import disk_full

        if isinstance(error, OSError) and error.errno in REFUSED and error.filename:
            print(
                f"error: {UserError(f'{error.filename2 or error.filename}: {error.strerror}', REMEDY)}", file=sys.stderr
            )
            return USER_ERROR
        if not disk_full(error):
            raise
        print("error: no space left on the disk; make room, then give the same command to continue", file=sys.stderr)
        _drop_output()
        return USER_ERROR


def _run(words: Sequence[str]) -> int:
    for word in words:
        if any("\ud800" <= letter <= "\udfff" for letter in word):  # stands for a byte that is not UTF-8
            raise _odd_name(word)
    try:
        arguments = flags.parse(words, COMMANDS)
    except SystemExit:  # after --help
        sys.stdout.flush()
        raise
    arguments.typed = shlex.join(["bias-lab", *words])
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(
            "the working directory does not exist any more, or can't be read", remedy="change to another with cd"
        ) from error
    code: int = arguments.run(arguments)
    return code


def _odd_name(name: str) -> UserError:
    return UserError(f"the name '{name}' is not UTF-8", "names and paths must be", "rename the file or folder")


def _drop_output() -> None:
    """Send what standard output still holds nowhere, since Python would fail to write it at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminate(*_: object) -> NoReturn:
    raise KeyboardInterrupt
