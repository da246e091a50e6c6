"""The notebooks run from top to bottom on the committed table or a user's, and are committed with outputs."""

import json
import runpy
from pathlib import Path

import pytest

from bias_lab import ledger
from bias_lab.definition import from_json, run_id

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TRAINED = sorted(path.parent for path in (ROOT / "notebooks" / "trained").glob("*/run.json"))


def cells(path: Path) -> list[dict[str, object]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_with_its_outputs_and_without_errors(path: Path) -> None:
    outputs = [output for cell in cells(path) for output in cell["outputs"]]
    assert [cell["execution_count"] for cell in cells(path)] == list(range(1, len(cells(path)) + 1))
    assert {output["output_type"] for output in outputs} <= {"display_data", "execute_result", "stream"}
    assert all(output.get("name") != "stderr" for output in outputs)  # warnings name a machine's paths
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_the_trained_models_are_small_and_their_page_is_what_the_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "keep_trained.py"))
    assert (ROOT / "notebooks" / "trained" / "README.md").read_text(encoding="utf-8") == script["readme"]()
    assert len(TRAINED) >= 4
    for here in TRAINED:
        assert sum(path.stat().st_size for path in here.iterdir()) < 1_000_000, here
        run, result = (ledger.read_json(here / name) for name in (ledger.RUN, ledger.RESULT))
        assert run == result["run"]
        assert run_id(from_json(run)) == result["run_id"]


@pytest.mark.parametrize("here", TRAINED, ids=lambda here: here.name)
def test_a_trained_model_is_the_one_that_its_record_describes(here: Path) -> None:
    import bias_lab as bl

    loaded = bl.load(here)
    assert loaded.classes
    assert next(loaded.model.parameters()).dtype.itemsize == 4
    assert loaded.metrics["top1"] > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_its_own_folder_and_from_the_root(path: Path) -> None:
    execute(path)
    execute(path, ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["01_small_data_shortfall", "02_pretraining"])
def test_it_runs_on_another_sweep(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one parameter: the folder. Here a table of two sizes and one pretraining regime."""
    from bias_lab.results import Results, StudyPlan, save
    from tests.planted import curve, rows, table

    runs = rows(lambda run: curve(run.size), sizes=[100, 1000])
    runs += rows(lambda run: 0.8, backbones=["vit_micro"], sizes=[100, 1000], regime="mae", source="pool")
    save(Results(table=table(runs), plan=StudyPlan(question="Another?")), 0, tmp_path / "results.parquet")
    monkeypatch.setenv("BIAS_LAB_RESULTS", str(tmp_path))
    execute(next(path for path in NOTEBOOKS if path.stem == name))


def execute(path: Path, folder: Path | None = None) -> None:
    """Run a notebook from top to bottom, in its own folder or another one."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder or path.parent}}
    ).execute()
