"""Hold the folder of a sweep while it is worked on, and leave nothing behind where the arguments were not valid."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from bias_lab.errors import UserError

SINGLE = "single runs"  # the profile of a folder that `bias-lab train` writes


@contextlib.contextmanager
def claimed(folder: Path, *, lasting: bool = True) -> Iterator[None]:
    """Claim the folder for this sweep. lasting: False for a dry run, which leaves no new file there.

    If this command made the folder, it removes it and the folders above it again: after a mistake of the user before
    the first run, and where nothing was written. A file that the error names stays.
    """
    from bias_lab import ledger

    new = [place for place in (folder, *folder.parents) if not place.exists()]
    had = _planned(folder)
    message = ""
    try:
        with ledger.claim(folder):
            yield
    except UserError as error:
        message = str(error)
        if folder in new and not (folder / "runs").exists():
            _remove([path for path in folder.rglob("*") if path.name != ledger.LOCK], message)
        raise
    finally:
        if not lasting:
            _remove(_planned(folder) - had, message)
        if folder in new and folder.is_dir() and {entry.name for entry in folder.iterdir()} <= {ledger.LOCK}:
            (folder / ledger.LOCK).unlink(missing_ok=True)
        for place in new:  # the innermost comes first
            with contextlib.suppress(OSError):  # it is not empty, or was never made
                place.rmdir()


def _planned(folder: Path) -> set[Path]:
    """Return what planning may have written into a folder: files at its top, and those of its `data`."""
    return {*folder.glob("*"), *folder.glob("data/**/*")}


def _remove(paths: Iterable[Path], message: str) -> None:
    """Remove files, except those that a message names, and folders that are empty then."""
    for path in sorted(paths, reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.rmdir()
        elif str(path) not in message:
            path.unlink(missing_ok=True)


def check_profile(folder: Path, profile: str) -> None:
    """Raise UserError if the folder holds runs of another profile, or single runs beside a sweep.

    A folder has one question and one profile, which its report prints. profile: `SINGLE` for a single run.
    """
    from bias_lab import ledger

    path = folder / ledger.EXPERIMENT
    before = ledger.read_json(path).get("profile", profile) if path.is_file() else profile
    if before == profile:
        return
    if profile == SINGLE:
        what = f"{folder} holds a sweep of the profile '{before}', and one report can't mix it with single runs"
        raise UserError(what, remedy="give another --out")
    if before == SINGLE:
        what = f"{folder} holds single runs of bias-lab train, and one report can't mix them with a sweep"
        raise UserError(what, remedy="give another --out")
    raise UserError(
        f"{folder} holds the profile '{before}', and one report can't mix it with '{profile}'",
        remedy=f"give another --out, or --profile {before} to continue that one",
    )
