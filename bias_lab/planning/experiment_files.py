"""Find, list and read experiment files: those of the package and a user's own.

An experiment file defines `experiment(profile: str) -> Experiment`. If it has `PROFILES`, whose keys or values are the
names of its profiles, `bias-lab experiments` lists them. Its docstring begins with the question in one line.
"""

import ast
import contextlib
import importlib.util
import runpy
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bias_lab import ledger
from bias_lab.definition import Experiment
from bias_lab.errors import UserError, check_regular, unknown


def find(name_or_path: str | Path) -> Path:
    """Return the path of an experiment file, given by its path or by the name of one of the package's.

    Underscores and hyphens are the same in a name. Raises UserError for a file or a name that does not exist.
    """
    path = Path(name_or_path)
    check_regular(path)
    if path.is_file():
        return path
    ours = _shipped()
    name = str(path).replace("-", "_")
    if path.suffix == ".py" or len(path.parts) > 1:
        beside = sorted(str(other) for other in path.parent.glob("*.py") if other.stem != "__init__")
        raise unknown("experiment file", str(path), beside or ours)
    if name not in ours:
        raise unknown("experiment", name, ours, "a path of your own file works too", list_all=True)
    return ours[name]


def listed() -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the package's experiments, sorted by name: (name, first line of the docstring, names of the profiles)."""
    return [(name, _headline(path), _profiles(_namespace(path))) for name, path in _shipped().items()]


def tuned() -> Path:
    """Return the path of the table of tuned learning rates that the package ships."""
    return _folder() / ledger.TUNED


def read(path: Path, profile: str) -> Experiment:
    """Run an experiment file and return its experiment for one profile.

    Raises UserError for a missing file, an unknown profile, and an exception in the file, with its line.
    """
    path = find(path)
    namespace = _namespace(path)
    make = namespace.get("experiment")
    if not callable(make):
        raise UserError(f"{path} defines no experiment(profile)", remedy="bias-lab experiments lists files that do")
    with _at_its_line(path):
        try:
            experiment = make(profile)
        except KeyError as error:  # a file that looks the profile up itself, without `choose_profile`
            profiles = _profiles(namespace)
            if profiles and error.args == (profile,):
                raise unknown("profile", profile, profiles) from error
            raise
    if not isinstance(experiment, Experiment):
        raise UserError(f"{path}: experiment('{profile}') returned {type(experiment).__name__}", "an Experiment")
    return experiment


def _shipped() -> dict[str, Path]:
    """Return name → path of the package's experiment files, sorted by name."""
    return {path.stem: path for path in sorted(_folder().glob("*.py")) if path.stem != "__init__"}


def _folder() -> Path:
    """Return the folder of the package's experiments. The build maps `experiments/` to `bias_lab.experiments`."""
    spec = importlib.util.find_spec("bias_lab.experiments")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("bias_lab.experiments is not installed", remedy="install the package: make install")
    return Path(next(iter(spec.submodule_search_locations)))


def _namespace(path: Path) -> dict[str, Any]:
    """Run a file and return its names."""
    with _at_its_line(path):
        return runpy.run_path(str(path), run_name="bias_lab_experiment")


def _profiles(namespace: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of a file's profiles, empty if it does not list them. Older files call the table `SCALE`."""
    return tuple(namespace.get("PROFILES", namespace.get("SCALE", ())))


def _headline(path: Path) -> str:
    """Return the first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


@contextlib.contextmanager
def _at_its_line(path: Path) -> Iterator[None]:
    """Turn an exception in the user's Python into a UserError that names the line."""
    try:
        yield
    except UserError:
        raise
    except SyntaxError as error:  # perhaps in a module that the file imports
        line = f", line {error.lineno}" if error.lineno else ""
        what = f"{error.filename or path}{line}: {error.msg}"
        raise UserError(what, remedy="correct the file") from error
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise UserError(f"{where}: {type(error).__name__}: {error}", remedy="correct the file") from error
