"""A user's own things, identified by their content: a backbone (`package.module:factory`), weights, a source.

A run holds the identity, FOLDER/places.json the place. The backbone's module is found without importing it.
"""

import ast
import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from bias_lab import catalogue
from bias_lab.errors import UserError, unknown


def source(name: str, here: Path | None = None) -> str:
    """Hash of the source file that defines `package.module:factory`: part of a run, so that an edit makes new runs.

    Looks in the current folder (`here`), then where Python does. Raises UserError if it isn't there.
    """
    module, _, factory = name.partition(":")
    if not module or not factory or not all(part.isidentifier() for part in [*module.split("."), *factory.split(".")]):
        raise UserError(f"backbone '{name}' is not package.module:factory", remedy="for example my_models.vit:my_vit")
    path = _find(module, here or Path.cwd())
    if path is None:
        raise UserError(
            f"backbone '{name}': no module '{module}' in {here or Path.cwd()} or on Python's path",
            remedy="run bias-lab in the folder that holds it, or install its package",
        )
    text = path.read_bytes()
    names = _names(text, path)
    if names is not None and factory.split(".")[0] not in names:
        raise unknown(f"factory in {path.name}", factory, names)
    return hashlib.sha256(text).hexdigest()[:12]


def weights(name: str) -> tuple[str, dict[str, str]]:
    """A weights' name as a run holds it, and its place: `file:<hash>` and the path for a file, else name and nothing.

    Raises UserError for a file that isn't there.
    """
    path = Path(name)
    if path.suffix not in catalogue.WEIGHT_FILES and not path.exists():
        return name, {}
    if not path.is_file():
        raise UserError(f"no weights file {name}", remedy="a .safetensors or .pth file, or a timm name")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return f"file:{digest}", {"path": str(path.absolute())}


def images(name: str, *, folder: Path, image_size: int | None, skip_bad: bool = False) -> tuple[str, dict[str, Any]]:
    """A pretraining's source as a run holds it, and its place: `folder:<fingerprint>` for a folder of images without
    classes, else name and nothing. folder: the sweep's, where the index is kept.
    """
    if not name or name in catalogue.SOURCES or name in catalogue.DATASETS or not Path(name).is_dir():
        return name, {}
    from bias_lab.data import unlabelled

    return unlabelled.index(Path(name), folder=folder, image_size=image_size or 64, skip_bad=skip_bad)


def _find(module: str, here: Path) -> Path | None:
    """The module's file. Packages above it are walked through by path, not imported."""
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
    """Where a top-level module lies, as a path without suffix; `find_spec` of a name without dots imports nothing."""
    if top in sys.builtin_module_names:
        return []
    spec = importlib.util.find_spec(top)
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin).with_suffix("")] if spec.origin else []


def _names(text: bytes, path: Path) -> set[str] | None:
    """Names that the module binds at its top; None if a star import or a condition hides some."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}", remedy="mend the file") from error
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
