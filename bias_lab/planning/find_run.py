"""Find a run in a sweep's folder, by its id or by the beginning of it, and read its definition."""

from pathlib import Path

from bias_lab import ledger
from bias_lab.definition import Run, from_json
from bias_lab.errors import UserError, unknown


def find(name: str, folder: Path | None, results: Path = Path("results")) -> tuple[Path, str]:
    """Return the sweep's folder and the full id of a run, given its id, the beginning of it, or its folder's path.

    Without a folder, search all sweeps in `results`. Raises UserError if no run or several runs match.
    """
    path = Path(name)
    if path.parent.name == "runs" and path.is_dir():
        return path.parent.parent, path.name
    folders = [folder] if folder else sorted(runs.parent for runs in results.glob("*/runs"))
    matches = [(at, run.name) for at in folders for run in sorted((at / "runs").glob(f"{name}*")) if run.is_dir()]
    matches = [match for match in matches if match[1] == name] or matches
    if len(matches) == 1:
        return matches[0]
    where = str(folder) if folder else f"{results}/*/"
    if matches:
        ids = ", ".join(run for _, run in matches[:6])
        raise UserError(f"{len(matches)} runs in {where} begin with '{name}'", ids, "give more of the id")
    names = [run.name for at in folders for run in (at / "runs").glob("*")]
    if names:
        raise unknown("run", name, names)
    raise UserError(f"no run '{name}' in {where}", remedy="--out FOLDER")


def definition(folder: Path, name: str) -> Run:
    """Return a run's definition, from its folder or, before it has begun, from the plan.

    Raises UserError if neither has it.
    """
    if (ledger.run_folder(folder, name) / ledger.RUN).is_file():
        return ledger.read_run(folder, name)
    path = folder / ledger.EXPERIMENT
    for entry in ledger.read_json(path)["runs"] if path.is_file() else ():
        if entry["run_id"] == name:
            return from_json(entry["run"])
    raise UserError(f"{folder} has no definition of run {name}", remedy="bias-lab status FOLDER lists the planned runs")
