"""Test that tuned learning rates are looked up, borrowed and written."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab import ledger
from bias_lab.catalogue import TASKS
from bias_lab.definition import DEFAULTS, Run, run_id
from bias_lab.errors import UserError
from bias_lab.planning import ladder, learning_rates, settle
from bias_lab.planning.learning_rates import Rates

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)


def row(size: int, rate: float, **changes: object) -> dict[str, object]:
    usual = {"dataset": "fashion_mnist_12k", "backbone": "vit_micro", "recipe": "plain", "regime": "scratch"}
    return {**usual, "size": size, "learning_rate": rate, **changes}


def table(*rows: dict[str, object]) -> Rates:
    rates = Rates()
    rates.add({"rows": list(rows)}, Path("tuned.json"))
    return rates


def rate(run: Run, known: Rates) -> float | None:
    return filled(run, known).learning_rate


def filled(run: Run, known: Rates) -> Run:
    return settle.settle([run], known, {run.dataset: 9000}, (), tune=None).runs[0]


def scored(run: Run, by_rate: dict[float, float]) -> list[dict[str, object]]:
    runs = [replace(run, task=TASKS[run.task].trials, learning_rate=value) for value in by_rate]
    return ladder.choose(runs, {run_id(one): score for one, score in zip(runs, by_rate.values(), strict=True)})


def test_the_nearest_size_is_nearest_in_log() -> None:
    known = table(row(100, 1e-3), row(3000, 3e-3))
    between = math.sqrt(100 * 3000)  # 548
    assert rate(replace(ONE, size=int(between) - 1), known) == 1e-3
    assert rate(replace(ONE, size=int(between) + 2), known) == 3e-3
    assert rate(replace(ONE, size=1550), known) == 3e-3  # the middle of 100 and 3000 without the log


def test_the_runs_own_dataset_comes_before_a_nearer_size_of_another() -> None:
    known = table(row(100, 1e-3, dataset="cifar10"), row(3000, 3e-3))
    assert rate(ONE, known) == 3e-3
    assert rate(replace(ONE, dataset="folder:abc"), known) == 1e-3


@pytest.mark.parametrize(
    "other", [{"recipe": "strong"}, {"regime": "mae"}, {"intervention": "permute_pixels"}, {"backbone": "resnet_micro"}]
)
def test_another_cell_has_no_rate(other: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"no tuned learning rate .*--tune.*--no-tune"):
        filled(replace(ONE, **other), table(row(100, 1e-3)))  # type: ignore[arg-type]


def test_a_changed_recipe_takes_the_rate_of_what_it_was_made_from() -> None:
    assert rate(replace(ONE, recipe="plain+mixup=0.2"), table(row(100, 1e-3))) == 1e-3


def test_a_changed_recipe_that_was_tuned_itself_takes_its_own_rate_and_lends_it_to_no_other() -> None:
    known = table(row(100, 1e-3), row(100, 3e-3, recipe="plain+crop=0"))
    assert rate(replace(ONE, recipe="plain+crop=0", crop=0), known) == 3e-3
    assert rate(ONE, known) == 1e-3
    assert rate(replace(ONE, recipe="plain+mixup=0.2"), known) == 1e-3


def test_a_changed_recipe_takes_no_settled_budget_of_what_it_was_made_from() -> None:
    known = table(row(100, 1e-3, samples_seen=32_000, settled=True))
    assert known.row(replace(ONE, samples_seen=None)) is not None
    assert known.row(replace(ONE, samples_seen=None, recipe="plain+crop=0+flip=False")) is None
    with pytest.raises(UserError, match=r"no tuned settled budget .*plain\+crop=0"):
        filled(replace(ONE, samples_seen=None, recipe="plain+crop=0"), known)


def test_a_changed_recipe_is_searched_itself_where_the_user_asks_for_tuning() -> None:
    known = table(row(100, 1e-3))
    assert known.row(ONE, own=True) is not None
    assert known.row(replace(ONE, recipe="plain+mixup=0.2"), own=True) is None


def test_an_edited_backbone_is_another_backbone() -> None:
    known = table(row(100, 1e-3, backbone="mine:net", backbone_source="old"))
    mine = replace(ONE, backbone="mine:net", backbone_source="new")
    assert known.row(mine) is None
    assert known.row(replace(mine, backbone_source="old")) is not None


def test_pretraining_probes_and_neighbours_need_no_rate() -> None:
    assert learning_rates.needs_rate(ONE)
    assert not learning_rates.needs_rate(replace(ONE, learning_rate=1e-3))
    assert not learning_rates.needs_rate(replace(ONE, task="pretrain", size=0))
    assert not learning_rates.needs_rate(replace(ONE, protocol="knn"))
    assert not learning_rates.needs_rate(replace(ONE, protocol="linear_probe"))


def test_a_borrowed_rate_is_its_architectures_then_the_plain_vits() -> None:
    known = table(row(100, 2e-3, backbone="resnet_micro"), row(100, 1e-3), row(100, 5e-3, backbone="swin_micro"))
    assert learning_rates.borrow(replace(ONE, backbone="resnet18"), known) == (2e-3, None, "resnet_micro's at N = 100")
    mine = replace(ONE, backbone="mine:net", backbone_source="x")
    assert learning_rates.borrow(mine, known) == (1e-3, None, "vit_micro's at N = 100")
    assert learning_rates.borrow(ONE, Rates())[0] == 1e-3


def test_each_optimizer_has_its_own_rate_and_borrows_adamw_s(tmp_path: Path) -> None:
    muon = replace(ONE, optimizer="muon")
    adamw_alone = table(row(100, 1e-3))
    assert adamw_alone.row(muon) is None
    with pytest.raises(UserError, match="this backbone, recipe, optimizer"):
        filled(muon, adamw_alone)
    assert learning_rates.borrow(muon, adamw_alone)[0] == 1e-3
    both = table(row(100, 1e-3), {**row(100, 3e-3), "optimizer": "muon"})
    assert [filled(run, both).learning_rate for run in (ONE, muon)] == [1e-3, 3e-3]


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    ledger.write_json(path, {"rows": [{"backbone": "vit_micro"}]})
    with pytest.raises(UserError, match=r"tuned\.json: row 1 lacks dataset, learning_rate, recipe, regime, size"):
        learning_rates.read(path)


def test_what_was_written_is_read_and_a_second_choice_replaces_the_first(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    learning_rates.write(path, (scored(ONE, {1e-3: 0.4, 3e-3: 0.3})), "first")
    learning_rates.write(path, (scored(replace(ONE, size=3000), {1e-3: 0.4, 3e-3: 0.5})), "second")
    learning_rates.write(path, (scored(ONE, {1e-3: 0.4, 3e-3: 0.7})), "third")
    known = learning_rates.read(path)
    assert len(known.rows) == 2
    assert rate(ONE, known) == 3e-3
    assert known.grid() == (1e-3, 3e-3)
    assert known.tried("vit_micro") == (1e-3, 3e-3)
    assert known.sizes(ONE) == [100, 3000]
    assert ledger.read_json(path)["command"] == "third"


def test_accuracy_chooses_no_rate_for_masks_and_a_mean_iou_none_for_classes() -> None:
    masks = replace(ONE, task="segment")
    known = table(row(100, 1e-3), row(3000, 3e-3, task="segment", samples_seen=6000))
    assert (rate(ONE, known), rate(masks, known)) == (1e-3, 3e-3)
    one = table(row(100, 1e-3, samples_seen=64_000))
    assert learning_rates.borrow(replace(masks, samples_seen=None), one) == (
        learning_rates.COMMON, DEFAULTS["samples_seen"], "a common value that was tuned for no backbone",
    )  # fmt: skip


def test_what_was_written_names_the_task_of_masks_alone(tmp_path: Path) -> None:
    masks = replace(ONE, task="segment")
    for run in (ONE, masks):
        learning_rates.write(tmp_path / "tuned.json", scored(run, {1e-3: 0.4}), "command")
    assert [found.get("task") for found in ledger.read_json(tmp_path / "tuned.json")["rows"]] == [None, "segment"]


def test_what_was_tuned_under_an_intervention_is_no_size_of_a_run_without() -> None:
    """A joined backbone has no trials at a size where only permuted images were tuned."""
    known = table(row(100, 1e-3), row(3000, 3e-3), row(1000, 1e-3, intervention="permute_pixels"))
    joined = replace(ONE, backbone="my:net")
    assert known.sizes(joined) == [100, 3000]
    assert known.sizes(replace(joined, intervention="permute_pixels")) == [1000]
    assert known.sizes(replace(joined, intervention="low_pass=4")) == [100, 3000]
    assert known.sizes(replace(joined, regime="mae")) == [100, 3000]


def test_the_remedies_fit_what_is_open() -> None:
    for run, lacking in ((ONE, "learning rate"), (replace(ONE, samples_seen=None), "settled budget")):
        error = learning_rates.untuned(run)
        assert error.what.startswith(f"no tuned {lacking} for vit_micro ")
        assert error.what.endswith("(recipe plain, optimizer adamw)"), "a cell may be tuned under another one"
        assert ("--set learning_rate" in error.remedy) == (lacking == "learning rate")
        assert all(word in error.remedy for word in ("--tune", "--no-tune", "bias-lab sweep tuning", "bias-lab tuned"))
