"""The notebooks run from top to bottom on the committed table or a user's, and are committed with outputs."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, object]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_with_its_outputs_and_without_errors(path: Path) -> None:
    outputs = [output for cell in cells(path) for output in cell["outputs"]]
    assert [cell["execution_count"] for cell in cells(path)] == list(range(1, len(cells(path)) + 1))
    assert {output["output_type"] for output in outputs} <= {"display_data", "execute_result", "stream"}
    assert all(output.get("name") != "stderr" for output in outputs)  # warnings name a machine's paths
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path) -> None:
    execute(path)


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


def execute(path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
