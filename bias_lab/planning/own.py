"""Identify a user's backbone (`package.module:factory`), weights file or folder of images by a hash of its content.

A run holds the hash, and FOLDER/places.json the path. The backbone's module is found without being imported.
"""

import ast
import hashlib
import importlib.util
import json
import pickletools
import struct
import subprocess
import sys
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bias_lab import catalogue
from bias_lab.definition import Run
from bias_lab.errors import UserError, check_regular, unknown
from bias_lab.planning import overrides

AGAIN = "download or write it again"
LONGEST = 100 * 2**20  # bytes of a .safetensors header, which the format allows


def source_of(backbone: str) -> str:
    """Return the hash of an own backbone's source, empty for the lab's and timm's backbones."""
    return source(backbone) if catalogue.is_own(backbone) else ""


def source(name: str, here: Path | None = None, *, kind: str = "backbone") -> str:
    """Return the hash of the source file that defines `package.module:factory`, so that an edit makes new runs.

    Search the folder `here` (the current one by default), then Python's path. Raises UserError if it is not found.
    """
    module, _, factory = name.partition(":")
    if not module or not factory or not all(part.isidentifier() for part in [*module.split("."), *factory.split(".")]):
        raise UserError(f"{kind} '{name}' is not package.module:factory", remedy="for example my_models.vit:my_vit")
    path = _find(module, here or Path.cwd())
    if path is None:
        raise UserError(
            f"{kind} '{name}': no module '{module}' in {here or Path.cwd()} or on Python's path",
            remedy="run bias-lab in the folder of the module, or install its package",
        )
    text = path.read_bytes()
    names = _names(text, path)
    if names is not None and factory.split(".")[0] not in names:
        offered = {one for one in names if not one.startswith("_")} - _imported_modules(text)
        raise unknown(f"{'factory' if kind == 'backbone' else kind} in {path.name}", factory, offered)
    return hashlib.sha256(text).hexdigest()[:12]


