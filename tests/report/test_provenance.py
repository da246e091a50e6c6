"""Budgets, recipes, tuning, missing runs, provenance: what stood in the table stands in the report."""

import math
from pathlib import Path

from bias_lab import results
from bias_lab.definition import Run
from bias_lab.report import provenance
from bias_lab.report.findings import findings
from bias_lab.report.pages import Table
from bias_lab.results import Results, StudyPlan
from tests.planted import row, rows, table


def cells(made: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in made.rows]


def test_budgets_are_those_spent() -> None:
    pre = row(
        Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="pretrain", regime="mae"), samples_seen=192_000
    )
    made = provenance.budgets(table([*rows(lambda run: 0.5, sizes=[100], backbones=["vit_micro"]), pre]))
    told = dict(zip([name for name, _ in made.columns], cells(made)[0], strict=True))
    assert (told["images seen"], told["steps"], told["seconds"], told["minutes"]) == ("16,000", "500", "20.0", "1.0")
    assert (told["M parameters"], told["M mult-adds"], told["runs"]) == ("0.40", "10.0", "3")
    assert cells(made)[1][2:6] == ["MAE (pretraining)", "plain", "1", "pool"]


def test_unequal_budgets_show() -> None:
    made = rows(lambda run: 0.5, sizes=[100], backbones=["vit_micro"])
    made[0]["samples_seen"] = 8_000
    assert "8,000–16,000" in cells(provenance.budgets(table(made)))[0]


def test_a_fit_that_takes_no_steps_has_no_recipe() -> None:
    made = rows(lambda run: 0.5, sizes=[100], backbones=["pixels"], protocol="linear_probe")
    for one in made:
        one["steps"] = 0
    assert cells(provenance.budgets(table(made)))[0][1:4] == ["pixels", "scratch, linear probe", "–"]


def test_recipes_setting_by_setting() -> None:
    told = {"plain": {"mixup": [0.0], "samples_seen": [16_000, 24_000]}, "strong": {"mixup": [0.2]}}
    made = provenance.recipes(told, table(rows(lambda run: 0.5)))
    assert [name for name, _ in made.columns] == ["setting", "plain", "strong"]
    assert cells(made) == [
        ["learning rate (tuned for each backbone)", "0.001", "–"],
        ["images seen", "16,000, 24,000", "–"],
        ["mixup alpha", "0.0", "0.2"],
    ]


def test_tuning_marks_what_was_chosen() -> None:
    trials = [{"learning_rate": 0.001, "top1": 0.61}, {"learning_rate": 0.003, "top1": 0.67}]
    chosen = dict(backbone="vit_micro", regime="scratch", recipe="plain", size=100, learning_rate=0.003, trials=trials)
    made = provenance.tuning({"command": "make tune", "rows": [chosen]})
    assert cells(made)[0][-3:] == ["0.003", "61.0", "67.0 ✓"]
    assert made.note.endswith("Made by: make tune")


def test_provenance_says_what_was_loaded_of_weights() -> None:
    made = rows(lambda run: 0.5, sizes=[100], backbones=["vit_micro", "resnet_micro"])
    for one in made:
        if one["backbone"] == "vit_micro":
            one |= {"weights": "file:01", "weights_loaded": "a.pth: 54 of 54 tensors loaded"}
    told = cells(provenance.provenance(table(made), StudyPlan()))
    assert [row for row in told if row[0].startswith("weights")] == [
        ["weights: file:01 in vit_micro", "a.pth: 54 of 54 tensors loaded"]
    ]


