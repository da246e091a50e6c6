"""Test the plan of an experiment and a request, and what the folder keeps of it."""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from bias_lab import ledger
from bias_lab.definition import Experiment, Run, grid, run_id
from bias_lab.errors import UserError
from bias_lab.execution import status
from bias_lab.planning import experiment_files, ladder, learning_rates, plan
from bias_lab.planning.checks import DatasetSummary
from bias_lab.planning.plan import Data, Plan, Request
from tests.data.pictures_on_disk import class_folders

PHOTOS = Data(
    dataset="folder:abc",
    summary=DatasetSummary(name="photos", counts=(60, 60), side=48),
    place={"path": "/photos"},
    image_size=48,
)


def make(study: Path, tmp_path: Path, profile: str = "smoke", **request: Any) -> Plan:
    return plan.make(study, profile, tmp_path / "out", Request(**request))


def test_learning_rates_come_from_the_file_beside_the_experiment(study: Path, tmp_path: Path) -> None:
    sweep = make(study, tmp_path, "laptop")
    rates = {(run.backbone, run.regime, run.recipe, run.size): run.learning_rate for run in sweep.runs}
    assert rates == {
        ("vit_micro", "scratch", "plain", 100): 1e-3,
        ("vit_micro", "scratch", "plain", 1000): 3e-4,  # nearer to 3000 than to 100 in log N
        ("resnet_micro", "scratch", "plain", 100): 3e-3,
        ("resnet_micro", "scratch", "plain", 1000): 1e-3,
        ("vit_micro", "mae", "plain", 0): 2e-3,
        ("vit_micro", "mae", "plain", 100): 1e-3,
        ("vit_micro", "mae", "plain", 1000): 1e-3,
        ("vit_micro", "scratch", "strong", 100): 3e-3,
    }


def test_the_pretraining_moves_before_those_that_wait_and_no_further(study: Path, tmp_path: Path) -> None:
    tasks = [run.task for run in make(study, tmp_path).runs]
    assert tasks.index("pretrain") == 4  # after the four runs from scratch that the experiment puts first


def test_two_profiles_share_the_runs_that_they_share(study: Path, tmp_path: Path) -> None:
    assert set(make(study, tmp_path).runs) <= set(make(study, tmp_path, "laptop").runs)


