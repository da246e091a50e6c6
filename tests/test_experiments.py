"""Experiments on pretraining: their plans are paired, matched, and nothing in them is refused."""

from pathlib import Path

import pytest

from bias_lab import catalogue
from bias_lab.definition import Run, read_experiment, run_id
from bias_lab.planning import checks

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
PROFILES = ("smoke", "laptop", "full")


def runs_of(name: str, profile: str) -> tuple[Run, ...]:
    return read_experiment(EXPERIMENTS / f"{name}.py", profile).runs


@pytest.mark.parametrize("name", ["pretraining", "seed_claim", "imagenet_weights"])
@pytest.mark.parametrize("profile", PROFILES)
def test_planning_refuses_nothing_and_pretrainings_come_first(name: str, profile: str) -> None:
    runs = runs_of(name, profile)
    checks.refuse(runs, checks.known(runs, {}), allow_overlap=False)
    kept, left_out = checks.fit_sizes(runs, checks.known(runs, {}), typed=False)
    assert (len(kept), left_out) == (len(runs), [])
    made: set[str] = set()
    for run in runs:
        if run.task == "pretrain":
            made.add(run_id(run))
            assert run.learning_rate is not None
        if run.pretraining:
            assert run.pretraining in made
            assert run.learning_rate is not None
    waited = {run.pretraining for run in runs}
    assert made <= waited, "a pretraining that nobody starts from"


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
            assert run.size <= pool - min(1000, pool // 5)


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
