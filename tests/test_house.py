"""The rules of the house (levels, the light half, names, docs), held by reading the source and by importing it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from bias_lab import catalogue

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "bias_lab"
FILES = sorted(PACKAGE.rglob("*.py"))
LEVELS = {
    "errors": 0,
    "catalogue": 1,
    "machine": 1,
    "definition": 2,
    "schema": 3,
    "tuning": 3,
    "ledger": 4,
    "rows": 4,
    "results": 5,
    "data": 6,
    "backbones": 6,
    "statistics": 6,
    "tracking": 6,
    "training": 7,
    "planning": 7,
    "report": 7,
    "probes": 8,
    "models": 8,
    "execution": 9,
    "advice": 10,
    "bench": 10,
    "cli": 11,
}
GROUND = {"bias_lab", "bias_lab.errors", "bias_lab.catalogue", "bias_lab.definition", "bias_lab.machine"}
TUNES = {
    "bias_lab.planning.checks",
    "bias_lab.planning.experiment_files",
    "bias_lab.tuning",
}  # what tuning reads of others
HEAVY = {"torch", "timm", "lightning", "torchmetrics", "torchvision"}
LIGHT_ROOMS = ("catalogue", "statistics", "tracking", "planning", "report", "execution", "cli")
LIGHT = [
    path
    for path in FILES
    if (path.parent == PACKAGE or path.relative_to(PACKAGE).parts[0] in LIGHT_ROOMS)
    and path != PACKAGE / "tracking" / "live.py"  # the logger of a run while it trains
] + [PACKAGE / "data" / "subsets.py"]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, inside functions too; `from a import b` gives a.b where that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                as_path = ROOT / Path(*inner.split("."))
                yield inner if as_path.with_suffix(".py").is_file() or as_path.is_dir() else str(node.module)


def wrong_imports(path: Path) -> list[str]:
    """What a file imports against the levels."""
    own = room_of(module_of(path))
    wrong = []
    for name in imports(path):
        if not name.startswith("bias_lab.") or room_of(name) == own:
            continue
        if own == "":
            continue  # the package offers names of all rooms, lazily
        if LEVELS[room_of(name)] >= LEVELS[own]:
            wrong.append(f"{module_of(path)} imports {name}")
        elif own == "analysis" and name.rsplit(".", 1)[0] not in GROUND and name not in GROUND:
            wrong.append(f"{module_of(path)} imports {name}, above the ground floor")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_to_a_lower_level(path: Path) -> None:
    assert wrong_imports(path) == []


def test_a_planted_upward_import_is_seen(tmp_path: Path, monkeypatch) -> None:
    planted = PACKAGE / "ledger.py"
    text = planted.read_text() + "\nfrom bias_lab.planning import plan\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **_: text)
    assert wrong_imports(planted) == ["bias_lab.ledger imports bias_lab.planning.plan"]


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_experiments_import_only_the_ground_floor(path: Path) -> None:
    ours = {name for name in imports(path) if name.startswith("bias_lab") and room_of(name) != "experiments"}
    assert {
        name for name in ours if name not in GROUND | TUNES and name.rsplit(".", 1)[0] not in GROUND | TUNES
    } == set()
    assert not {name.split(".")[0] for name in imports(path)} & HEAVY


def test_the_light_half_imports_nothing_heavy() -> None:
    names = [module_of(path) for path in LIGHT]
    code = f"import sys\nfor name in {names}: __import__(name)\nprint([m for m in {sorted(HEAVY)} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_init_files_are_empty_but_four() -> None:
    full = [module_of(path) for path in FILES if path.name == "__init__.py" and path.read_text().strip()]
    assert full == ["bias_lab", "bias_lab.backbones", "bias_lab.catalogue", "bias_lab.statistics"]


def test_every_module_has_a_test_of_its_name() -> None:
    tests = {path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    missing = []
    for path in FILES:
        if path.name == "__init__.py" or path.parent.name == "embedded":
            continue
        place = path.relative_to(PACKAGE).parent
        twin = (place / f"test_{path.name}").as_posix()
        if twin not in tests:
            missing.append(twin)
    assert missing == []


def private_names(path: Path) -> list[str]:
    """Return the private names of the package's modules that a test uses."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules, used = set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bias_lab":
            modules |= {alias.asname or alias.name for alias in node.names}
            used += [alias.name for alias in node.names if alias.name.startswith("_")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            used += [node.attr] if node.attr.startswith("_") and not node.attr.startswith("__") else []
    return used


def test_tests_use_no_private_names() -> None:
    used = {path.name: names for path in (ROOT / "tests").rglob("*.py") if (names := private_names(path))}
    assert used == {}


def public_functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def test_no_pass_through_of_keywords_but_to_timm() -> None:
    taken = {
        f"{module_of(path)}.{node.name}"
        for path in FILES
        for node in public_functions(path)
        if node.args.kwarg is not None and path.parent.name != "backbones"
    }
    # grid checks its names; a logger's method takes what Lightning's interface passes
    assert taken == {"bias_lab.definition.grid", "bias_lab.training.recording.log_hyperparams"}


def size_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_files_functions_and_folders_stay_small() -> None:
    long = {module_of(path): n for path in FILES if (n := path.read_text(encoding="utf-8").count("\n")) > 350}
    functions = {
        f"{module_of(path)}.{node.name}": size_of(node)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and size_of(node) > 50
    }
    counts = Counter(path.parent for path in FILES if path.name != "__init__.py")
    full = {folder.name: count for folder, count in counts.items() if count > 12}
    assert (long, functions, full) == ({}, {}, {})


def names_compared(path: Path) -> list[int]:
    """Return the lines that compare something with the name of a task, protocol, regime, intervention or engine."""
    names = {*catalogue.TASKS, *catalogue.PROTOCOLS, *catalogue.REGIMES, *catalogue.INTERVENTIONS, *catalogue.ENGINES}
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        parts: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        constants = [inner for part in parts for inner in ast.walk(part) if isinstance(inner, ast.Constant)]
        lines += [inner.lineno for inner in constants if inner.value in names]
    return lines


def test_nobody_compares_the_names_of_the_catalogue() -> None:
    compared = {module_of(path): lines for path in FILES if (lines := names_compared(path))}
    del compared["bias_lab.data.readers.procedural"]  # the cue `local` of drawn shapes is no engine
    assert {name: lines for name, lines in compared.items() if room_of(name) != "catalogue"} == {}


def test_a_planted_comparison_of_names_is_seen(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text('if run.task == "pretrain" or run.protocol in ("knn", "finetune"):\n    pass\n')
    assert names_compared(planted) == [1, 1, 1]


def test_imports_within_a_room_have_no_circle() -> None:
    modules = {module_of(path): path for path in FILES}
    del modules["bias_lab"]
    graph = {name: {i for i in imports(path) if i in modules and i != name} for name, path in modules.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def test_the_picture_of_the_rooms_is_true() -> None:
    """CONTRIBUTING draws the rooms level by level; each package and plain module stands at the level held above."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = text[text.index("```text\n") :].split("```")[1]
    drawn = {}
    for line in picture.splitlines():
        if match := re.match(r"^ *(\d+) +(.*?)  +", line + "  "):
            drawn |= {name: int(match[1]) for name in match[2].split(" · ")}
    there = {
        path.stem if path.suffix else path.name
        for path in PACKAGE.iterdir()
        if path.name not in ("__init__.py", "__pycache__", "py.typed", "experiments")
    }
    assert drawn == {name: level for name, level in LEVELS.items() if name in there}
    assert there <= set(LEVELS)


def swallowed(path: Path) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or all(isinstance(b, ast.Pass) for b in node.body))
    ]


def test_no_exception_is_swallowed() -> None:
    assert {module_of(path): lines for path in FILES if (lines := swallowed(path))} == {}


def test_notebooks_call_and_never_define() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                source = "".join(cell["source"])
                assert not re.search(r"^\s*(def|class)\s", source, re.M), f"{path.name}: {source[:80]}"


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def test_paths_that_the_pages_name_are_there() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"`((?:bias_lab|experiments|notebooks|tests|docs)/[\w./-]+)`", text))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_pictures_and_files_that_the_texts_link_are_there() -> None:
    for page in PAGES:
        text = re.sub(r"`[^`]*`", "", page.read_text(encoding="utf-8"))
        links = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r"(?:src|srcset)=\"([^\"]+)\"", text)
        assert [link for link in links if not link.startswith("http") and not (page.parent / link).exists()] == [], page


def test_make_help_lists_every_target_and_every_experiment() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {name for line in re.findall(r"^\.PHONY: (.*)$", makefile, re.M) for name in line.split()}
    targets |= {f"sweep-{path.stem.replace('_', '-')}" for path in (ROOT / "experiments").glob("[a-z]*.py")}
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+) +\S", said, re.M)) == targets


def test_a_second_make_installs_nothing_and_a_changed_requirement_does(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()

    def planned() -> str:
        command = ["make", "-n", "test", "sweep-small-data"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert planned().count("pip install") == 1
    ready = tmp_path / ".venv" / ".ready"
    ready.touch()
    os.utime(ready, (2**32, 2**32))
    assert "pip" not in planned()
    assert "pytest" in planned()
    os.utime(ready, (0, 0))
    assert planned().count("pip install") == 1


def test_the_modules_that_the_changelog_names_are_there() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("  | `")]
    named = {name for row in rows for name in re.findall(r"`(bias_lab[\w.]*)`", row[2])}
    there = {module_of(path) for path in FILES}
    assert len(named) > 40
    assert sorted(n for n in named if n not in there and n.rsplit(".", 1)[0] not in there) == []


def test_make_targets_that_the_pages_name_are_there() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M)):
        if target.startswith("sweep-"):
            name = target.removeprefix("sweep-").replace("-", "_")
            assert name in ("", "name") or (ROOT / "experiments" / f"{name}.py").is_file(), target
        else:
            assert re.search(rf"^{target}:", makefile, re.M), target


def test_no_file_names_a_place_of_one_machine() -> None:
    place = re.compile(r"(^|[^A-Za-z0-9_.])/(" + "|".join(("work", "farm", "root")) + ")/")
    assert place.search(" /" + "work/there")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in tracked:
        path = ROOT / name
        if (
            path.suffix in (".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".json", ".ipynb", ".html", ".parquet")
            and path.is_file()
        ):
            assert not place.search(path.read_bytes().decode("latin-1")), name  # a table's command stands in it too


def test_versions_are_pinned_without_hosts_and_without_the_bad_releases() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    for_some = r'(; python_full_version (<|>=) "3\.11\.\d+")?'  # soupsieve needs more than the first 3.11
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.+!-]+" + for_some, line) for line in pins)
    assert not {"lightning==2.6.2", "lightning==2.6.3"} & set(pins)
    assert "lightning>=2.5,!=2.6.2,!=2.6.3" in (ROOT / "pyproject.toml").read_text()
