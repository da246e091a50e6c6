"""Test the experiments: their runs are pinned, paired and matched, and planning accepts all of them."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab import catalogue
from bias_lab.data.subsets import holdout_size
from bias_lab.definition import Run, run_id
from bias_lab.planning import checks, experiment_files, plan

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
PROFILES = ("smoke", "laptop", "full")
# (experiment, profile) → how many runs, and the SHA-256 of their ids in order. A change orphans finished runs.
GOLDEN = {
    ("imagenet_weights", "smoke"): (8, "d1ee872598ab09f9"),
    ("imagenet_weights", "laptop"): (12, "41f2d4ffe8beac0b"),
    ("imagenet_weights", "full"): (36, "573f745a839ced39"),
    ("locality", "smoke"): (12, "d2387f796f325968"),
    ("locality", "laptop"): (48, "074a43f4dc723108"),
    ("locality", "full"): (216, "3e4794dddcbe0e28"),
    ("pretraining", "smoke"): (31, "a113f379db044b96"),
    ("pretraining", "laptop"): (75, "96ef52c87ae55bd8"),
    ("pretraining", "full"): (288, "c3321bcc16a946ea"),
    ("seed_claim", "smoke"): (15, "50859790526110de"),
    ("seed_claim", "laptop"): (21, "b1e72203878f75c3"),
    ("seed_claim", "full"): (18, "d1295ddcad670dde"),
    ("small_data", "smoke"): (23, "9282940ee70b9d68"),
    ("small_data", "laptop"): (97, "d1a7d566b322ce34"),
    ("small_data", "full"): (938, "9687ba6c3809c92f"),
    ("tuning", "smoke"): (89, "ccf4e80a52634f46"),
    ("tuning", "laptop"): (105, "0e6ceab3909ae70b"),
    ("tuning", "full"): (178, "9161a3a5a6f2d8cc"),
}


def runs_of(name: str, profile: str) -> tuple[Run, ...]:
    return experiment_files.read(EXPERIMENTS / f"{name}.py", profile).runs


@pytest.mark.parametrize(("name", "profile"), GOLDEN)
def test_runs_and_their_order_are_pinned(
    name: str, profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # without ./weights, which imagenet_weights would use
    ids = [run_id(run) for run in runs_of(name, profile)]
    assert (len(ids), hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]) == GOLDEN[name, profile]


def test_every_experiment_and_profile_is_pinned() -> None:
    assert set(GOLDEN) == {(name, profile) for name, _, profiles in experiment_files.listed() for profile in profiles}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_main_experiment_is_paired_and_matched(profile: str) -> None:
    runs = [run for run in runs_of("small_data", profile) if run.task == "classify"]
    for budget, recipe_, dataset in {(run.budget, run.recipe, run.dataset) for run in runs}:
        arm = [run for run in runs if (run.budget, run.recipe, run.dataset) == (budget, recipe_, dataset)]
        for size in {run.size for run in arm}:
            here = [run for run in arm if run.size == size]
            assert len({(run.samples_seen, run.batch_size) for run in here}) == 1, "equal images seen at a size"
            replicates = {
                name: {(r.draw, r.seed) for r in here if r.backbone == name} for name in {r.backbone for r in here}
            }
            assert len({frozenset(pairs) for pairs in replicates.values()}) == 1, (
                "the same replicates for every backbone"
            )
    assert len({run.size for run in runs}) >= {"smoke": 2, "laptop": 4, "full": 8}[profile]
    assert len({(run.draw, run.seed) for run in runs}) == {"smoke": 1, "laptop": 3, "full": 9}[profile]


def test_tuning_uses_a_grid_for_all_and_no_draw_of_the_sweep() -> None:
    sweep = runs_of("small_data", "laptop")
    trials = [run for run in runs_of("tuning", "laptop") if run.task == "tune"]
    assert {run.backbone for run in trials} == {run.backbone for run in sweep}
    assert {run.draw for run in trials} | {run.seed for run in trials} == {1000}
    arms: dict[Run, list[float | None]] = {}
    for run in trials:
        arms.setdefault(replace(run, learning_rate=None), []).append(run.learning_rate)
    assert all(sorted(tried) == [3e-4, 1e-3, 3e-3, 1e-2] for tried in arms.values())


@pytest.mark.parametrize("profile", PROFILES)
def test_planning_accepts_every_trial_of_tuning(profile: str, tmp_path: Path) -> None:
    made = plan.make(EXPERIMENTS / "tuning.py", profile, tmp_path, plan.Request())
    assert made.runs == runs_of("tuning", profile)
    largest = {dataset: rows.largest_tuned for dataset, rows in checks.summaries(made.runs, {}).items()}
    assert all(run.size <= largest[run.dataset] for run in made.runs if run.task == "tune")


@pytest.mark.parametrize("name", ["pretraining", "seed_claim", "imagenet_weights"])
@pytest.mark.parametrize("profile", PROFILES)
def test_planning_accepts_all_runs_and_pretrainings_come_first(name: str, profile: str) -> None:
    runs = runs_of(name, profile)
    checks.check_runs(runs, checks.summaries(runs, {}), allow_overlap=False)
    kept, left_out = checks.fit_sizes(runs, checks.summaries(runs, {}), typed=False)
    assert (len(kept), left_out) == (len(runs), [])
    pretrainings: set[str] = set()
    for run in runs:
        if run.task == "pretrain":
            pretrainings.add(run_id(run))
            assert run.learning_rate is not None
        if run.pretraining:
            assert run.pretraining in pretrainings
            assert run.learning_rate is not None
    named = {run.pretraining for run in runs}
    assert pretrainings <= named, "a pretraining that no run starts from"


@pytest.mark.parametrize("name", ["pretraining", "seed_claim", "imagenet_weights"])
@pytest.mark.parametrize("profile", PROFILES)
def test_arms_see_the_same_images_and_replicates(name: str, profile: str) -> None:
    runs = [run for run in runs_of(name, profile) if run.task == "classify"]
    for dataset in {run.dataset for run in runs}:
        for size in {run.size for run in runs if run.dataset == dataset}:
            here = [run for run in runs if (run.dataset, run.size) == (dataset, size)]
            assert len({(run.samples_seen, run.batch_size, run.image_size, run.recipe) for run in here}) == 1
            arms: dict[tuple[str, str], set[tuple[int, int]]] = {}
            for run in here:
                arms.setdefault((run.backbone, run.regime), set()).add((run.draw, run.seed))
            assert len({frozenset(pairs) for pairs in arms.values()}) == 1
            assert len(next(iter(arms.values()))) == (2 if profile == "smoke" else 3)


@pytest.mark.parametrize("name", ["pretraining", "seed_claim"])
@pytest.mark.parametrize("profile", PROFILES)
def test_backbones_are_pretrained_alike(name: str, profile: str) -> None:
    alike: dict[tuple[str, str], set[tuple[object, ...]]] = {}
    for run in runs_of(name, profile):
        if run.task == "pretrain":
            what = (run.samples_seen, run.batch_size, run.source, run.learning_rate, run.mask_ratio, run.image_size)
            alike.setdefault((run.dataset, run.regime), set()).add(what)
    assert all(len(kinds) == 1 for kinds in alike.values()), alike


@pytest.mark.parametrize("profile", PROFILES)
def test_every_regime_is_asked_of_the_vit_and_every_possible_one_of_the_cnn(profile: str) -> None:
    runs = [run for run in runs_of("pretraining", profile) if run.dataset != "oxford_pet"]
    asked: dict[str, set[str]] = {}
    for run in runs:
        asked.setdefault(catalogue.architecture(run.backbone), set()).add(run.regime)
    own = {"scratch", "supervised", "simmim", "dino", "formula"}
    assert asked == {"vit": own | {"mae"}, "resnet": own}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_seed_claim_is_monitored_on_a_hold_out_that_its_subset_leaves_alone(profile: str) -> None:
    for run in runs_of("seed_claim", profile):
        if run.task == "classify":
            pool = catalogue.dataset(run.dataset).pool
            assert run.monitor
            assert run.size <= pool - holdout_size(pool)


def test_the_seed_claim_at_full_size_is_the_published_one() -> None:
    runs = runs_of("seed_claim", "full")
    assert {run.backbone for run in runs} == {"mobilenetv3_large_100", "efficientvit_b1", "mobilevit_xs"}
    assert {run.samples_seen / run.size for run in runs} == {90}
    assert {run.monitor for run in runs} == {90}
    assert {(run.regime, bool(run.weights)) for run in runs} == {("scratch", False), ("weights", True)}


def test_weights_in_a_folder_are_taken_and_else_timm_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {run.weights for run in runs_of("imagenet_weights", "laptop")} == {
        "",
        "deit_tiny_patch16_224",
        "tf_efficientnet_lite0",
    }
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "deit_tiny_patch16_224.fp16.safetensors").touch()
    named = {run.backbone: run.weights for run in runs_of("imagenet_weights", "laptop") if run.weights}
    assert named["deit_tiny_patch16_224"] == "weights/deit_tiny_patch16_224.fp16.safetensors"
