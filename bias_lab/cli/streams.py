"""Print whatever the console is: one that can't show a character, or a pipe that its reader has closed."""

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, TextIO, cast

GONE = (errno.EPIPE, errno.EBADF, errno.EIO, errno.ECONNRESET, errno.ESHUTDOWN)  # nobody can read the stream any more
CLOSED = "the output was closed, so the rest of it is not shown; the command goes on"


class _Pipe(io.FileIO):
    """A descriptor that takes and drops what is written once its reader is gone, in place of raising an error."""

    def __init__(self, descriptor: int, closed: Callable[[], None]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._report = closed
        self._dropping = False

    def write(self, data: Any, /) -> int:
        """Return the number of bytes taken."""
        if not self._dropping:
            try:
                return super().write(data)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                self._dropping = True
                self._report()
        return len(data)


def prepare(*, report_closed: bool) -> None:
    """Make standard output and standard error of this process fit for anything.

    Characters that the console's encoding lacks are printed as their escapes. Where a reader closes its end (`| head`),
    the rest is dropped. A stream that was closed from the start is replaced by an open one that drops everything, so
    that no other file gets its number. report_closed: say on standard error that the reader is gone, for commands that
    work on for long.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))
    sys.stderr = _prepared(sys.stderr, lambda: None)
    report = f"bias-lab: {CLOSED}" if report_closed else ""
    sys.stdout = _prepared(sys.stdout, lambda: print(report, end="\n" if report else "", file=sys.stderr, flush=True))


def _prepared(stream: TextIO, closed: Callable[[], None]) -> TextIO:
    """Return a stream that writes to the same descriptor. One that is no real file, as in a test, stays as it is."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # PYTHONUNBUFFERED leaves out the buffer
    if not isinstance(stream, io.TextIOWrapper) or not isinstance(raw, io.FileIO) or isinstance(raw, _Pipe):
        return stream
    stream.flush()
    pipe = _Pipe(stream.fileno(), closed)
    return io.TextIOWrapper(
        cast(BinaryIO, pipe if buffer is raw else io.BufferedWriter(pipe)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