def test_an_unknown_profile_gets_the_nearest(study: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'laptop'"):
        make(study, tmp_path, "labtop")


def test_a_file_that_does_not_parse_is_a_line(study: Path, tmp_path: Path) -> None:
    study.write_text("def experiment(profile:\n")
    with pytest.raises(UserError, match=r"sound\.py, line 1"):
        make(study, tmp_path)


# --- joined backbones ------------------------------------------------------------------------------------------------


def test_a_joined_backbone_is_tuned_first_like_the_others(study: Path, tmp_path: Path) -> None:
    sweep = make(study, tmp_path, backbones=("resnet18",))
    assert Counter(run.task for run in sweep.trials) == {"tune": 6}  # at the tuned sizes nearest to the runs
    assert {run.backbone for run in sweep.trials} == {"resnet18"}
    assert {run.learning_rate for run in sweep.trials} == {3e-4, 1e-3, 3e-3}
    mine = [run for run in sweep.runs if run.backbone == "resnet18"]
    assert [run.learning_rate for run in mine] == [None] * 3
    assert sweep.families == {"resnet18": "other"}


def test_after_its_trials_the_plan_is_complete(study: Path, tmp_path: Path) -> None:
    first = make(study, tmp_path, backbones=("resnet18",))
    scores = {run_id(run): float(run.learning_rate == 1e-3) for run in first.trials}
    learning_rates.write(tmp_path / "out" / ledger.TUNED, ladder.choose(first.trials, scores), "test")
    again = make(study, tmp_path, backbones=("resnet18",))
    assert again.trials == ()
    assert {run.learning_rate for run in again.runs if run.backbone == "resnet18"} == {1e-3}
    assert {run for run in first.runs if run.backbone != "resnet18"} <= set(again.runs)


def test_without_tuning_it_borrows_and_says_so(study: Path, tmp_path: Path) -> None:
    sweep = make(study, tmp_path, backbones=("resnet18",), tune=False)
    assert sweep.trials == ()
    assert {run.learning_rate for run in sweep.runs if run.backbone == "resnet18"} == {3e-3}
    assert any("not tuned (learning rate 0.003, resnet_micro's at N = 100)" in line for line in sweep.notes)


def test_without_a_table_beside_the_file_the_packages_rates_are_used(study: Path, tmp_path: Path) -> None:
    (study.parent / ledger.TUNED).unlink()
    shipped = learning_rates.read(experiment_files.tuned())
    runs = make(study, tmp_path).runs
    expected = {shipped.row(run)["learning_rate"] for run in runs if run.backbone == "resnet_micro"}
    assert {run.learning_rate for run in runs if run.backbone == "resnet_micro"} == expected


def test_single_runs_have_the_packages_rates_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan.rates(tmp_path).rows == learning_rates.read(experiment_files.tuned()).rows != []


def test_without_any_table_the_remedy_is_named(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (study.parent / ledger.TUNED).unlink()
    monkeypatch.setattr(experiment_files, "tuned", lambda: tmp_path / "nowhere.json")
    with pytest.raises(UserError, match=r"--tune.*--no-tune.*bias-lab sweep tuning"):
        make(study, tmp_path)


def test_tuning_all_tunes_what_the_dataset_has_no_rates_for(study: Path, tmp_path: Path) -> None:
    assert make(study, tmp_path, tune=True).trials == ()
    sweep = make(study, tmp_path, tune=True, data=PHOTOS)
    assert {(run.backbone, run.regime, run.recipe) for run in sweep.trials} == {
        ("vit_micro", "scratch", "plain"),
        ("resnet_micro", "scratch", "plain"),
        ("vit_micro", "mae", "plain"),
        ("vit_micro", "scratch", "strong"),
    }
    named = {run.pretraining for run in sweep.trials if run.regime == "mae"}
    assert named == {run_id(run) for run in sweep.runs if run.task == "pretrain"}


def test_an_unknown_family_gets_the_nearest(study: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'transformer'"):
        make(study, tmp_path, backbones=("resnet18",), family="transfomer")


# --- own data --------------------------------------------------------------------------------------------------------


def test_own_data_take_the_place_of_the_experiments(study: Path, tmp_path: Path) -> None:
    sweep = make(study, tmp_path, "laptop", data=PHOTOS)
    assert {(run.dataset, run.image_size) for run in sweep.runs} == {("folder:abc", 48)}
    assert {run.size for run in sweep.runs} == {0, 100}
    assert "left out: size 1000 exceeds the 120 training images of photos" in sweep.notes
    plan.write_places(sweep, tmp_path / "out")
    assert ledger.read_json(tmp_path / "out" / ledger.PLACES) == {"folder:abc": {"path": "/photos"}}


def test_weights_that_an_experiment_names_by_file_are_known_by_content(tmp_path: Path) -> None:
    file = tmp_path / "deit.safetensors"
    save_file({"a": np.zeros(1)}, file)
    one = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=1e-3, regime="weights")
    experiment = Experiment(question="?", runs=(replace(one, weights=str(file)), replace(one, weights="deit_tiny")))
    sweep = plan.arrange(experiment, "one", "laptop", tmp_path, Request(), learning_rates.Rates())
    assert [run.weights[:5] for run in sweep.runs] == ["file:", "deit_"]
    assert sweep.places == {sweep.runs[0].weights: {"path": str(file)}}
    file.unlink()
    with pytest.raises(UserError, match="no weights file"):
        plan.arrange(experiment, "one", "laptop", tmp_path, Request(), learning_rates.Rates())


def test_a_folder_that_an_experiment_names_as_source_is_known_by_content(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for k in range(3):
        Image.new("RGB", (20, 20), (k, 90, 10)).save(photos / f"{k}.png")
    one = Run(dataset="cifar10", backbone="vit_mini", size=100, learning_rate=1e-3, regime="mae", source=str(photos))
    before = replace(one, task="pretrain", size=0)
    study = Experiment(question="?", runs=(before, replace(one, pretraining=run_id(before))))
    sweep = plan.arrange(study, "one", "laptop", tmp_path, Request(), learning_rates.Rates())
    (source,) = {run.source for run in sweep.runs}
    assert source.startswith("folder:")
    assert sweep.places[source]["path"] == str(photos)
    assert sweep.runs[1].pretraining == run_id(sweep.runs[0])
    unknown = Experiment(question="?", runs=(replace(before, source=str(tmp_path / "photo")),))
    with pytest.raises(UserError, match="unknown source"):
        plan.arrange(unknown, "one", "laptop", tmp_path, Request(), learning_rates.Rates())


def test_bad_images_of_a_source_are_left_out_on_request(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for k in range(3):
        Image.new("RGB", (20, 20), (k, 90, 10)).save(photos / f"{k}.png")
    (photos / "bad.png").write_bytes(b"no image")
    before = Run(dataset="cifar10", backbone="vit_mini", task="pretrain", regime="mae", source=str(photos))
    study = Experiment(question="?", runs=(before,))
    with pytest.raises(UserError, match=r"bad\.png"):
        plan.arrange(study, "one", "laptop", tmp_path, Request(), learning_rates.Rates())
    accepted = plan.arrange(study, "one", "laptop", tmp_path, Request(skip_bad=True), learning_rates.Rates())
    assert accepted.runs[0].source.startswith("folder:")


def test_the_datasets_own_side_typed_is_no_other_run(study: Path, tmp_path: Path) -> None:
    usual = make(study, tmp_path)
    assert make(study, tmp_path, image_size=28).runs == usual.runs
    assert {run.image_size for run in make(study, tmp_path, image_size=32).runs} == {32}


def test_a_manifest_bounds_the_sizes(study: Path, tmp_path: Path) -> None:
    sweep = make(study, tmp_path, "laptop", manifest="beef", manifest_length=500)
    assert {run.size for run in sweep.runs} == {0, 100}
    assert {(run.draw, run.seed) for run in sweep.runs if run.task == "classify"} == {(0, 0), (0, 1)}


def test_a_pretraining_that_nobody_waits_for_any_more_goes(study: Path, tmp_path: Path) -> None:
    one = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=20_000, learning_rate=1e-3)
    before = replace(one, task="pretrain", regime="mae", source="pool", size=0)
    after = replace(one, regime="mae", source="pool", pretraining=run_id(before))
    experiment = Experiment(question="?", runs=(before, after, replace(one, size=100)))
    sweep = plan.arrange(experiment, "one", "laptop", tmp_path, Request(), learning_rates.Rates())
    assert [run.size for run in sweep.runs] == [100]
    alone = plan.arrange(
        Experiment(question="?", runs=(before,)), "one", "laptop", tmp_path, Request(), learning_rates.Rates()
    )
    assert alone.runs == (before,)  # an experiment may be about pretraining itself


# --- the folder ------------------------------------------------------------------------------------------------------


def test_the_plan_is_written_a_run_a_line(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    sweep = make(study, tmp_path)
    plan.write(sweep, folder, "the command")
    text = (folder / ledger.EXPERIMENT).read_text()
    written = json.loads(text)
    assert (written["experiment"], written["profile"], written["command"]) == ("sound", "smoke", "the command")
    assert [entry["run_id"] for entry in written["runs"]] == [run_id(run) for run in sweep.runs]
    assert written["runs"][1]["family"] == "cnn"
    assert sum('"run_id": "' in line for line in text.splitlines()) == len(sweep.runs)


def test_finished_runs_of_an_earlier_plan_stay_listed(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    first = make(study, tmp_path, backbones=("resnet18",), family="other", tune=False)
    plan.write(first, folder, "")
    mine = next(run for run in first.runs if run.backbone == "resnet18")
    ledger.write_json(ledger.run_folder(folder, run_id(mine)) / ledger.RESULT, {})
    plan.write(make(study, tmp_path), folder, "")
    kept = [entry for entry in ledger.read_json(folder / ledger.EXPERIMENT)["runs"] if entry["family"] == "other"]
    assert [(entry["run_id"], entry["earlier"]) for entry in kept] == [(run_id(mine), True)]
    plan.write(first, folder, "")
    again = [entry for entry in ledger.read_json(folder / ledger.EXPERIMENT)["runs"] if entry["family"] == "other"]
    assert not any("earlier" in entry for entry in again), "planned once more, it is of the plan"


def big(seeds: int) -> tuple[Run, ...]:
    one = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
    return grid(one, backbone=("vit_micro", "resnet_micro"), size=range(20, 5020, 10), seed=range(seeds))


def planned(runs: tuple[Run, ...]) -> tuple[Plan, float]:
    """Return the plan of a big experiment, and the CPU seconds that planning took."""
    known = learning_rates.Rates()
    for name in ("vit_micro", "resnet_micro"):
        row = {"dataset": runs[0].dataset, "backbone": name, "recipe": "plain", "regime": "scratch", "size": 100}
        known.add({"rows": [{**row, "learning_rate": 1e-3}]}, Path("tuned.json"))
    began = time.process_time()
    sweep = plan.arrange(Experiment(question="?", runs=runs), "big", "full", Path("nowhere"), Request(), known)
    return sweep, time.process_time() - began


def test_planning_costs_under_a_millisecond_a_run() -> None:
    runs = big(10)
    sweep, took = planned(runs)
    assert len(sweep.runs) == len(runs) == 10_000
    assert sweep.runs[0] == replace(runs[0], learning_rate=1e-3)
    assert took < 10, f"{took:.1f} s of CPU for 10,000 runs"  # 0.7 on an idle core; a busy one is not ten times slower


@pytest.mark.slow
def test_a_hundred_thousand_runs_are_planned_in_under_five_seconds_and_counted_in_under_ten(tmp_path: Path) -> None:
    sweep, took = planned(big(100))
    began = time.process_time()
    plan.write(sweep, tmp_path, "")
    wrote = time.process_time() - began
    began = time.process_time()
    assert status.headline(status.read(tmp_path)) == "big, full: 0 of 100000 finished, 100000 missing"
    counted = time.process_time() - began
    seconds = f"planned in {took:.1f} s, written in {wrote:.1f} s, counted in {counted:.1f} s of CPU"
    assert took < 5, seconds
    assert max(wrote, counted) < 10, seconds


def test_one_folder_is_two_sources_with_and_without_its_labels(tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "photos", {"cat": 2, "dog": 2})
    runs: list[Run] = []
    for regime in ("supervised", "mae"):
        one = Run(dataset="cifar10", backbone="vit_mini", size=100, learning_rate=1e-3, regime=regime,
                  source=str(photos))  # fmt: skip
        before = replace(one, task="pretrain", size=0)
        runs += [before, replace(one, pretraining=run_id(before))]
    study = Experiment(question="?", runs=tuple(runs))
    sweep = plan.arrange(study, "one", "laptop", tmp_path, Request(), learning_rates.Rates())
    sources = {run.regime: run.source for run in sweep.runs}
    assert sources["supervised"] != sources["mae"]
    assert sweep.places[sources["supervised"]]["classes"] == ["cat", "dog"]
    assert sweep.places[sources["mae"]]["classes"] == ["image"]
