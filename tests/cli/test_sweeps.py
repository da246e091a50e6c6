"""The commands `sweep` and `train`: what they run, where results go, what they print."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bias_lab import ledger
from bias_lab.cli import sweeps
from tests.cli.commands import Call, results


@pytest.mark.parametrize(
    ("profile", "data", "folder"),
    [
        ("laptop", None, "results/labels"),
        ("full", None, "results/labels-full"),
        ("laptop", "my/photos", "results/labels-photos"),
        ("smoke", "hf:beans", "results/labels-smoke-hf-beans"),
        ("laptop", ".", "results/labels-photos"),
        ("laptop", "..", "results/labels-my"),
    ],
)
def test_where_results_go(
    profile: str, data: str | None, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "my" / "photos")
    given = Path(data) if data else None
    assert sweeps.default_folder(Path("experiments/labels.py"), profile, given) == Path(folder)


def test_a_dry_run_prints_the_plan_with_overrides(run: Call, study: Path) -> None:
    code, out, _ = run("sweep", study, "--sizes", "50,200", "--draws", "0", "--seeds", "0,1,2", "--list")
    assert code == 0
    assert out.splitlines()[1] == "12 runs, 7,680 images to be seen"
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


def test_a_cell_is_settled_first_and_then_trained_at_the_budget_that_was_found(run: Call) -> None:
    words = ["train", "--backbone", "vit_micro", "--size", 200, "--recipe", "plain", "--settle", "--out", "one"]
    code, out, _ = run(*words)
    assert code == 0
    assert "vit_micro scratch N=200: 16,000 images seen, hold-out 99.0 % (1 replicate)" in out
    assert "vit_micro scratch N=200: 32,000 images seen, hold-out 99.0 %, +0.0 points (3 replicates)" in out
    shown = [line.partition("]")[0].removeprefix("[").split("/") for line in out.splitlines() if line.startswith("[")]
    done, totals = ([int(pair[k]) for pair in shown] for k in (0, 1))
    assert done == list(range(1, len(done) + 1)), "one count over trials and runs"
    assert totals == sorted(totals), "no total is smaller than one before"
    assert totals[-1] == done[-1] == len(results(Path("one")))
    assert f"{totals[-1]} of {totals[-1]} finished" in run("status", "one")[1]
    (row,) = ledger.read_json(Path("one") / ledger.TUNED)["rows"]
    assert (row["samples_seen"], row["settled"]) == (16_000, True)
    entries = ledger.read_json(Path("one") / ledger.EXPERIMENT)["runs"]
    (trained,) = [entry for entry in entries if entry.get("comparison") == "settled"]
    assert trained["settled"] is True
    assert trained["run"].get("samples_seen", 16_000) == 16_000
    before = results(Path("one"))
    code, out, _ = run(*words)
    assert (code, set(results(Path("one")))) == (0, set(before))
    assert "32,000 images seen" in out, "what was found is printed again"


def test_own_backbone_joins_from_the_current_folder(run: Call, study: Path) -> None:
    Path("mine.py").write_text("def net(**settings): ...\n")
    code, _, _ = run("sweep", study, "--profile", "smoke", "--backbone", "mine:net", "--no-tune", "--family", "hybrid")
    assert code == 0
    entries = ledger.read_json(Path("results/labels-smoke") / ledger.EXPERIMENT)["runs"]
    mine = [entry for entry in entries if entry["run"]["backbone"] == "mine:net"]
    assert {entry["family"] for entry in mine} == {"hybrid"}
    assert len(mine) == 2
    assert all(entry["run"]["backbone_source"] for entry in mine)


def test_a_failure_is_exit_code_1_and_listed_at_the_end(run: Call, study: Path) -> None:
    code, out, _ = run("sweep", study, "--profile", "smoke", "--set", "weight_decay=0.91")
    assert code == 1
    assert sum(line.startswith("failed  ") for line in out.splitlines()) == 4
    assert "ValueError: planted: two lines" in out
    code, out, _ = run("status", "results/labels-smoke")
    assert code == 1
    assert "to try failed runs again, add --retry-failed" in out


def test_a_sweep_with_a_mistake_and_a_dry_run_leave_no_folder_behind(run: Call, study: Path) -> None:
    run("sweep", study, "--sizes", "20000", "--out", "out")
    assert not Path("out").exists()
    run("sweep", study, "--dry-run", "--out", "out")
    assert not Path("out").exists()


def test_a_dry_run_lists_datasets_that_are_absent(run: Call, study: Path) -> None:
    study.write_text(study.read_text().replace("fashion_mnist_12k", "cifar10"))
    code, out, _ = run("sweep", study, "--dry-run", "--no-tune", "--data-root", "here")
    assert code == 0
    assert "warning: cifar10 is not in here: it will be downloaded if that is possible. Otherwise fetch " in out
    Path("here/cifar-10-batches-py").mkdir(parents=True)
    assert "is not in here" not in run("sweep", study, "--dry-run", "--no-tune", "--data-root", "here")[1]


def test_a_second_sweep_on_one_folder_is_an_error(run: Call, study: Path) -> None:
    with ledger.claim(Path("out")):
        code, _, err = run("sweep", study, "--out", "out")
    assert code == 2
    assert f"another sweep is at work on out (process {os.getpid()}); wait for it, or use another --out" in err


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
    assert "sizes from 3 to 72 work" in err


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


def test_bad_images_are_named_and_left_out_with_a_flag(run: Call, study: Path, photos: Path) -> None:
    (photos / "dog" / "3.png").write_bytes(b"not an image")
    words = ("sweep", study, "--data", "photos", "--out", "out", "--sizes", "20", "--draws", "0")
    code, _, err = run(*words)
    assert code == 2
    assert "1 of 90 images in photos can't be read: dog/3.png" in err
    assert "--skip-bad-images" in err
    code, out, _ = run(*words, "--skip-bad-images")
    assert code == 0
    assert "1 of 90 images can't be read and are left out" in out


def test_an_experiment_of_the_package_is_given_by_its_name(run: Call, study: Path) -> None:
    code, out, _ = run("sweep", "small_data", "--profile", "smoke", "--list")
    assert code == 0
    assert "resnet_micro scratch N=20 draw 0 seed 0" in out
    assert not Path("results").exists() or not list(Path("results").iterdir())


WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None  # as on Windows
from bias_lab.cli.main import main
try:
    sys.exit(main(sys.argv[1:]))
except SystemExit as ended:
    sys.exit(ended.code)
"""


