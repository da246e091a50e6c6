"""Test the experiments: their runs are pinned, paired and matched, and planning accepts all of them."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab import catalogue
from bias_lab.catalogue import TASKS
from bias_lab.data.subsets import holdout_size
from bias_lab.definition import LADDER, Run, run_id
from bias_lab.planning import checks, experiment_files, plan

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
PROFILES = ("smoke", "laptop", "full")
RECIPES = ("plain", "strong", "tuned")
PRETRAINING = ("smoke", "laptop", "desk", "full")  # profiles of the pretraining study
# (experiment, profile) → how many runs, and the SHA-256 of their ids in order. A change orphans finished runs.
GOLDEN = {
    ("imagenet_weights", "smoke"): (8, "4885b5072ce6f286"),
    ("imagenet_weights", "laptop"): (12, "f554acd87a61e2c0"),
    ("imagenet_weights", "desk"): (12, "1195a75f48d35dca"),
    ("imagenet_weights", "patches"): (6, "4dd644512de67dc1"),
    ("imagenet_weights", "full"): (36, "573f745a839ced39"),
    ("locality", "smoke"): (18, "ed19a755441955bc"),
    ("locality", "laptop"): (27, "eea0fe59f93ca316"),
    ("locality", "desk"): (27, "a3283900197db5f8"),
    ("locality", "full"): (81, "60b931cd5f45e101"),
    ("pretraining", "smoke"): (40, "b54e031679712840"),
    ("pretraining", "laptop"): (63, "fdd7db15064ce770"),
    ("pretraining", "desk"): (69, "48dc0655d547634c"),
    ("pretraining", "full"): (366, "da44eefcfce0534c"),
    ("seed_claim", "smoke"): (15, "0400100e3cee8fd1"),
    ("seed_claim", "laptop"): (21, "2761a20e9737b99a"),
    ("seed_claim", "desk"): (12, "000db59dc9271f2e"),
    ("seed_claim", "full"): (18, "d1295ddcad670dde"),
    ("segmentation", "smoke"): (4, "0f5314df33b26ae8"),
    ("segmentation", "laptop"): (30, "9b4879525f40cace"),
    ("segmentation", "laptop_camvid"): (24, "90820fa6fb9b7bba"),
    ("segmentation", "desk"): (36, "ff5859c457029002"),
    ("segmentation", "full"): (64, "77ea2097d2a90020"),
    ("small_data", "smoke"): (28, "2e0ddd2dc0166046"),
    ("small_data", "laptop"): (96, "a6b4d5b737d6f3fb"),
    ("small_data", "desk"): (110, "f2ad82d9f8db3e43"),
    ("small_data", "desk_1000"): (66, "de20fa77c677c334"),
    ("small_data", "desk_9000"): (21, "8dca68f9225a739f"),
    ("small_data", "desk_pretraining"): (51, "49686a5e3b4645c2"),
    ("small_data", "shapes"): (84, "9a5ae5f63701ed18"),
    ("small_data", "full"): (336, "20a76737dd6d6dcf"),
    ("tuning", "smoke"): (23, "ce8d751156208d76"),
    ("tuning", "laptop"): (56, "b3c9d29e7c9daf08"),
    ("tuning", "laptop_camvid"): (8, "56873e6025224f71"),
    ("tuning", "desk"): (64, "b14c59a52865f12c"),
    ("tuning", "desk_1000"): (10, "72352aac25747a4e"),
    ("tuning", "desk_9000"): (3, "f2bb8f14e06346a1"),
    ("tuning", "desk_pretraining"): (7, "de01377c4700a27a"),
    ("tuning", "patches"): (2, "0386dde03fbd048d"),
    ("tuning", "shapes"): (12, "693262196080e61a"),
    ("tuning", "full"): (161, "db875ce7c5120826"),
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


@pytest.mark.parametrize(
    "profile",
    ["smoke", "laptop", "desk", "desk_1000", "desk_9000", "desk_pretraining", "shapes", "full"],
)
def test_the_main_experiment_is_paired_and_matched(profile: str) -> None:
    runs = [run for run in runs_of("small_data", profile) if run.protocol == "finetune" and run.task == "classify"]
    for size in {run.size for run in runs}:
        here = [run for run in runs if run.size == size]
        assert len({run.blocks for run in here}) == 1, "one cut of the pool at a size"
        equal = [run for run in here if run.samples_seen is not None]
        budgets = 2 if profile == "desk_pretraining" else 1  # there, a control sees the pretraining's images besides
        assert len({(run.samples_seen, run.batch_size, run.recipe) for run in equal}) <= budgets, (
            "equal images seen at a size"
        )
        for arm in (equal, [run for run in here if run.recipe == "tuned" and run.optimizer == "muon"]):
            pairs = {name: {(r.draw, r.seed) for r in arm if r.backbone == name} for name in {r.backbone for r in arm}}
            most = max(pairs.values(), key=len, default=set())
            assert all(these == set(sorted(most)[: len(these)]) for these in pairs.values()), "the same replicates"


@pytest.mark.parametrize("profile", ["desk_1000", "full"])
def test_the_pair_is_settled_on_disjoint_draws_with_its_controls(profile: str) -> None:
    runs = runs_of("small_data", profile)
    pair = [run for run in runs if run.samples_seen is None and run.backbone.startswith(("vit", "resnet"))]
    assert {run.recipe for run in pair} == {"tuned", "plain", "strong"}
    assert {run.optimizer for run in pair} == {"muon", "adamw"}
    for size in {run.size for run in pair if run.recipe == "plain"}:
        muon = [run for run in pair if run.size == size and run.optimizer == "muon"]
        drawn = {name: sorted((r.backbone, r.draw) for r in muon if r.recipe == name) for name in RECIPES}
        assert drawn["plain"] == drawn["strong"] == drawn["tuned"], "a recipe alone has the headline's replicates"
    under_adamw = {(run.recipe, run.draw) for run in pair if run.optimizer == "adamw"}
    assert under_adamw == {("plain", draw) for draw in range(3)}, "with one recipe"
    assert all(run.blocks > run.draw == run.seed for run in pair)
    sizes = {run.size for run in pair}
    for backbone, protocol in (("pixels", "linear_probe"), ("pixels", "knn"), (pair[0].backbone, "linear_probe")):
        assert {run.size for run in runs if (run.backbone, run.protocol) == (backbone, protocol)} >= sizes
    assert runs[0] == pair[0], "the answer comes first"


def test_desk_settles_the_pair_under_one_recipe_and_joins_its_first_part() -> None:
    """Controls have more replicates in the part, and the MLP and other backbones come later."""
    part, whole = (set(runs_of("small_data", profile)) for profile in ("desk_1000", "desk"))
    assert {run.size for run in part} == {1000}
    assert {run.draw for run in part} == set(range(5))
    pair = {run for run in whole if run.size == 1000 and run.samples_seen is None}
    assert {run for run in pair if run.backbone in ("vit_micro", "resnet_micro") and not run.priors} <= part
    assert {run.recipe for run in whole if run.samples_seen is None} == {"plain"}
    kept = {run for run in part if run.draw < 3 and run.recipe == "plain" and run.optimizer == "muon"}
    assert kept <= whole
    settled = {(run.size, run.backbone, run.draw) for run in whole if run.samples_seen is None and not run.priors}
    draws = {100: 5, 1000: 5, 3000: 3}
    assert {
        (size, name, d) for size, n in draws.items() for name in ("vit_micro", "resnet_micro") for d in range(n)
    } <= (settled)


def test_almost_the_whole_pool_is_one_draw_with_three_seeds() -> None:
    runs = runs_of("small_data", "desk_9000")
    assert {(run.size, run.blocks, run.draw) for run in runs} == {(9000, 0, 0)}
    settled = [run for run in runs if run.samples_seen is None and run.protocol == "finetune"]
    assert {(run.backbone, run.seed) for run in settled} == {
        (name, seed) for name in ("vit_micro", "resnet_micro", "mlp_micro") for seed in range(3)
    }


def test_long_pretrainings_have_their_controls() -> None:
    runs = runs_of("small_data", "desk_pretraining")
    before = [run for run in runs if run.task == "pretrain"]
    assert sorted((run.regime, run.samples_seen, run.seed) for run in before) == [
        (regime, seen, seed) for regime in ("dino", "mae") for seen in (0, 80_000) for seed in range(3)
    ]
    scratch = [run for run in runs if run.regime == "scratch" and run.protocol == "finetune"]
    assert {(run.backbone, run.priors, run.samples_seen) for run in scratch} == {
        ("vit_micro", "", 16_000),
        ("resnet_micro", "", 16_000),
        ("vit_micro", "sincos_positions", 16_000),
        ("vit_micro", "", 96_000),
        ("resnet_micro", "", 96_000),
    }
    assert {run.blocks for run in runs if run.size} == {5}, "the draws of the profile desk"


def test_the_laptop_needs_no_tuning_and_mae_has_a_pretraining_for_each_replicate(tmp_path: Path) -> None:
    made = plan.make(EXPERIMENTS / "small_data.py", "laptop", tmp_path, plan.Request())
    assert (made.pending, made.trials) == (frozenset(), ())
    runs = runs_of("small_data", "laptop")
    equal = {run.backbone for run in runs if run.protocol == "finetune" and run.samples_seen == 16_000}
    assert ({run.size for run in runs if run.size}, len(equal)) == ({100, 1000}, 7)
    pretrainings = [run for run in runs if run.task == "pretrain"]
    assert sorted((run.samples_seen, run.seed) for run in pretrainings) == [
        (seen, seed) for seen in (0, 80_000) for seed in range(3)
    ]


@pytest.mark.parametrize("profile", ["laptop", "desk", "desk_1000", "desk_9000", "shapes"])
def test_tuning_searches_every_open_cell_and_uses_no_draw_of_the_sweep(profile: str, tmp_path: Path) -> None:
    made = plan.make(EXPERIMENTS / "tuning.py", profile, tmp_path, plan.Request())
    assert {(run.draw, run.seed) for run in made.trials} == {(1000, 1000)}
    searched = {
        (run.backbone, run.size, run.optimizer, run.priors, run.recipe) for cell in made.searched for run in cell
    }
    for run in runs_of("small_data", profile):
        if run.samples_seen is None:
            names = ("plain", "strong") if run.recipe == "tuned" else (run.recipe,)
            assert {(run.backbone, run.size, run.optimizer, run.priors, name) for name in names} <= searched
    assert {run.learning_rate for run in made.trials} == set(made.ladders[0].rates)


@pytest.mark.parametrize("profile", ["laptop", "laptop_camvid", "desk"])
def test_tuning_searches_masks_by_trials_of_their_own_task_on_their_own_ladder(profile: str, tmp_path: Path) -> None:
    """Every open cell of the segmentation is searched, and `--tune` of its sweep plans the same trials."""
    made = plan.make(EXPERIMENTS / "tuning.py", profile, tmp_path / "all", plan.Request())
    alone = plan.make(EXPERIMENTS / "segmentation.py", profile, tmp_path / "one", plan.Request(tune=True))
    trials = {run_id(run) for run in made.trials if run.task == "tune_segment"}
    assert trials
    # Of MAE, tuning has a pretraining of its own. A rate is also searched where the shipped table has it for others.
    sizes = {run.size for run in runs_of("segmentation", profile)}
    expected = {run for run in alone.trials if not run.pretraining and run.size in sizes}
    assert expected or not alone.searched  # none where the shipped table has every row
    assert {run_id(run) for run in expected} <= trials
    for cell, ladder in zip(made.searched, made.ladders, strict=True):
        is_dense = TASKS[cell[0].task].dense
        if is_dense and profile != "laptop_camvid":
            assert (ladder.first, ladder.cap) == (6_000, 192_000 if profile == "laptop" else 48_000)
        assert is_dense or ladder.first > 6_000


@pytest.mark.parametrize(
    "profile",
    ["smoke", "laptop", "desk", "desk_1000", "desk_9000", "desk_pretraining", "shapes", "full"],
)
def test_planning_accepts_every_trial_of_tuning(profile: str, tmp_path: Path) -> None:
    made = plan.make(EXPERIMENTS / "tuning.py", profile, tmp_path, plan.Request())
    largest = {dataset: rows.largest_tuned for dataset, rows in checks.summaries(made.all(), {}).items()}
    assert all(run.size <= largest[run.dataset] for run in made.trials)


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
            assert (run.learning_rate is None) == (name == "pretraining" and profile != "smoke")
    named = {run.pretraining for run in runs}
    assert pretrainings <= named, "a pretraining that no run starts from"


@pytest.mark.parametrize("name", ["pretraining", "seed_claim", "imagenet_weights"])
@pytest.mark.parametrize("profile", PROFILES)
def test_arms_see_the_same_images_and_replicates(name: str, profile: str) -> None:
    runs = [run for run in runs_of(name, profile) if run.task == "classify"]
    for dataset in {run.dataset for run in runs}:
        for size in {run.size for run in runs if run.dataset == dataset}:
            here = [run for run in runs if (run.dataset, run.size) == (dataset, size)]
            fewest = min(run.samples_seen or 0 for run in here)  # controls from scratch see more
            assert {run.regime for run in here if run.samples_seen != fewest} <= {"scratch"}
            here = [run for run in here if run.samples_seen == fewest and not run.priors]
            assert len({(run.samples_seen, run.batch_size, run.image_size, run.recipe) for run in here}) == 1
            arms: dict[tuple[str, ...], set[tuple[int, int]]] = {}
            for run in here:
                arms.setdefault((run.backbone, run.regime, run.source), set()).add((run.draw, run.seed))
            assert len({frozenset(pairs) for pairs in arms.values()}) == 1
            assert len(next(iter(arms.values()))) == (2 if profile == "smoke" else 3)


@pytest.mark.parametrize("name", ["pretraining", "seed_claim"])
@pytest.mark.parametrize("profile", PROFILES)
def test_backbones_are_pretrained_alike(name: str, profile: str) -> None:
    alike: dict[tuple[str, ...], set[tuple[object, ...]]] = {}
    for run in runs_of(name, profile):
        if run.task == "pretrain" and run.samples_seen:
            what = (run.samples_seen, run.batch_size, run.learning_rate, run.mask_ratio, run.image_size)
            alike.setdefault((run.dataset, run.regime, run.source), set()).add(what)
    assert all(len(kinds) == 1 for kinds in alike.values()), alike


@pytest.mark.parametrize("profile", PRETRAINING)
def test_every_regime_is_asked_of_the_vit_and_those_of_the_profile_of_the_cnn(profile: str) -> None:
    runs = [run for run in runs_of("pretraining", profile) if run.dataset != "oxford_pet"]
    asked: dict[str, set[str]] = {}
    for run in runs:
        asked.setdefault(catalogue.architecture(run.backbone), set()).add(run.regime)
    own = {"scratch", "supervised", "simmim", "dino", "formula"}
    few = own if profile in ("smoke", "full") else {"scratch", "simmim", "supervised"}
    assert asked == {"vit": own | {"mae"}, "resnet": few}


@pytest.mark.parametrize("profile", PRETRAINING)
def test_every_replicate_has_a_pretraining_of_its_own_but_in_smoke(profile: str) -> None:
    runs = runs_of("pretraining", profile)
    seeds = {run_id(run): run.seed for run in runs if run.task == "pretrain"}
    starts = [run for run in runs if run.pretraining]
    assert starts
    if profile == "smoke":
        assert set(seeds.values()) == {0}
    else:
        assert all(seeds[run.pretraining] == run.seed for run in starts)


@pytest.mark.parametrize("profile", PRETRAINING)
def test_controls_stand_beside_the_regimes(profile: str) -> None:
    runs = [run for run in runs_of("pretraining", profile) if run.dataset != "oxford_pet"]
    pretrainings = {run_id(run): run for run in runs if run.task == "pretrain"}
    (most,) = {run.samples_seen for run in pretrainings.values() if run.samples_seen}
    zero = [run for run in runs if run.pretraining and not pretrainings[run.pretraining].samples_seen]
    positions = [run for run in runs if run.priors]
    usual = {(run.size, run.samples_seen) for run in runs if run.pretraining}
    longer = [run for run in runs if run.task == "classify" and (run.size, run.samples_seen) not in usual]
    assert {(run.backbone.partition("_")[0], run.regime) for run in zero} == {("vit", "mae")}
    assert {(run.backbone.partition("_")[0], run.regime, run.priors) for run in positions} == {
        ("vit", "scratch", "sincos_positions")
    }
    assert {(run.backbone.partition("_")[0], run.regime) for run in longer} == {
        ("vit", "scratch"),
        ("resnet", "scratch"),
    }
    assert {(run.size, (run.samples_seen or 0) - (most or 0)) for run in longer} == usual
    replicates = {(run.draw, run.seed) for run in runs if run.task == "classify"}
    for control in (zero, positions, longer):
        assert {(run.draw, run.seed) for run in control} == replicates


@pytest.mark.parametrize("profile", PRETRAINING)
def test_dino_s_teacher_follows_the_steps_in_short_profiles(profile: str) -> None:
    (schedule,) = {run.teacher_schedule for run in runs_of("pretraining", profile) if run.regime == "dino"
                   and run.task == "pretrain"}  # fmt: skip
    assert schedule == ("" if profile == "full" else "steps")


def test_the_desk_learns_from_tiny_imagenet_and_from_its_folder_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named() -> set[tuple[str, str]]:
        return {(run.backbone, run.source) for run in runs_of("pretraining", "desk") if run.regime == "supervised"}

    monkeypatch.chdir(tmp_path)
    shapes = ("vit_micro", "shapes:position=free")
    assert named() == {("vit_micro", "tiny_imagenet"), ("resnet_micro", "tiny_imagenet"), shapes}
    (tmp_path / "tiny_imagenet20").mkdir()
    assert named() == {("vit_micro", "tiny_imagenet20"), ("resnet_micro", "tiny_imagenet20"), shapes}


@pytest.mark.parametrize("profile", ["laptop", "desk"])
def test_every_start_is_tuned_on_a_pretraining_of_its_own(profile: str) -> None:
    sweep = [run for run in runs_of("pretraining", profile) if run.task == "classify"]
    runs = runs_of("tuning", profile)
    trials = [run for run in runs if TASKS[run.task].evaluated_on == "holdout"]
    arms = {(run.dataset, run.backbone, run.regime) for run in sweep}
    assert arms <= {(run.dataset, run.backbone, run.regime) for run in trials}
    assert {run.learning_rate for run in trials} == {None}, "each stands for a search over one grid"
    ids, done = {run_id(run) for run in runs_of("pretraining", profile)}, set()
    for run in runs:
        if run.task == "pretrain":
            assert run.seed == 1000
            assert run.samples_seen
            done.add(run_id(run))
        if run.pretraining:
            assert run.pretraining in done, "a trial waits for its pretraining, which comes first"
    assert not ids & {run_id(run) for run in runs}
    assert {run.pretraining for run in trials if run.pretraining} == done


@pytest.mark.parametrize("profile", PRETRAINING)
def test_the_pretraining_study_is_planned_with_borrowed_rates(profile: str, tmp_path: Path) -> None:
    made = plan.make(EXPERIMENTS / "pretraining.py", profile, tmp_path, plan.Request(tune=False))
    assert len(made.runs) == GOLDEN["pretraining", profile][0]
    assert all(run.learning_rate for run in made.runs if run.task == "classify")


@pytest.mark.parametrize("profile", PROFILES)
def test_the_seed_claim_is_monitored_on_a_hold_out_that_its_subset_leaves_alone(profile: str) -> None:
    for run in runs_of("seed_claim", profile):
        if run.task == "classify":
            pool = catalogue.dataset(run.dataset).pool
            assert run.monitor
            assert run.size <= pool - holdout_size(pool)


def test_the_seed_claim_is_settled_beside_its_60_epochs() -> None:
    runs = runs_of("seed_claim", "desk")
    for backbone in ("mobilenetv3_micro", "efficientvit_micro"):
        here = [run for run in runs if run.backbone == backbone]
        assert sorted((run.samples_seen or 0, run.recipe, run.draw) for run in here) == [
            *((0, "plain", draw) for draw in range(3)),
            *((18_000, "plain", draw) for draw in range(3)),
        ]
    assert {run.blocks for run in runs} == {3}


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


def test_patches_are_compared_from_the_same_weights_on_the_same_images_with_nothing_else_between_them() -> None:
    own, half = (
        [replace(run, patch=None) for run in runs_of("imagenet_weights", "patches") if run.patch == patch]
        for patch in (16, 8)
    )
    assert own == half
    assert {run.regime for run in own} == {"weights"}
    assert {run.learning_rate for run in own} == {None}, "each patch gets its own"
    assert len({run.draw for run in own}) == 3


@pytest.mark.parametrize("profile", ["smoke", "laptop", "laptop_camvid", "desk", "full"])
def test_segmentation_compares_heads_and_encoders_on_disjoint_images(profile: str, tmp_path: Path) -> None:
    runs = [run for run in runs_of("segmentation", profile) if run.task == "segment"]
    checks.check_runs(runs_of("segmentation", profile), checks.summaries(runs, {}), allow_overlap=False)
    kept, left_out = checks.fit_sizes(runs, checks.summaries(runs, {}), typed=False)
    assert (kept, left_out) == (runs, [])
    checks.check_holdout([run for run in runs if run.blocks], checks.summaries(runs, {}))
    equal = [run for run in runs if run.samples_seen is not None and run.regime == "scratch"]
    for size in {run.size for run in equal}:
        here = [run for run in equal if run.size == size]
        assert len({(run.samples_seen, run.batch_size, run.recipe) for run in here}) == 1
        pair = [run for run in here if run.backbone.startswith(("vit", "resnet"))]
        arms = {(run.backbone.partition("_")[0], run.head): set() for run in pair}
        for run in pair:
            arms[run.backbone.partition("_")[0], run.head].add((run.draw, run.seed))
        assert set(arms) == {(name, head) for name in ("vit", "resnet") for head in ("", "matched")}
        assert len(set(map(frozenset, arms.values()))) == 1, "the same replicates"
    for run in runs:
        if run.samples_seen is None:
            works = 294 if not run.blocks else checks.summaries([run], {})[run.dataset].largest_tuned // run.blocks
            assert run.size <= works, "a settled cell leaves the hold-out alone"
    made = plan.make(EXPERIMENTS / "segmentation.py", profile, tmp_path, plan.Request(tune=True))
    assert all(run.task == "tune_segment" for run in made.trials)


def test_every_committed_row_has_tried_the_same_grid() -> None:
    """A row that tried fewer rates would narrow the grid of all later searches, too (`Rates.grid`)."""
    for row in json.loads((EXPERIMENTS / "tuned.json").read_text("utf-8"))["rows"]:
        if row["trials"]:
            tried = {trial["learning_rate"] for trial in row["trials"]}
            assert tried >= set(LADDER.rates), (row["dataset"], row["backbone"], row["size"])
