"""Exit codes, messages about mistakes, help, and signals."""

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bias_lab import ledger
from bias_lab.cli import main
from tests.cli.commands import ROOT, Call, results
from tests.execution import fake_execute


def test_a_sweep_leaves_a_table_and_a_report_and_a_second_one_repeats_nothing(
    run_with_report: Call, study: Path
) -> None:
    run = run_with_report
    code, out, _ = run("sweep", study, "--profile", "smoke")
    folder = Path("results/labels-smoke")
    assert code == 0
    assert len(results(folder)) == 4
    assert (folder / ledger.TABLE).is_file()
    assert "Is the sweep sound?" in (folder / ledger.REPORT).read_text()
    assert "[4/4]" in out
    assert out.splitlines()[-1] == "4 of 4 runs finished. The report is results/labels-smoke/report.html"
    before = results(folder)
    code, out, _ = run("sweep", study, "--profile", "smoke")
    assert (code, results(folder)) == (0, before)
    code, out, _ = run("status", folder)
    assert code == 0
    assert out.startswith("labels, smoke: 4 of 4 finished\n")
    code, out, _ = run("show", sorted(before)[0][:8])
    assert code == 0
    assert (
        f"bias-lab train --like results/labels-smoke/runs/{sorted(before)[0]} --out results/labels-smoke-repeat" in out
    )
    code, out, _ = run("report", folder, "--format", "md")
    assert (code, out) == (0, "results/labels-smoke/report.md\n")
    code, _, err = run("report", folder, "--format", "pdf")
    assert (code, err.count("\n")) == (2, 1)
    assert "unknown format 'pdf'" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("swep", "unknown command 'swep'; did you mean 'sweep'?"),
        ("sweep", "the following arguments are required: EXPERIMENT"),
        ("sweep STUDY --sized 100", "unknown argument '--sized'; did you mean '--sizes'?"),
        ("sweep STUDY --sizes ten", "'ten' is not a list of whole numbers"),
        ("sweep STUDY --sizes=-5", "-5 is negative"),
        ("sweep STUDY --sizes 0,100", "a size is 1 or more"),
        ("sweep STUDY --device gpu", "'gpu' is none of auto, cpu, cuda and cuda:NUMBER"),
        ("sweep STUDY --family cnn", "--family is given without an added backbone; add --backbone NAME"),
        ("sweep STUDY --workers 0", "0 is below 1"),
        ("sweep STUDY --engine locl --dry-run", "unknown engine 'locl'; did you mean 'local'?"),
        ("sweep smal_data", "did you mean 'small_data'?"),
        (
            "sweep experiments/lables.py",
            "unknown experiment file 'experiments/lables.py'; did you mean 'experiments/labels.py'?",
        ),
        ("sweep STUDY --dry-run --out STUDY", "can't be a sweep's folder: a file; use another --out"),
        ("sweep STUDY --dry-run --out STUDY/out", "can't be a sweep's folder: a file; use another --out"),
        ("sweep STUDY --dry-run --out /proc/out", "/proc/out can't be a sweep's folder: "),
        ("sweep STUDY --profile labtop", "unknown profile 'labtop'; did you mean 'laptop'?"),
        ("sweep STUDY --sizes 100,20000", "size 20000 exceeds the 10000 training images of fashion_mnist_12k"),
        ("sweep STUDY --sizes 7", "size 7 is below the 10 classes of fashion_mnist_12k; 10 to 10000 work"),
        ("sweep STUDY --set mixpu=0.2", "unknown field 'mixpu'; did you mean 'mixup'?"),
        ("sweep STUDY --set optimizer=moun", "unknown optimizer 'moun'; did you mean 'muon'?"),
        ("train --backbone vit_micro --task pretrain --set teacher_schedule=steps", "belongs to a pretraining by dino"),
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
        (
            "train --backbone vit_micro --size 9500 --task tune --set learning_rate=0.001",
            "tune lr 0.001 draw 0 seed 0: size 9500 reaches into the hold-out of fashion_mnist_12k; "
            "the largest size that works is 9000",
        ),
        ("train --backbone vit_micro --size 9001 --set monitor=3", "the largest size that works is 9000"),
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
        ("datasets check", "no dataset is named"),
        ("bench dat", "unknown benchmark 'dat'; did you mean 'data'?"),
        ("subset fashion_mnist_12k --sizes 20000 --out m.parquet", "size 20000 exceeds the 10000 images"),
        ("subset fashion_mnist_12k --draw -1 --out m.parquet", "draw -1 is negative; it must be 0 or more"),
        ("subset fashion_mnist_12k --blocks 3 --draw 3 --out m.parquet", "draw 3 is none of 3 blocks; 0 to 2"),
        ("train --backbone vit_micro --size 100 --draw 5 --set blocks=5", "draw 5 is none of 5 blocks; 0 to 4"),
        ("sweep STUDY --set blocks=50 --sizes 300", "size 300 exceeds the 200 training images of one of 50 blocks of"),
        ("subset nowhere --out m.parquet", "unknown dataset 'nowhere'"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(run: Call, study: Path, words: str, message: str) -> None:
    code, _, err = run(*words.replace("STUDY", str(study)).split())
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert "Traceback" not in err
    assert not list(Path().rglob("runs"))


def test_a_full_disk_is_one_line(run: Call, study: Path) -> None:
    code, _, err = run("sweep", study, "--profile", "smoke", "--set", "weight_decay=0.94")
    assert code == 2
    assert err.count("\n") == 1
    assert "no space left on the disk" in err
    assert results(Path("results/labels-smoke")) == {}


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["sweep", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as ended:
            main.main(words)
        assert ended.value.code == 0
    assert "bias-lab 0." in capsys.readouterr().out


def test_help_is_instant_and_imports_nothing_large() -> None:
    """Measure the CPU seconds of a fresh process, which do not depend on how busy the machine is."""
    code = (
        "import sys; from bias_lab.cli.main import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted({'torch', 'pandas', 'numpy', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < 1
    assert done.stdout.splitlines()[-1] == "[]"


class Process:
    """A sweep of 20 runs in a process group of its own. Two workers finish three runs and wait in the next two."""

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
        """Start the sweep and return it once three runs are finished and two are under way."""
        process = self.start()
        while len(results(self.folder)) < 3 or len(list(self.folder.glob("runs/*/attempts"))) < 5:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        return process

    def again(self) -> None:
        """Run the same command to its end."""
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
    assert err == "stopped: finished runs are kept, and the same command continues the sweep\n"
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


def lab(*words: str, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own. before: shell commands that come first."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    python = f"{shlex.quote(sys.executable)} -c 'import sys; from bias_lab.cli.main import main; sys.exit(main())'"
    command = f"{before}\n{python} {' '.join(words)}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=given, check=False)


def test_help_needs_no_docstrings() -> None:
    """`PYTHONOPTIMIZE=2` strips them."""
    for words in ("--help", "sweep --help"):
        done = lab(words, PYTHONOPTIMIZE="2")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == lab(words).stdout
    assert "carry out one run, given by flags" in lab("--help", PYTHONOPTIMIZE="2").stdout


def test_a_reader_that_leaves_early_is_no_error(study: Path) -> None:
    done = lab("datasets | head -n 1; echo ${PIPESTATUS[0]}")
    assert done.stdout.splitlines()[1] == "0"
    assert done.stderr == ""


def test_a_console_without_the_letters_gets_their_escapes() -> None:
    done = lab("backbones café", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(r"error: unknown backbone 'caf\xe9'")
    assert lab("datasets", PYTHONIOENCODING="ascii", LC_ALL="C").returncode == 0


def test_a_full_device_as_output_is_one_line() -> None:
    for words in ("datasets", "--help"):
        done = lab(f"{words} > /dev/full", PYTHONUNBUFFERED="")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "no space left on the disk" in done.stderr


def test_a_working_directory_that_was_deleted_is_named(tmp_path: Path) -> None:
    done = lab("datasets", before=f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone")
    assert done.returncode == 2
    assert "error: the working directory does not exist any more" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_not_utf_8_is_shown_with_its_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["datasets", "check", os.fsdecode(b"\xe7at")]) == 2
    assert capsys.readouterr().err.startswith(r"error: the name '\xe7at' is not UTF-8")


def test_a_path_that_the_system_refuses_is_one_line(run: Call, photos: Path) -> None:
    Path("folder").mkdir()
    for out in ("folder", "photos/cat/0.png/m.parquet"):
        code, _, err = run("subset", "fashion_mnist_12k", "--sizes", 10, "--out", out)
        assert (code, err.count("\n")) == (2, 1)
        assert f"{out}: Is a directory" in err or "photos/cat/0.png: File exists" in err


def test_a_pipe_is_not_waited_for_whatever_is_read(run: Call, study: Path) -> None:
    os.mkfifo("pipe")
    train = ("train", "--backbone", "vit_micro", "--size", 100, "--set", "learning_rate=0.001")
    for words in (
        ("datasets", "check", "pipe"),
        ("subset", "pipe", "--out", "m.parquet"),
        ("sweep", "pipe", "--dry-run"),
        ("sweep", study, "--data", "pipe"),
        ("sweep", study, "--manifest", "pipe"),
        (*train, "--weights", "pipe"),
    ):
        code, _, err = run(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert "pipe is a named pipe; only regular files are read" in err
    (study.parent / "tuned.json").unlink()
    os.mkfifo(study.parent / "tuned.json")
    assert "tuned.json is a named pipe" in run("sweep", study, "--dry-run")[2]