@pytest.mark.parametrize("words", ["--help", "sweep STUDY --dry-run"])
def test_help_and_a_dry_run_work_without_fcntl(study: Path, words: str) -> None:
    command = [sys.executable, "-c", WITHOUT_FCNTL, *words.replace("STUDY", str(study)).split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_sweep_takes_weights_for_an_added_backbone(run: Call, study: Path) -> None:
    words = (
        "sweep",
        study,
        "--profile",
        "smoke",
        "--no-tune",
        "--backbone",
        "resnet18",
        "--weights",
        "resnet18.a1_in1k",
    )
    code, out, err = run(*words, "--list")
    assert (code, err) == (0, "")
    assert sum("resnet18 weights N=100" in line for line in out.splitlines()) == 2
    assert sum("resnet18 scratch N=100" in line for line in out.splitlines()) == 2
    code, _, err = run("sweep", study, "--weights", "resnet18.a1_in1k", "--dry-run")
    assert (code, err.count("\n")) == (2, 1)
    assert "error: --weights: no run of this experiment starts from weights" in err
    assert "no weights file w.pth" in run("sweep", study, "--weights", "w.pth")[2]


def test_a_table_with_other_columns_and_another_separator_is_read(run: Call, study: Path, photos: Path) -> None:
    lines = [f"{path.relative_to(photos)};{path.parent.name}" for path in sorted(photos.rglob("*.png"))]
    (photos / "mine.csv").write_text("file;animal\n" + "\n".join(lines) + "\n")
    words = ("sweep", study, "--data", "photos/mine.csv", "--sizes", "20", "--dry-run", "--no-tune")
    assert "if yours have other names: --path-column NAME --label-column NAME" in run(*words)[2]
    assert run(*words, "--path-column", "file", "--label-column", "animal")[0] == 0
    assert (
        "unknown column of mine.csv 'animals'; did you mean 'animal'?"
        in run(*words, "--path-column", "file", "--label-column", "animals")[2]
    )
    assert "given without a table; add --data" in run("sweep", study, "--label-column", "animal")[2]
    assert "is a folder of images" in run("sweep", study, "--data", "photos/cat", "--label-column", "animal")[2]


@pytest.mark.parametrize("there", [False, True])
def test_a_dry_run_on_own_images_leaves_nothing_in_the_folder(
    run: Call, study: Path, photos: Path, there: bool
) -> None:
    if there:
        Path("out/data").mkdir(parents=True)
        Path("out/data/note.txt").write_text("mine")
    before = {str(path) for path in Path("out").rglob("*")}
    words = ("sweep", study, "--profile", "smoke", "--data", photos, "--sizes", 20, "--out", "out", "--no-tune")
    for how in ("--dry-run", "--list"):
        assert run(*words, how)[0] == 0
        assert {str(path) for path in Path("out").rglob("*")} == before
        assert Path("out").exists() == there


def test_where_runs_are_recorded_is_printed_once_the_runs_are_accepted(run: Call, study: Path) -> None:
    for more in (("--sizes", 20_000), ("--backbone", "refused_net", "--no-tune")):
        code, out, _ = run("sweep", study, "--profile", "smoke", *more)
        assert (code, "W&B" in out) == (2, False)
    assert "W&B is offline: runs are written to" in run("sweep", study, "--profile", "smoke", "--wandb", "offline")[1]