def test_what_an_edited_experiment_runs_otherwise_now_is_left_out_and_said() -> None:
    """Finished runs keep their folders: of one cell twice, the planned one counts; what nobody plans anew stays."""
    made = rows(lambda run: 0.5, sizes=[100], backbones=["vit_micro", "resnet_micro"])
    again = [r | {"run_id": f"old{k}", "learning_rate": 0.1} for k, r in enumerate(made[:2])]
    other = rows(lambda run: 0.5, sizes=[300], backbones=["vit_micro"])
    whole = table([*made, *again, *other])
    ids = [r["run_id"] for r in made]
    plan = StudyPlan(run_ids=(*ids, "old0", "old1"), earlier=frozenset({"old0", "old1"}))
    kept, told = provenance.of_the_plan(whole, plan)
    assert set(kept["run_id"]) == {r["run_id"] for r in [*made, *other]}
    assert told == ["2 finished runs are left out, since the edited experiment defines these cells differently."]
    assert provenance.of_the_plan(whole, StudyPlan())[1] == provenance.of_the_plan(kept, plan)[1] == []
    assert findings(Results(table=whole, plan=plan)).caveats[0] == told[0]
    both = StudyPlan(run_ids=plan.run_ids)  # one plan that asks for both makes the learning rate an axis
    assert "learning_rate" in [part.name for part in findings(Results(table=whole, plan=both)).sections]


def test_failed_before_missing_each_with_its_why() -> None:
    failed = table(
        [row(Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100), status="failed", run_id="f" * 12)]
    )
    made = provenance.undone(["m" * 12], {"m" * 12: "resnet_micro scratch N=100"}, failed, {"f" * 12: "diverged: nan"})
    assert [line[0] for line in cells(made)] == ["failed", "missing"]
    assert cells(made)[0][2] == "diverged: nan"
    assert cells(made)[1][1] == "resnet_micro scratch N=100"


def test_provenance() -> None:
    made = table(rows(lambda run: 0.5)).assign(versions='{"torch": "2.14.1", "timm": "1.0.15"}')
    told = dict(cells(provenance.provenance(made, StudyPlan(command="bias-lab sweep x.py", version="0.1.0"))))
    assert told["command"] == "bias-lab sweep x.py"
    assert told["versions"] == "timm 1.0.15, torch 2.14.1"
    assert told["data: fashion_mnist_12k"] == f"fingerprint {'f' * 16}, 2,000 test images"
    assert told["commit"] == "c" * 40


def test_the_committed_example_shows_the_tuning_that_gave_its_rates() -> None:
    """Each run of the example took the rate that its tuning table chose at the nearest size (in log N)."""
    folder = Path(__file__).parents[2] / "docs" / "results" / "small_data_fashion"
    found = results.read(folder)
    made = found.table
    chosen: dict[tuple[str, ...], dict[int, float]] = {}
    for trial in found.tuned["rows"]:
        key = tuple(trial[name] for name in ("backbone", "recipe", "regime", "optimizer"))
        chosen.setdefault(key, {})[trial["size"]] = trial["learning_rate"]
    trained = made[(made["task"] == "classify") & (made["status"] == "finished") & (made["protocol"] == "finetune")]
    assert len(set(trained["backbone"])) >= 3
    for run in trained.to_dict("records"):
        rates = chosen[run["backbone"], run["recipe"], run["regime"], run["optimizer"]]
        nearest = min(rates, key=lambda size, at=run["size"]: abs(math.log(size / at)))
        assert run["learning_rate"] == rates[nearest], run["run_id"]
    assert next(part for part in findings(found).sections if part.name == "tuning").tables[0].rows


def test_rows_of_the_tuning_table_are_told_apart_by_what_differs() -> None:
    row = {"backbone": "vit_micro", "regime": "scratch", "recipe": "plain", "size": 30, "learning_rate": 0.01}
    row |= {"dataset": "camvid", "trials": [{"learning_rate": 0.01, "top1": 0.4}]}
    made = provenance.tuning({"rows": [row, row | {"head": "matched"}]})
    heads = [name for name, _ in made.columns].index("head")
    assert [line[heads].text for line in made.rows] == ["own", "matched"]
    assert not {"dataset", "optimizer"} & {name for name, _ in made.columns}
    both = provenance.tuning({"rows": [row, row | {"dataset": "mine", "optimizer": "muon"}]})
    assert {"dataset", "optimizer"} <= {name for name, _ in both.columns}
    assert [line[4].text for line in both.rows] == ["adamw", "muon"]