def weights(name: str) -> tuple[str, dict[str, str]]:
    """Return weights as a run names them, and their place: `file:<hash>` and the path, or a timm name and {}.

    Raises UserError for a file that does not exist or is not whole.
    """
    path = Path(name)
    if path.suffix not in catalogue.WEIGHT_FILES and not path.exists():
        return name, {}
    check_regular(path)
    if not path.is_file():
        raise UserError(f"no weights file {name}", remedy="give a .safetensors or .pth file, or a timm name")
    check_whole(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return f"file:{digest}", {"path": str(path.absolute())}


def from_weights(runs: Sequence[Run], backbones: Collection[str], weights: str) -> list[Run]:
    """Return the runs and, after each distinct run from scratch of the named backbones, the same from weights.

    weights: a timm name or `file:<hash>`. Without a named backbone, the runs that start from weights get these ones.
    Raises UserError if none do, or if they are of several backbones.
    """
    if backbones:
        started_runs: dict[Run, None] = {}
        for run in runs:
            started_runs[run] = None
            row, task = catalogue.REGIMES[run.regime], catalogue.TASKS[run.task]
            if run.backbone in backbones and not row.starts_from and task.evaluated_on == "test":
                new = replace(run, regime=catalogue.FROM_WEIGHTS, weights=weights, source=weights, learning_rate=None)
                started_runs[new] = None
        return list(started_runs)
    there = sorted({run.backbone for run in runs if run.weights})
    if len(there) != 1:
        what = (
            f"they would be those of {', '.join(there)}" if there else "no run of this experiment starts from weights"
        )
        raise UserError(f"--weights: {what}", remedy="name the backbone that they belong to with --backbone NAME")
    return overrides.rewrite(runs, lambda run: replace(run, weights=weights, source=weights) if run.weights else run)


def check_whole(path: Path) -> None:
    """Raise UserError if a weights file is empty, cut off, or of no known format.

    Only its outline is read, without torch, so that a damaged file is named before anything else is planned.
    """
    if path.suffix == ".safetensors":
        _check_safetensors(path)
    elif path.suffix != ".npz":
        _check_pickle(path)


def _check_safetensors(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 0 < length <= min(size - 8, LONGEST):
            raise UserError(f"{path} is not a whole .safetensors file (its header is cut off)", remedy=AGAIN)
        text = file.read(length)
    try:
        entries = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, AttributeError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a whole .safetensors file (its header is damaged)", remedy=AGAIN) from error
    if not all(isinstance(end, int) for end in ends) or 8 + length + max(ends, default=0) != size:
        raise UserError(f"{path} is not a whole .safetensors file (its tensors are cut off)", remedy=AGAIN)


def _check_pickle(path: Path) -> None:
    """Check a file that torch.save wrote: an archive, or pickles one after another."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            if not zipfile.is_zipfile(path):
                raise UserError(f"{path} is not a whole PyTorch file (its archive is cut off)", remedy=AGAIN)
            return
        file.seek(0)
        try:
            for opcode, _, _ in pickletools.genops(file):
                if opcode.name == "STOP":
                    return
        except Exception as error:  # foreign bytes raise whatever they mean as a pickle
            raise UserError(f"{path} is not a whole PyTorch file (it is no pickle)", remedy=AGAIN) from error


def refusals(backbone: str, *, image_size: int, channels: int) -> dict[str, str]:
    """Return the regimes whose pretraining a backbone can't take, and why.

    The catalogue tells it of names, and a process of its own tries the user's code, which takes some seconds.
    """
    if not catalogue.is_own(backbone):
        why = {}
        for name in (row.name for row in catalogue.REGIMES.values() if row.module):
            try:
                catalogue.check_regime(backbone, name)
            except UserError as error:
                why[name] = error.what
        return why
    words = [sys.executable, "-m", "bias_lab.training.abilities", backbone, str(image_size), str(channels)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[2]} {backbone} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return {name: reason for name, reason in found.items() if reason}


def images(
    name: str, *, folder: Path, image_size: int | None, skip_bad: bool = False, labelled: bool = False
) -> tuple[str, dict[str, Any]]:
    """Return a pretraining's source as a run names it, and its place.

    A folder of images gives `folder:<fingerprint>` and its place, every other source its name and {}. folder: the
    sweep's, which keeps the index. skip_bad: leave out images that can't be read. labelled: whether the pretraining
    learns from labels, so that the folder must hold a folder for each class.
    """
    if not name or name in catalogue.SOURCES or name in catalogue.DATASETS or not Path(name).is_dir():
        return name, {}
    from bias_lab.data import unlabelled

    side = image_size or 64
    return unlabelled.index(Path(name), folder=folder, image_size=side, skip_bad=skip_bad, labelled=labelled)


def _find(module: str, here: Path) -> Path | None:
    """Return the module's file or None. Packages above it are searched by path, not imported."""
    top, *rest = module.split(".")
    local = [here / top] if (here / top).is_dir() or (here / f"{top}.py").is_file() else []
    places = local or _installed(top)
    for place in places:
        path = place.joinpath(*rest)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _installed(top: str) -> list[Path]:
    """Return the paths of an installed top-level module, without suffix. `find_spec` of such a name imports nothing."""
    if top in sys.builtin_module_names:
        return []
    spec = importlib.util.find_spec(top)
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin).with_suffix("")] if spec.origin else []


def _imported_modules(text: bytes) -> set[str]:
    """Return the names that a module's `import …` statements bind, which are no factories."""
    imports = [node for node in ast.parse(text).body if isinstance(node, ast.Import)]
    return {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}


def _names(text: bytes, path: Path) -> set[str] | None:
    """Return the names that a module binds at its top level, or None if a star import or a condition hides some."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}", remedy="correct the file") from error
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Assign():
                names.update(target.id for target in node.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Import() | ast.ImportFrom():
                names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
            case ast.If() | ast.Try() | ast.With() | ast.For() | ast.While() | ast.Match():
                return None
    return None if "*" in names else names
