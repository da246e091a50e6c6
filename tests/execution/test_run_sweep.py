"""Sweeps from plan to end, with real worker processes that carry out a stand-in for training."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bias_lab import ledger
from bias_lab.definition import Settings, run_id
from bias_lab.errors import UserError
from bias_lab.execution.run_sweep import Options, Outcome, run_sweep
from bias_lab.planning import plan
from bias_lab.planning.checks import DatasetSummary
from bias_lab.planning.plan import Data, Request

pytestmark = pytest.mark.usefixtures("fake")

SETTINGS = Settings(workers=2, device="cpu", command="the command")


class Sweep:
    """Run one experiment in one folder as often as a test asks."""

    def __init__(self, study: Path) -> None:
        self.study, self.folder, self.out = study, study.parent.parent / "out", ""
        self.published: list[int] = []  # number of finished runs whenever the report was written

    def __call__(
        self, *, engine: str = "local", retry_failed: bool = False, redo_changed: bool = False, **request: Any
    ) -> Outcome:
        out = io.StringIO()
        try:
            return run_sweep(
                lambda: plan.make(self.study, "smoke", self.folder, Request(**request)),
                self.folder,
                SETTINGS,
                Options(engine=engine, retry_failed=retry_failed, redo_changed=redo_changed),
                publish=self.publish,
                console=Console(file=out, width=100),
            )
        finally:
            self.out = out.getvalue()

    def publish(self) -> None:
        self.published.append(len(self.results()))

    def results(self) -> dict[str, int]:
        return {p.parent.name: p.stat().st_mtime_ns for p in self.folder.glob(f"runs/*/{ledger.RESULT}")}


@pytest.fixture
def sweep(study: Path) -> Sweep:
    return Sweep(study)


def test_all_runs_finish_and_a_second_sweep_starts_nothing(sweep: Sweep) -> None:
    outcome = sweep()
    assert (outcome.finished, outcome.total, outcome.exit_code) == (8, 8, 0)
    before = sweep.results()
    assert sweep.published[0] == 0  # the report was written before the first run ended
    again = sweep()
    assert again.finished == 8
    assert sweep.results() == before
    assert "starting workers" not in sweep.out


def test_results_hold_the_command_and_the_plan_lists_them_all(sweep: Sweep) -> None:
    sweep()
    planned = ledger.read_json(sweep.folder / ledger.EXPERIMENT)
    assert {entry["run_id"] for entry in planned["runs"]} == set(sweep.results())
    result = ledger.read_json(ledger.run_folder(sweep.folder, planned["runs"][0]["run_id"]) / ledger.RESULT)
    assert result["command"] == "the command"


def test_an_edited_experiment_runs_only_its_new_cells(sweep: Sweep) -> None:
    sweep()
    before = sweep.results()
    sweep.study.write_text(
        sweep.study.read_text().replace('smoke": dict(size=(100,))', 'smoke": dict(size=(100, 200))')
    )
    assert sweep().finished == 14
    after = sweep.results()
    assert {name: after[name] for name in before} == before


def test_a_joined_backbone_is_tuned_then_run_and_finished_runs_are_untouched(sweep: Sweep) -> None:
    sweep()
    before = sweep.results()
    outcome = sweep(backbones=("resnet18",))
    assert (outcome.failures, outcome.blocked) == ((), ())
    rows = ledger.read_json(sweep.folder / ledger.TUNED)["rows"]
    assert {(row["backbone"], row["learning_rate"]) for row in rows} == {("resnet18", 1e-3)}  # the stand-in's best
    after = sweep.results()
    assert {name: after[name] for name in before} == before
    assert len(after) == 8 + 6 + 3  # trials at the tuned sizes nearest to its cells, then these cells
    mine = [entry["run"] for entry in ledger.read_json(sweep.folder / ledger.EXPERIMENT)["runs"]]
    assert [run["learning_rate"] for run in mine if run["backbone"] == "resnet18"][:3] == [1e-3] * 3


def test_tuning_all_on_own_data_runs_the_pretraining_that_its_trials_wait_for(sweep: Sweep) -> None:
    summary = DatasetSummary(name="photos", counts=(90, 90), side=28)
    data = Data(dataset="folder:abc", summary=summary, place={"path": "/photos"}, image_size=28)
    outcome = sweep(tune=True, data=data)
    assert (outcome.failures, outcome.blocked) == ((), ())
    assert outcome.finished == outcome.total == len(sweep.results())  # the trials count, though later plans lack them
    listed = [entry["run_id"] for entry in ledger.read_json(sweep.folder / ledger.EXPERIMENT)["runs"]]
    assert set(listed) == set(sweep.results())  # what status and the report count
    shown = [line.partition("]")[0].removeprefix("[") for line in sweep.out.splitlines() if line.startswith("[")]
    assert shown[-1] == f"{outcome.total}/{outcome.total}"
    done = [int(text.partition("/")[0]) for text in shown]
    assert done == list(range(1, outcome.total + 1))  # one count over the trials and the runs
    rows = ledger.read_json(sweep.folder / ledger.TUNED)["rows"]
    assert {(row["regime"], row["recipe"]) for row in rows} == {
        ("scratch", "plain"),
        ("mae", "plain"),
        ("scratch", "strong"),
    }
    assert len(sweep.results()) == 8 + 3 * 4  # one size of the profile fits, three rates, four kinds of cells


def test_a_failed_run_is_repeated_with_retry_failed_and_a_diverged_one_never(sweep: Sweep) -> None:
    text = sweep.study.read_text()
    sweep.study.write_text(
        text.replace('+ grid(replace(ONE, **recipe("strong")))', "+ grid(ONE, weight_decay=(0.91, 0.92))")
    )
    outcome = sweep()
    assert (outcome.exit_code, outcome.finished, outcome.total) == (1, 7, 9)
    assert [failure.reason for failure in outcome.failures] == ["error", "diverged"]
    assert "ValueError: planted" in str(outcome.failures[0])
    failing, diverging = (run_id(failure.run) for failure in outcome.failures)

    def attempts(name: str) -> int:
        return ledger.attempts(sweep.folder, name)

    assert sweep().exit_code == 1  # the failure remains
    assert (attempts(failing), attempts(diverging)) == (1, 1)
    assert sweep(retry_failed=True).exit_code == 1
    assert (attempts(failing), attempts(diverging)) == (2, 1)


def test_runs_whose_pretraining_failed_are_blocked(sweep: Sweep) -> None:
    text = sweep.study.read_text()
    sweep.study.write_text(text.replace("learning_rate=2e-3)", "learning_rate=2e-3, weight_decay=0.91)"))
    outcome = sweep()
    assert [failure.run.task for failure in outcome.failures] == ["pretrain"]
    assert [run.regime for run in outcome.blocked] == ["mae", "mae"]
    assert outcome.exit_code == 1


def test_runs_of_different_code_are_counted_and_repeated_with_redo_changed(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep()
    before = sweep.results()
    here = ledger.run_folder(sweep.folder, sorted(before)[0]) / ledger.RESULT
    ledger.write_json(here, ledger.read_json(here) | {"facts": {"code": "0123"}})
    sweep()
    assert "1 finished run came from different code of the lab; to repeat them, add --redo-changed" in sweep.out
    sweep(redo_changed=True)
    assert ledger.read_json(here)["facts"]["code"] == ledger.code_hash()
    after = sweep.results()
    assert [name for name in before if after[name] != before[name]] == [sorted(before)[0]]


def test_a_mistake_that_the_preflight_finds_leaves_nothing_in_runs(sweep: Sweep) -> None:
    with pytest.raises(UserError, match="did you mean 'resnet_micro'"):
        sweep(backbones=("refused_net",), tune=False)
    assert not (sweep.folder / "runs").exists()
    assert not (sweep.folder / ledger.EXPERIMENT).exists()


def test_a_note_of_the_preflight_is_printed_as_it_is(sweep: Sweep) -> None:
    sweep(fields={"label_noise": 0.1})
    assert "\nnote: a note\n" in sweep.out
    assert "\nwarning: note" not in sweep.out


def test_only_what_is_missing_is_run(sweep: Sweep) -> None:
    sweep()
    before = sweep.results()
    lost = sorted(before)[3]
    shutil.rmtree(sweep.folder / "runs" / lost)
    assert sweep().finished == 8
    after = sweep.results()
    assert [name for name in before if after[name] != before[name]] == [lost]


def test_a_report_that_cannot_be_written_is_printed_and_stops_no_run(sweep: Sweep) -> None:
    def publish() -> None:
        raise ValueError("planted")

    sweep.publish = publish  # type: ignore[method-assign]
    assert sweep().finished == 8
    assert "the report could not be written: ValueError: planted" in sweep.out
