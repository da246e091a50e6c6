"""The commands: what they print, what they refuse and how they end. Workers carry out a stand-in for training."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bias_lab import catalogue, ledger
from bias_lab.cli import main
from bias_lab.execution import local
from bias_lab.report import report
from tests.execution import drive, fake_execute

ROOT = Path(__file__).parents[2]

EXPERIMENT = '''"""Is the door sound?"""

from bias_lab.definition import Experiment, Run, grid

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=640)
SCALE = {
    "smoke": dict(size=(100,)),
    "laptop": dict(size=(100, 1000)),
    "held": dict(weight_decay=(0.95,), seed=range(5)),  # which tells the stand-in to wait from seed 3 on
}


def experiment(profile):
    runs = grid(ONE, backbone=("vit_micro", "resnet_micro"), draw=(0, 1), **SCALE[profile])
    return Experiment(question="Is the door sound?", runs=runs)
'''


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment and its learning rates in the current folder; workers don't train. 4, 8 and 20 runs."""
    path = tmp_path / "experiments" / "door.py"
    path.parent.mkdir()
    path.write_text(EXPERIMENT)
    cell = {"dataset": "fashion_mnist_12k", "recipe": "plain", "regime": "scratch", "size": 100, "learning_rate": 1e-3}
    ledger.write_json(
        path.parent / ledger.TUNED, {"rows": [cell | {"backbone": n} for n in ("vit_micro", "resnet_micro")]}
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(local, "EXECUTE", "tests.execution.fake_execute")
    return Path("experiments") / "door.py"


@pytest.fixture
def run(whole: "Call", monkeypatch: pytest.MonkeyPatch) -> "Call":
    """`run("status", …)` → exit code, standard output, standard error. The report is a stand-in: pages cost seconds."""
    monkeypatch.setattr(report, "write", drive.page)
    return whole


@pytest.fixture
def whole(study: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """As `run`, with the report that users get."""

    def call(*words: object) -> tuple[int, str, str]:
        code = main.main([str(word) for word in words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


Call = Callable[..., tuple[int, str, str]]


def results(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(f"runs/*/{ledger.RESULT}")}


# --- a sweep, told from all sides ------------------------------------------------------------------------------------


def test_a_sweep_ends_with_a_table_a_report_and_the_same_face_for_every_experiment(whole: Call, study: Path) -> None:
    run = whole
    code, out, _ = run("sweep", study, "--profile", "smoke")
    folder = Path("results/door-smoke")
    assert code == 0
    assert len(results(folder)) == 4
    assert (folder / ledger.TABLE).is_file()
    assert "Is the door sound?" in (folder / ledger.REPORT).read_text()
    assert "[4/4]" in out
    assert out.splitlines()[-1] == "4 of 4 runs finished; results/door-smoke/report.html"
    before = results(folder)
    code, out, _ = run("sweep", study, "--profile", "smoke")
    assert (code, results(folder)) == (0, before)
    code, out, _ = run("status", folder)
    assert code == 0
    assert out.startswith("door, smoke: 4 of 4 finished\n")
    code, out, _ = run("show", sorted(before)[0][:8])
    assert code == 0
    assert f"bias-lab train --like results/door-smoke/runs/{sorted(before)[0]} --out results/door-smoke-repeat" in out
    code, out, _ = run("report", folder, "--format", "md")
    assert (code, out) == (0, "results/door-smoke/report.md\n")
    code, _, err = run("report", folder, "--format", "pdf")
    assert (code, err.count("\n")) == (2, 1)
    assert "unknown format 'pdf'" in err


@pytest.mark.parametrize(
    ("profile", "data", "folder"),
    [
        ("laptop", None, "results/door"),
        ("full", None, "results/door-full"),
        ("laptop", "my/photos", "results/door-photos"),
        ("smoke", "hf:beans", "results/door-smoke-hf-beans"),
        ("laptop", ".", "results/door-photos"),
        ("laptop", "..", "results/door-my"),
    ],
)
def test_where_results_go(
    profile: str, data: str | None, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "my" / "photos")
    found = main.default_folder(Path("experiments/door.py"), profile, Path(data) if data else None)
    assert found == Path(folder)


def test_overrides_and_a_dry_run(run: Call, study: Path) -> None:
    code, out, _ = run("sweep", study, "--sizes", "50,200", "--draws", "0", "--seeds", "0,1,2", "--dry-run")
    assert code == 0
    assert out.splitlines()[-1] == "12 runs, 7,680 images to be seen"
    assert "vit_micro scratch N=200 draw 0 seed 2  lr 0.001" in out
    assert not list(Path().glob("results/*/runs"))


def test_train_runs_one_from_flags_and_like_another(run: Call, study: Path) -> None:
    code, _, _ = run("train", "--backbone", "vit_micro", "--size", 100, "--seed", 0, "--set", "learning_rate=0.001")
    assert code == 0
    first = results(Path("results/train"))
    code, _, _ = run("train", "--like", next(iter(first)), "--out", "again")
    assert code == 0
    assert set(results(Path("again"))) == set(first)
    run("train", "--like", f"results/train/runs/{next(iter(first))}", "--draw", 1)
    assert len(results(Path("results/train"))) == 2
    assert run("status", "results/train")[1].startswith("train, single runs: 2 of 2 finished")


def test_own_backbone_joins_from_the_current_folder(run: Call, study: Path) -> None:
    Path("mine.py").write_text("def net(**settings): ...\n")
    code, _, _ = run("sweep", study, "--profile", "smoke", "--backbone", "mine:net", "--no-tune", "--family", "hybrid")
    assert code == 0
    entries = ledger.read_json(Path("results/door-smoke") / ledger.EXPERIMENT)["runs"]
    mine = [entry for entry in entries if entry["run"]["backbone"] == "mine:net"]
    assert {entry["family"] for entry in mine} == {"hybrid"}
    assert len(mine) == 2
    assert all(entry["run"]["backbone_source"] for entry in mine)


def test_a_failure_is_exit_code_1_and_listed_at_the_end(run: Call, study: Path) -> None:
    code, out, _ = run("sweep", study, "--profile", "smoke", "--set", "weight_decay=0.91")
    assert code == 1
    assert sum(line.startswith("failed  ") for line in out.splitlines()) == 4
    assert "ValueError: planted: two lines" in out
    code, out, _ = run("status", "results/door-smoke")
    assert code == 1
    assert "failed runs are tried again with --retry-failed" in out


def test_tuned_writes_what_the_trials_chose(run: Call, study: Path) -> None:
    study.write_text(EXPERIMENT.replace('"smoke": dict(', '"smoke": dict(task=("tune",), learning_rate=(1e-3, 3e-3), '))
    assert run("sweep", study, "--profile", "smoke")[0] == 0
    code, out, _ = run("tuned", "results/door-smoke", "--out", "chosen.json")
    assert (code, out) == (0, "2 learning rates in chosen.json\n")
    assert {row["learning_rate"] for row in ledger.read_json(Path("chosen.json"))["rows"]} == {1e-3}


def test_the_dashboard_is_printed_and_not_saved_without_a_key(
    run: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out, _ = run("wandb-dashboard", "--dry-run", "--project", "mine")
    assert code == 0
    assert json.loads(out)["project"] == "mine"
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "absent"))
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, err = run("wandb-dashboard")
    assert (code, err.count("\n")) == (2, 1)
    assert "wandb login, or --dry-run" in err


# --- own data --------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """30 images of noise in each of 3 classes."""
    noise = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(30):
            Image.fromarray(noise.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_the_same_study_on_a_folder_of_images(run: Call, study: Path, photos: Path) -> None:
    code, _, _ = run("sweep", study, "--data", "photos", "--out", "out", "--sizes", "20,72")
    assert code == 0
    runs = [entry["run"] for entry in ledger.read_json(Path("out") / ledger.EXPERIMENT)["runs"]]
    assert {run["image_size"] for run in runs} == {64}
    assert {run["size"] for run in runs} == {20, 72}
    assert len({run["dataset"] for run in runs}) == 1
    assert runs[0]["dataset"].startswith("folder:")
    (place,) = ledger.read_json(Path("out") / ledger.PLACES).values()
    assert place["path"] == str(photos)


def test_every_size_over_the_pool_names_the_largest_that_works(run: Call, study: Path, photos: Path) -> None:
    code, _, err = run("sweep", study, "--data", "photos", "--out", "out")
    assert code == 2
    assert "no size of this profile fits photos: 100, 1000" in err
    assert "the largest that works is 72" in err


def test_one_class_an_empty_one_and_hidden_ones(run: Call, study: Path, photos: Path) -> None:
    words = ("sweep", study, "--data", "photos", "--out", "out", "--sizes", "20", "--draws", "0", "--dry-run")
    (photos / ".thumbnails").mkdir()
    assert run(*words)[0] == 0  # hidden folders are no classes
    (photos / "yak").mkdir()
    code, _, err = run(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "class folder yak holds no images" in err
    for name in ("dog", "owl", "yak"):
        (photos / name).rename(photos.parent / name)
    code, _, err = run(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "photos holds one class, 'cat'" in err


def test_a_folder_that_changed_under_a_finished_sweep(run: Call, study: Path, photos: Path) -> None:
    words = ("sweep", study, "--data", "photos", "--out", "out", "--sizes", "20", "--draws", "0")
    assert run(*words)[0] == 0
    before = results(Path("out"))
    (photos / "cat" / "0.png").unlink()
    (photos / "cat" / "1.png").unlink()
    code, _, err = run(*words)
    assert code == 2
    assert "2 removed (cat/0.png, …)" in err
    assert results(Path("out")) == before


def test_bad_images_are_named_and_left_out_when_told_so(run: Call, study: Path, photos: Path) -> None:
    (photos / "dog" / "3.png").write_bytes(b"not an image")
    words = ("sweep", study, "--data", "photos", "--out", "out", "--sizes", "20", "--draws", "0")
    code, _, err = run(*words)
    assert code == 2
    assert "1 of 90 images in photos can't be read: dog/3.png" in err
    assert "--skip-bad-images" in err
    code, out, _ = run(*words, "--skip-bad-images")
    assert code == 0
    assert "1 of 90 images can't be read and are left out" in out


def test_datasets_are_listed_and_one_is_told_in_full(run: Call) -> None:
    code, out, _ = run("datasets")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert set(catalogue.DATASETS) <= set(rows)
    for figure in ("10", "10,000", "2,000", "28", "1", "MIT"):
        assert figure in rows["fashion_mnist_12k"].split()
    assert "bias-lab datasets check NAME" in out
    code, out, _ = run("datasets", "check", "fashion_mnist_12k")
    assert code == 0
    assert "mean 0.2862, standard deviation 0.3528" in out
    assert "licence: MIT; cite Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747" in out


def test_a_manifest_is_written_and_used_and_bounds_the_sizes(run: Call, study: Path) -> None:
    code, out, _ = run("subset", "fashion_mnist_12k", "--sizes", "50,120", "--draw", "3", "--out", "m.parquet")
    assert (code, out) == (0, "120 images of fashion_mnist_12k, draw 3: m.parquet\n")
    code, out, _ = run("sweep", study, "--manifest", "m.parquet", "--out", "out")
    assert code == 0
    assert "left out: size 1000 exceeds the 120 training images of fashion_mnist_12k in the manifest" in out
    runs = [entry["run"] for entry in ledger.read_json(Path("out") / ledger.EXPERIMENT)["runs"]]
    (digest,) = {run["manifest"] for run in runs}
    assert f"manifest:{digest}" in ledger.read_json(Path("out") / ledger.PLACES)
    code, _, err = run("sweep", study, "--manifest", "m.parquet", "--sizes", "121", "--out", "out")
    assert (code, "exceeds the 120" in err) == (2, True)


# --- what bad input gets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("swep", "unknown command 'swep'; did you mean 'sweep'?"),
        ("sweep", "the following arguments are required: EXPERIMENT"),
        ("sweep STUDY --sized 100", "unknown argument '--sized'; did you mean '--sizes'?"),
        ("sweep STUDY --sizes ten", "'ten' is not whole numbers"),
        ("sweep STUDY --sizes=-5", "-5 is negative"),
        ("sweep STUDY --sizes 0,100", "a size is 1 or more"),
        ("sweep STUDY --device gpu", "'gpu' is none of auto, cpu, cuda and cuda:NUMBER"),
        ("sweep STUDY --family cnn", "--family says what a joined backbone is, and none joins; --backbone NAME"),
        ("sweep STUDY --workers 0", "0 is below 1"),
        (
            "sweep experiments/dor.py",
            "unknown experiment file 'experiments/dor.py'; did you mean 'experiments/door.py'?",
        ),
        ("sweep STUDY --dry-run --out STUDY", "can't be a sweep's folder: a file; use another --out"),
        ("sweep STUDY --dry-run --out STUDY/out", "can't be a sweep's folder: a file; use another --out"),
        ("sweep STUDY --dry-run --out /proc/out", "/proc/out can't be a sweep's folder: "),
        ("sweep STUDY --profile labtop", "unknown profile 'labtop'; did you mean 'laptop'?"),
        ("sweep STUDY --sizes 100,20000", "size 20000 exceeds the 10000 training images of fashion_mnist_12k"),
        ("sweep STUDY --sizes 7", "size 7 is below the 10 classes of fashion_mnist_12k; 10 to 10000 work"),
        ("sweep STUDY --set mixpu=0.2", "unknown field 'mixpu'; did you mean 'mixup'?"),
        ("sweep STUDY --set mixup", "'mixup' is not FIELD=VALUE"),
        ("sweep STUDY --set mixup=much", "mixup='much' is not a number"),
        ("train --backbone vit_micro --task pretrain --set mask_ratio=1.5", "mask_ratio 1.5 is outside [0, 1)"),
        ("sweep STUDY --set mask_ratio=0.5", "--set mask_ratio=… can't be set"),
        ("sweep STUDY --set source=pool", "use --source of `bias-lab train`, or write it into the experiment file"),
        ("sweep STUDY --dry-run --set intervention=permute_pixel", "did you mean 'permute_pixels'?"),
        ("sweep STUDY --dry-run --set intervention=shuffle_patches:5", "patches of 5 px do not divide a 28x28 image"),
        ("sweep STUDY --set size=50", "use --sizes"),
        ("sweep STUDY --recipe storng", "unknown recipe 'storng'; did you mean 'strong'?"),
        ("sweep STUDY --backbone refused_net --no-tune", "did you mean 'resnet_micro'?"),
        ("sweep STUDY --backbone nowhere:net", "no module 'nowhere'"),
        ("sweep STUDY --backbone resnet18 --family cn", "unknown family 'cn'; did you mean 'cnn'?"),
        ("sweep STUDY --data nowhere", "nowhere"),
        ("sweep STUDY --manifest nowhere.parquet", "there is no manifest nowhere.parquet"),
        ("sweep STUDY --set regime=mae", "--set regime=… can't be set"),
        ("train --backbone vit_micro --size 100 --dataset fashon_mnist_12k", "did you mean 'fashion_mnist_12k'?"),
        ("train --backbone resnet_micro --task pretrain", "resnet_micro can't take the regime 'mae'"),
        ("train --backbone vit_micro --size 100 --weights w.pth", "no weights file w.pth"),
        ("train --backbone vit_micro --size 100 --task clasify", "unknown task 'clasify'; did you mean 'classify'?"),
        ("train --backbone vit_micro --size -3", "size -3 is negative"),
        ("train --backbone vit_mirco --size 100", "backbone 'vit_mirco'; did you mean 'vit_micro'?"),
        ("train --backbone vit_micro --size 100 --regime maee", "unknown regime 'maee'; did you mean 'mae'?"),
        ("train --like 0123", "no run '0123'"),
        ("status nowhere", "there is no folder nowhere"),
        ("show 0123", "no run '0123'"),
        ("report nowhere", "there is no folder nowhere"),
        ("report experiments", "experiments holds neither runs nor a table; give the --out of a sweep"),
        ("tuned nowhere", "there is no folder nowhere"),
        ("wandb-sync nowhere", "there is no folder nowhere"),
        ("backbones resnt_micro", "did you mean 'resnet_micro'?"),
        ("datasets chek mnist", "unknown action 'chek'; did you mean 'check'?"),
        ("datasets check mnits", "unknown dataset 'mnits'; did you mean 'mnist'?"),
        ("datasets check", "which?"),
        ("bench dat", "unknown benchmark 'dat'; did you mean 'data'?"),
        ("subset fashion_mnist_12k --sizes 20000 --out m.parquet", "size 20000 exceeds the 10000 images"),
        ("subset nowhere --out m.parquet", "unknown dataset 'nowhere'"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(run: Call, study: Path, words: str, said: str) -> None:
    code, _, err = run(*words.replace("STUDY", str(study)).split())
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert "Traceback" not in err
    assert not list(Path().rglob("runs"))


def test_a_refused_sweep_and_a_dry_run_leave_no_folder_behind(run: Call, study: Path) -> None:
    run("sweep", study, "--sizes", "20000", "--out", "out")
    assert not Path("out").exists()
    run("sweep", study, "--dry-run", "--out", "out")
    assert not Path("out").exists()


def test_a_dry_run_says_what_is_not_at_hand(run: Call, study: Path) -> None:
    study.write_text(study.read_text().replace("fashion_mnist_12k", "cifar10"))
    code, out, _ = run("sweep", study, "--dry-run", "--no-tune", "--data-root", "here")
    assert code == 0
    assert "warning: cifar10 is not in here: it will be downloaded if it can be; else fetch " in out
    Path("here/cifar-10-batches-py").mkdir(parents=True)
    assert "is not in here" not in run("sweep", study, "--dry-run", "--no-tune", "--data-root", "here")[1]


def test_two_sweeps_on_one_folder(run: Call, study: Path) -> None:
    with ledger.claim(Path("out")):
        code, _, err = run("sweep", study, "--out", "out")
    assert code == 2
    assert f"another sweep is at work on out (process {os.getpid()}); wait for it, or use another --out" in err


def test_a_full_disk_is_one_line(run: Call, study: Path) -> None:
    code, _, err = run("sweep", study, "--profile", "smoke", "--set", "weight_decay=0.94")
    assert code == 2
    assert err.count("\n") == 1
    assert "no space left on the disk" in err
    assert results(Path("results/door-smoke")) == {}


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["sweep", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as ended:
            main.main(words)
        assert ended.value.code == 0
    assert "bias-lab 0." in capsys.readouterr().out


def test_help_is_instant() -> None:
    """CPU seconds of a fresh process, so that a busy machine does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", "from bias_lab.cli.main import main; main(['--help'])"], check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < 1


# --- signals ---------------------------------------------------------------------------------------------------------


class Process:
    """A sweep of 20 runs in a process group of its own; two workers finish three and are held in the next two."""

    def __init__(self, study: Path) -> None:
        self.folder = Path("out")
        self.words = ["sweep", str(study), "--profile", "held", "--out", "out", "--workers", "2"]

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "tests.execution.drive", *self.words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def held(self) -> "subprocess.Popen[str]":
        """Begun, three runs finished, two under way."""
        process = self.start()
        while len(results(self.folder)) < 3 or len(list(self.folder.glob("runs/*/attempts"))) < 5:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        return process

    def again(self) -> None:
        """The same command, to its end."""
        (self.folder / fake_execute.GO).touch()
        process = self.start()
        _, err = process.communicate()
        assert process.returncode == 0, err


@pytest.fixture
def process(study: Path) -> Process:
    return Process(study)


def test_ctrl_c_leaves_everything_resumable(process: Process) -> None:
    sweep = process.held()
    sweep.send_signal(signal.SIGINT)
    _, err = sweep.communicate()
    assert sweep.returncode == 130
    assert err == "stopped; finished runs are kept, the same command goes on where this one ended\n"
    before = results(process.folder)
    assert len(before) == 3
    process.again()
    after = results(process.folder)
    assert len(after) == 20
    assert {name: after[name] for name in before} == before


def test_kill_9_of_the_whole_group_mid_sweep_then_again(process: Process) -> None:
    sweep = process.held()
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.communicate()
    before = results(process.folder)
    assert len(before) == 3
    process.again()  # at once: the folder is free, the workers are gone
    after = results(process.folder)
    assert len(after) == 20
    assert {name: after[name] for name in before} == before
    attempts = sorted(ledger.attempts(process.folder, name) for name in after)
    assert attempts == [1] * 18 + [2] * 2  # the two that were under way
    for name in after:  # nothing torn
        json.loads((ledger.run_folder(process.folder, name) / ledger.RESULT).read_text())
