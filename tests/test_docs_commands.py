"""Every command and every piece of Python in README and docs works: parsed in the fast tests, run in the slow ones.

Sweeps are planned (`--dry-run`), single runs have a stand-in for training, and make's targets are printed (`make -n`).
`bench` is run by the tests of its own room.
"""

import re
import shlex
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bias_lab.cli import flags
from bias_lab.cli.main import COMMANDS, main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
PLACEHOLDER = re.compile(r"NAME|COMMAND|PROFILE=…|-wandb online")  # a pattern of commands, or one that would upload
KNOWN = ("source .venv/bin/activate", "pip install bias_lab[dashboards]", "pre-commit install")  # what needs a network
OWN = "results/small_data"  # the folder that the pages read
PARTS = (
    "results/part_1",
    "results/part_2",
    "results/desk_1000",
    "results/desk",
    "results/desk_9000",
)  # those of a study that ran in parts


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def typed() -> Iterator[str]:
    """Yield each line of a shell block, and each command that stands in backquotes within the text."""
    for path in PAGES:
        for block in blocks(path, "(?:sh|bash)"):
            yield from (line.split(" #")[0].strip() for line in block.splitlines() if line.strip())
        prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        yield from re.findall(r"`((?:bias-lab|make|python|pip|wandb|pre-commit|source) [^`]+)`", prose)


COMMANDS_TYPED = sorted({line for line in typed() if not PLACEHOLDER.search(line)})
LAB = [line for line in COMMANDS_TYPED if line.startswith("bias-lab ")]
BARE = ("experiments", "backbones", "datasets")  # commands that need no argument; others are named within sentences
RUNNABLE = [line for line in LAB if line.split()[1] != "bench" and (len(line.split()) > 2 or line.split()[1] in BARE)]


def test_there_are_commands_in_the_pages() -> None:
    assert len(LAB) > 20
    assert any(line.startswith("make ") for line in COMMANDS_TYPED)


@pytest.mark.parametrize("line", COMMANDS_TYPED)
def test_every_command_is_understood(line: str) -> None:
    words = shlex.split(line)
    if words[0] == "bias-lab":
        if len(words) == 2 and COMMANDS[words[1]]:
            return  # the name of a command within a sentence
        assert flags.parse(words[1:], COMMANDS).command == words[1]
    elif words[0] == "make":
        done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    elif words[:2] == ["python", "-m"]:
        assert ROOT.joinpath(*words[2].split(".")).with_suffix(".py").is_file()
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    elif words[0] == "wandb":
        assert words[1] == "sync"
    else:
        assert line in KNOWN, f"say in this file how '{line}' is tested"


def pictures(folder: Path, sides: tuple[str, ...] = ("cat", "dog")) -> None:
    """Write 260 different images of 24 px for each class."""
    random = np.random.default_rng(0)
    for name in sides:
        (folder / name).mkdir(parents=True)
        for k in range(260):
            pixels = random.integers(0, 255, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.png")


def masks(folder: Path) -> None:
    """Write 120 training and 12 test images of 24 px with masks of two classes."""
    random = np.random.default_rng(1)
    for split, count in (("train", 120), ("test", 12)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for k in range(count):
            pixels = random.integers(0, 255, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / "images" / f"{k}.png")
            Image.fromarray((pixels[..., 0] > 127).astype(np.uint8)).save(folder / split / "masks" / f"{k}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what the commands name: images, a backbone, an experiment, and a sweep's folder with one finished run."""
    here = tmp_path_factory.mktemp("docs")
    pictures(here / "path" / "to" / "data")
    masks(here / "path" / "to" / "masks")
    every = [block for path in PAGES for block in blocks(path, "python")]
    (here / "my_models.py").write_text(next(block for block in every if "def conv_stem_vit" in block))
    (here / "my_methods.py").write_text(next(block for block in every if "def focal_loss" in block))
    (here / "noisy.py").write_text(next(block for block in every if "label noise" in block))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        words = "train --backbone resnet_micro --size 300 --set samples_seen=64 --workers 1 --no-wandb --out"
        assert main([*words.split(), OWN]) == 0
    for part in PARTS:
        shutil.copytree(here / OWN, here / part)
    return here


def order(line: str) -> tuple[bool, str]:
    """Return a key by which a manifest is written before it is used."""
    return "--manifest" in line, line


@pytest.mark.slow
@pytest.mark.parametrize("line", sorted(RUNNABLE, key=order))
def test_every_command_of_the_lab_runs(line: str, place: Path, fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    (run,) = (path.parent.name for path in (place / OWN / "runs").glob("*/result.json"))
    words = [run if word == "RUN" else word for word in shlex.split(line)[1:]]
    out = place / f"out-{abs(hash(line))}"
    if words[0] in ("sweep", "train"):
        words = [word for k, word in enumerate(words) if "--out" not in (word, words[k - 1])] + ["--out", str(out)]
        words += ["--no-wandb"] * ("--no-wandb" not in words)
    if words[0] == "sweep":
        words += ["--dry-run"] * ("--dry-run" not in words)
        words += ["--no-tune"] * (not {"--tune", "--no-tune"} & set(words))  # as typed: the test below
    assert main(words) == 0
    shutil.rmtree(out, ignore_errors=True)


STUDIES = sorted(path.stem for path in (ROOT / "experiments").glob("[a-z]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_what_make_types_for_a_study_is_planned(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No study of `make sweep-NAME` stops for want of a learning rate or a budget: it is searched if need be."""
    printed = subprocess.run(
        ["make", "-n", "--no-print-directory", f"sweep-{name.replace('_', '-')}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = shlex.split(printed[printed.rindex("bias-lab sweep") :].replace("\\\n", " "))[1:]
    monkeypatch.chdir(ROOT)
    out = words.index("--out") + 1
    assert main([*words[:out], str(tmp_path / name), *words[out + 1 :], "--dry-run", "--no-wandb"]) == 0


def test_make_leaves_the_choice_to_whoever_types_it() -> None:
    given = ["make", "-n", "sweep-locality", "ARGS=--no-tune"]
    printed = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert " --tune" not in printed
    assert " --no-tune" in printed


PYTHON = [
    pytest.param(block, id=f"{path.stem}-{k}")
    for path in PAGES
    for k, block in enumerate(blocks(path, "python"))
    if "def conv_stem_vit" not in block  # test_main_job.py lets it join a sweep
]


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON)
def test_every_piece_of_python_runs(block: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(place / OWN, place / "results" / "train", dirs_exist_ok=True)
    monkeypatch.chdir(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers
        exec(compile(block, "docs", "exec"), {})


@pytest.mark.slow
def test_the_calls_of_python_in_tables_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bias_lab as bl

    monkeypatch.chdir(place)
    (run,) = (path.parent.name for path in (place / OWN / "runs").glob("*/result.json"))
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    calls = sorted(set(re.findall(r"`(bl\.[^`]+\)[^`]*)`", text)))
    assert len(calls) > 2
    for call in calls:
        assert eval(call.replace("/RUN", f"/{run}"), {"bl": bl}) is not None
