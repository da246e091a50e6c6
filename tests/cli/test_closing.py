"""What the end of a command says of its runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab import ledger
from bias_lab.cli import closing
from bias_lab.definition import Run, run_id
from tests.cli.commands import Call
from tests.planted import write_plan, write_run

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=0.001)
TRAIN = ("train", "--size", 100, "--set", "learning_rate=0.001")


def test_train_has_a_default_backbone_and_ends_with_its_result(run: Call) -> None:
    code, out, _ = run(*TRAIN)
    assert code == 0
    (name,) = (path.name for path in Path("results/train/runs").iterdir())
    lines = out.splitlines()
    at = lines.index(f"{name}  vit_micro scratch N=100 plain+learning_rate=0.001 draw 0 seed 0")
    assert lines[at + 1].startswith("  top-1 ")
    assert " on 2,000 test images of fashion_mnist_12k; 16,000 images seen, " in lines[at + 1]
    assert lines[at + 2] == f"  weights: results/train/runs/{name}/weights.safetensors"
    assert (Path("results/train/runs") / name / ledger.WEIGHTS).is_file()
    assert lines[-1] == "The report on all runs of this folder is results/train/report.html"
    assert "it was finished before" not in out


def test_a_repeated_run_has_the_same_id_and_says_so(run: Call) -> None:
    run(*TRAIN)
    before = {path.name for path in Path("results/train/runs").iterdir()}
    code, out, _ = run(*TRAIN)
    assert (code, {path.name for path in Path("results/train/runs").iterdir()}) == (0, before)
    assert "it was finished before: a repeated run has the same id, and is not computed again" in out


def test_train_makes_the_pretraining_that_its_regime_needs(run: Call) -> None:
    code, out, _ = run(*TRAIN, "--regime", "mae")
    assert code == 0
    assert "pretraining first: " in out
    assert "a pretraining, which no test image evaluates; 40,000 images seen" in out
    regimes = [ledger.read_json(path)["regime"] for path in Path("results/train").glob("runs/*/run.json")]
    assert regimes == ["mae", "mae"]
    again = run(*TRAIN, "--regime", "mae", "--seed", 0, "--draw", 1)[1]
    assert "which is finished in results/train" in again
    assert len(list(Path("results/train").glob("runs/*/run.json"))) == 3


def test_the_closing_lines_name_the_own_backbone(run: Call, study: Path) -> None:
    Path("mine.py").write_text("def net(**settings): ...\n")
    code, out, _ = run("sweep", study, "--profile", "smoke", "--backbone", "mine:net", "--no-tune")
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.startswith("mine:net: "))
    assert "N = 100: " in line
    assert "(2 runs, " in line


def test_means_of_the_own_backbone_stand_beside_the_best_other_one(tmp_path: Path) -> None:
    runs = [
        Run(dataset="fashion_mnist_12k", backbone=name, size=100, draw=d)
        for name in ("mine:net", "vit_micro")
        for d in (0, 1)
    ]
    write_plan(tmp_path, runs)
    for run, top1 in zip(runs, (0.5, 0.6, 0.3, 0.4), strict=True):
        write_run(tmp_path, run, top1)
    (line, none) = closing.of_own(tmp_path, ["mine:net", "absent:net"])
    assert line.startswith("mine:net: N = 100: 55.0 % (2 runs, vit_micro 35.0 %)")
    assert none == "absent:net: no run is finished"


def test_the_mean_of_the_own_backbone_is_never_over_different_starts(tmp_path: Path) -> None:
    one = Run(dataset="fashion_mnist_12k", backbone="mine:net", size=100)
    starts = (one, replace(one, protocol="linear_probe"), replace(one, regime="formula", source="fractals"))
    runs = [
        replace(run, backbone=name, seed=seed)
        for run in starts
        for name in ("mine:net", "vit_micro")
        for seed in (0, 1)
    ]
    write_plan(tmp_path, runs)
    for run, top1 in zip(runs, (0.5, 0.6, 0.3, 0.4, 0.1, 0.2, 0.7, 0.8, 0.25, 0.35, 0.2, 0.2), strict=True):
        write_run(tmp_path, run, top1)
    (line,) = closing.of_own(tmp_path, ["mine:net"])
    assert "N = 100: scratch 55.0 % (2 runs, vit_micro 35.0 %)" in line
    assert "N = 100: linear_probe 15.0 % (2 runs, vit_micro 75.0 %)" in line
    assert "N = 100: formula fractals 30.0 % (2 runs, vit_micro 20.0 %)" in line


def test_what_sees_no_image_more_than_once_is_not_said_to_have_trained(tmp_path: Path) -> None:
    probe = replace(ONE, protocol="knn")
    write_run(tmp_path, probe, 0.5)
    assert "images seen" not in "".join(closing.of_run(probe, tmp_path))


def test_a_result_is_named_in_its_own_metric_and_images(tmp_path: Path) -> None:
    name = write_run(tmp_path, ONE, 0.5)
    lines = closing.of_run(ONE, tmp_path)
    assert lines[0].startswith(f"{name}  vit_micro scratch N=100")
    assert lines[1].startswith("  top-1 50.0 % on ")
    assert closing.of_runs([ONE], tmp_path, {}) == lines
    assert closing.of_runs([ONE], tmp_path, closing.results_at(tmp_path))[-1].startswith("  it was finished before")
    assert run_id(ONE) == name


@pytest.mark.parametrize(("words", "asked"), [((), "offline"), (("--no-wandb",), "off"), (("--wandb", "off"), "off")])
def test_the_first_lines_say_where_wandb_writes(run: Call, monkeypatch, words: tuple[str, ...], asked: str) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "a-key-does-not-ask")
    out = run(*TRAIN, *words)[1]
    assert any(line.startswith(f"W&B is {asked}") for line in out.splitlines()[:3]), "after the preflight"
